"""Instances stitched across blocks equal those of the whole up to renumbering, for random maps and any blocks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lamella.blockwise import Executor, run
from lamella.core.box import Box
from lamella.core.volume import Meta
from lamella.data.labelled_source import Part
from lamella.infer.maps import Target, blocks_of
from lamella.infer.stitch import Maker, PiecesJob, RenderJob, join
from lamella.io import create_volume
from lamella.ops.instances import Basins, Components, DistanceWatershed

METHODS = {
    "basins": Basins(min_size=3, merge=0.7),
    "components": Components(threshold=0.4, dilation=2, opening=1, min_size=4),
    "watershed": DistanceWatershed(min_size=0, smooth=1.0, reach=64),
}


class Shown:
    """An op that gives the image itself as maps."""

    context, stride = (0, 0, 0), (1, 1, 1)

    def __call__(self, patch):
        return patch.astype(np.float32)

    def identity(self):
        return {}


def random_maps(seed, shape):
    """Smooth maps: objects with valleys between them."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random((2, *shape)), (0, *(min(n - 1, 2) * 0.8 for n in shape)))
    objects, distance = (noise - noise.min((1, 2, 3), keepdims=True)) / np.ptp(noise, (1, 2, 3), keepdims=True)
    return np.stack([objects, 0.3 * distance, distance]).astype(np.float32)


def stitched(folder: Path, maps, maker, size):
    meta = Meta.plain("czyx")
    image = create_volume(folder / "maps.zarr", box=Box.of(maps.shape), dtype="float32", meta=meta)[0]
    image.write(image.box, maps)
    space = Box.of(maps.shape[1:])
    source = Part(image, space)
    blocks = blocks_of(source, Shown(), size, maker.context)
    scratch = create_volume(
        folder / "pieces.zarr", box=space, dtype="int32", meta=Meta.plain("zyx"), chunk=blocks.size
    )[0]
    out = create_volume(folder / "out.zarr", box=space, dtype="uint32", meta=Meta.plain("zyx"), chunk=blocks.size)[0]
    tables = folder / "tables"
    tables.mkdir()
    pieces = Target(scratch)
    job = PiecesJob(source, Shown(), maker, pieces, tables, None)
    run(job, blocks, label="pieces", executor=Executor(workers=1))
    joined = join(maker.method, blocks, pieces, tables, folder / "objects.npz")
    again = join(maker.method, blocks, pieces, tables, folder / "objects.npz")
    np.testing.assert_array_equal(again.objects, joined.objects)
    run(RenderJob(pieces, blocks, joined, Target(out)), blocks, label="labels", executor=Executor(workers=1))
    return out.read(out.box), joined


def assert_same_up_to_numbers(a, b):
    """Every label of one is one label of the other, and background is background."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    np.testing.assert_array_equal(a == 0, b == 0)


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("flat", [False, True])
@settings(max_examples=4, deadline=None, derandomize=True)
@given(data=st.data())
def test_blocks_give_the_instances_of_the_whole(kind, flat, data, tmp_path_factory):
    shape = data.draw(st.sampled_from([(1, 40, 30), (5, 24, 17), (12, 16, 16)]))
    size = data.draw(st.tuples(st.integers(1, 8), st.integers(5, 24), st.integers(5, 24)))
    size = (1, *size[1:]) if flat else size
    maps = random_maps(data.draw(st.integers(0, 10_000)), shape)
    maker = Maker(METHODS[kind].build(), ("objects", "boundaries", "distance"), None, flat)
    found, joined = stitched(tmp_path_factory.mktemp("s"), maps, maker, size)
    whole = maker.whole(maps)
    assert joined.count == whole.max()
    assert_same_up_to_numbers(found, whole)


def test_objects_are_numbered_without_gaps_in_the_order_of_blocks(tmp_path):
    maps = random_maps(3, (1, 60, 60))
    maker = Maker(METHODS["basins"].build(), ("objects", "boundaries", "distance"), None, True)
    found, joined = stitched(tmp_path, maps, maker, (1, 20, 20))
    assert sorted(np.unique(found[found > 0])) == list(range(1, joined.count + 1))
    assert found[0, :20, :20].max() <= found[0, 20:, 20:].max()


def test_flat_objects_end_with_their_section(tmp_path):
    maps = np.repeat(random_maps(1, (1, 30, 30)), 3, axis=1)
    names = ("objects", "boundaries", "distance")
    flat, _ = stitched(tmp_path, maps, Maker(METHODS["components"].build(), names, None, True), (1, 12, 12))
    assert flat.max() == 3 * len(np.unique(flat[0, flat[0] > 0]))
    assert not set(np.unique(flat[0])) & set(np.unique(flat[1])) - {0}
