"""Samples of images without labels: what the files hold at the place drawn, as often as they are large, and the same at any time."""

import pickle

import numpy as np
import pytest
import tifffile

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.data.images import ImagesData
from lamella.io import create_volume
from tests.data.labelled import cells, find, write


def data(*sources, **changes):
    """Unscaled crops of 12 pixels, unless said otherwise."""
    named = [{"path": str(s)} if not isinstance(s, dict) else s for s in sources]
    return ImagesData.load({"sources": named, "crop": 12, "normaliser": {"kind": "factor", "factor": 1}, **changes})


def noise(path, shape, seed=0, **options):
    array = np.random.default_rng(seed).integers(1, 250, shape).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, photometric="minisblack", **options)
    return array


def shown(sample):
    return sample["image"].tensor[0].numpy(), sample["valid"].tensor[0, 0].numpy()


def test_crops_are_pieces_of_the_images_and_repeat_by_index(tmp_path):
    wholes = [noise(tmp_path / "set" / f"{k}.tif", (30, 41), k).astype(np.float32) for k in range(2)]
    samples, again = (data(tmp_path / "set", cache_gb=gb).build(3) for gb in (4, 0))
    assert samples.num_channels == 1
    for i in range(8):
        image, valid = shown(samples[i])
        assert any(find(image[0], whole) is not None for whole in wholes)
        assert valid.all()
        assert np.array_equal(image, shown(pickle.loads(pickle.dumps(again))[i])[0])


def test_labels_beside_images_are_left_alone(tmp_path):
    for k in range(3):
        write(tmp_path / "set", f"i{k}", *cells((20, 24), k))
    samples = data(tmp_path / "set").build(0)
    assert [image.name for image in samples.images] == ["i0", "i1", "i2"]
    assert len(data(tmp_path / "set", sources=[{"path": str(tmp_path / "set"), "names": ["i1"]}]).build(0).images) == 1


def test_sources_are_drawn_by_their_volume_and_weight(tmp_path):
    small, large = noise(tmp_path / "a.tif", (16, 16), 0) // 4, noise(tmp_path / "b.tif", (32, 32), 1)
    tifffile.imwrite(tmp_path / "a.tif", small)  # darker, to be known again
    assert large.max() > 200
    samples = data(tmp_path / "a.tif", tmp_path / "b.tif").build(0)
    share = np.mean([shown(samples[i])[0].max() < 64 for i in range(300)])
    assert share == pytest.approx(1 / 5, abs=0.07)
    weighted = data({"path": str(tmp_path / "a.tif"), "weight": 4}, tmp_path / "b.tif").build(0)
    assert np.mean([shown(weighted[i])[0].max() < 64 for i in range(300)]) == pytest.approx(1 / 2, abs=0.09)


def test_volumes_slices_channels_and_parts(tmp_path):
    whole = np.random.default_rng(0).integers(0, 250, (2, 9, 20, 22)).astype(np.uint8)
    meta = Meta.plain("czyx", voxel_size=(1.0, 40.0, 8.0, 8.0))
    (volume,) = create_volume(tmp_path / "v.ome.zarr", box=Box.of(whole.shape), dtype="uint8", meta=meta)
    volume.write(volume.box, whole)
    path = str(tmp_path / "v.ome.zarr")
    deep = data({"path": path, "channels": [1], "z": "2:9"}, ndim=3, crop=[4, 12, 12]).build(0)
    assert deep.num_channels == 1
    assert find(shown(deep[0])[0][0], whole[1, 2:].astype(np.float32)) is not None
    flat = data(path, slices=3).build(0)
    assert flat.num_channels == 6
    image = shown(flat[5])[0]
    z = next(z for z in range(9) if find(image[1], whole[0, z].astype(np.float32)) is not None)
    assert find(image[4], whole[1, z].astype(np.float32)) == find(image[1], whole[0, z].astype(np.float32))


def test_beyond_the_image_it_is_mirrored_and_does_not_count(tmp_path):
    whole = noise(tmp_path / "a.tif", (8, 30)).astype(np.float32)
    image, valid = shown(data(tmp_path / "a.tif").build(0)[0])
    rows = valid.any(1)
    assert rows.sum() == 8
    assert find(image[0][rows], whole) is not None
    samples = data(tmp_path / "a.tif", crop=[8, 12], overhang=[0, 6]).build(0)
    assert min(shown(samples[i])[1].mean() for i in range(20)) < 1


def test_tiles_count_every_voxel_once(tmp_path):
    noise(tmp_path / "set" / "a.tif", (25, 31), 0)
    noise(tmp_path / "set" / "b.tif", (12, 12), 1)
    tiles = data(tmp_path / "set", context=2).held_out(0)
    assert sum(shown(tile)[1].sum() for tile in tiles) == 25 * 31 + 12 * 12
    assert len(data(tmp_path / "set", length=5).held_out(0)) == 5


def test_mistakes_are_named(tmp_path):
    noise(tmp_path / "set" / "a.tif", (20, 20))
    tifffile.imwrite(tmp_path / "set" / "b.tif", np.zeros((20, 20, 3), np.uint8), photometric="rgb")
    with pytest.raises(UserError, match=r"b\.tif has 3 channels, most images have 1"):
        data(tmp_path / "set").build(0)
    skipping = data(tmp_path / "set", skip_bad=True).build(0)
    assert len(skipping.images) == 1
    assert len(skipping.skipped) == 1
    with pytest.raises(UserError, match=r"no z, but data\.ndim=3"):
        data(tmp_path / "set" / "a.tif", ndim=3, crop=8).build(0)
    with pytest.raises(UserError, match="does not exist"):
        data(tmp_path / "nowhere").build(0)
    (tmp_path / "set" / "c.tif").write_bytes(b"II*\0 no image at all")
    with pytest.raises(UserError, match=r"c\.tif"):
        data(tmp_path / "set").build(0)
