"""Laws of applying an alignment: at its own mip it is what was aligned, at a finer one it is the same motion, however it is cut up."""

import numpy as np
import pytest

from lamella.blockwise import Executor
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.io.coarse import Coarse
from lamella.ops.affine import turned
from lamella.tasks.align import render as rendering
from lamella.tasks.align.applied import Kept
from lamella.tasks.align.masked import Masked
from lamella.tasks.align.render import render
from lamella.tasks.align.render_settings import RenderSettings
from lamella.tasks.align.settings import AlignSettings
from lamella.tasks.align.volume import align_volume
from tests.tasks.align.nets import constant, estimator, untrained
from tests.tasks.align.test_volume import files, tissue

SIZE = (101, 118)
MASK = np.uint8


def put(path, arrays, start=(0, 0, 0), size=(40.0, 4.0, 4.0), factors=((1, 1, 1), (1, 2, 2))):
    """A volume whose mips hold ``arrays``."""
    meta = Meta.plain("zyx", voxel_size=size, units=("nanometer",) * 3)
    box = Box.of(arrays[0].shape).shift(start)
    mips = create_volume(
        str(path), box=box, dtype=arrays[0].dtype, meta=meta, chunk=(1, 32, 32), mips=factors[: len(arrays)]
    )
    for volume, array in zip(mips, arrays, strict=True):
        volume.write(volume.box, array)
    return str(path)


def coarser(stack, factors=(2, 2)):
    """Every n-th pixel of blocks is as good a mip as their mean, for noise."""
    return stack[:, :: factors[0], :: factors[1]]


def pyramid(folder, num=3, size=(202, 236), name="raw.zarr", **options):
    fine = np.stack([tissue(z, size) for z in range(num)])
    return put(folder / name, [fine, coarser(fine)], **options)


def align(folder, source, net, name="out.zarr", mip=1, box=None, masks=None, placed=None, **settings):
    volume = open_volume(source, mip=mip)
    sections = volume if placed is None else placed
    if masks is not None:
        found = open_volume(masks, mip=mip)
        sections = Masked(sections, found if placed is None else placed.masks(found))
    config = AlignSettings.load({"tile": 64, "overlap": 16, "flip": False, "symmetric": False, "passes": 1, **settings})
    found = estimator(net, passes=1)
    return align_volume(sections, str(folder / name), found, config, box=box, facts={"mip": mip, "dataset": None})


def read(path):
    volume = open_volume(str(path))
    return volume.read(volume.box)


def show(folder, fields, source, name="shown.zarr", executor=None, **settings):
    render(fields, source, str(folder / name), RenderSettings(**settings), executor=executor)
    return read(folder / name)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The path of a source, and what was aligned of it. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("done")
    source = pyramid(folder)
    return source, align(folder, source, untrained(1, 200.0))


# At the mip that was aligned


@pytest.mark.parametrize(
    ("skip", "settings"), [(0, {}), (1, {}), (2, {}), (1, {"chain": 1}), (1, {"method": "vote"})], ids=str
)
def test_at_its_own_mip_it_is_what_was_aligned(tmp_path, skip, settings):
    source = pyramid(tmp_path, start=(4, -6, 10))
    paths = align(tmp_path, source, untrained(skip, 200.0), **settings)
    shown = show(tmp_path, paths.fields, source, mip=1)
    assert np.abs(open_volume(paths.fields).read(open_volume(paths.fields).box)).max() > 1
    np.testing.assert_array_equal(shown, read(paths.aligned))
    out, aligned = open_volume(str(tmp_path / "shown.zarr")), open_volume(paths.aligned)
    assert (out.box, out.dtype) == (aligned.box, aligned.dtype)
    assert (out.meta.voxel_size, out.meta.translation) == (aligned.meta.voxel_size, aligned.meta.translation)
    made = out.meta.provenance
    assert (made["source"], made["mip"], made["fields"]) == (open_volume(source, mip=1).path, 1, paths.fields)
    assert made["fields_provenance"]["config"]["tile"] == 64


def test_torn_fields_and_masks_are_as_they_were_aligned(tmp_path):
    source = pyramid(tmp_path)
    mask = np.zeros((3, 202, 236), MASK)
    mask[:, 90:96], mask[1, 40:60, 100:120] = 2, 1
    masks = put(tmp_path / "masks.zarr", [mask, coarser(mask)])
    paths = align(tmp_path, source, untrained(1, 600.0), masks=masks)
    kept = Kept.open(paths.fields)
    steps = np.abs(np.diff(read(paths.fields), axis=2)).max()
    assert kept.torn
    assert steps > 1.5
    np.testing.assert_array_equal(show(tmp_path, paths.fields, source, mip=1), read(paths.aligned))
    np.testing.assert_array_equal(show(tmp_path, paths.fields, masks, "m.zarr", mip=1, masks=True), read(paths.masks))


def coarse_file(folder, source, matrices, size=(202, 236)):
    """What ``lamella prep coarse`` would have measured."""
    rest = {"state": "placed", "confidence": 1.0, "after": None, "triangle": None, "links": []}
    sections = [{"z": z, "matrix": m[:2].tolist(), **rest} for z, m in enumerate(matrices)]
    measured = {"source": source, "dataset": None, "box": str(Box.of((len(matrices), *size))), "mip": 1}
    about = {"kind": "coarse alignment", "about": "", "voxel_size": [40.0, 4.0, 4.0], "fingerprint": "", "settings": {}}
    rest = {"anchor": 0, "joints": [], "output": "", "provenance": {}, "sections": sections}
    write_json(folder / "coarse.json", {**about, **measured, **rest})
    return str(folder / "coarse.json")


def test_fields_in_a_coarse_frame_need_that_and_no_other(tmp_path):
    source = pyramid(tmp_path)
    middle = (100, 117)
    coarse = coarse_file(tmp_path, source, [np.eye(3), turned(14, middle, (110, 111)), turned(93, middle, middle)])
    placed = Coarse.read(coarse).view(open_volume(source, mip=1), coarse)
    paths = align(tmp_path, source, untrained(1, 200.0), placed=placed)
    shown = show(tmp_path, paths.fields, source, mip=1, coarse=coarse)
    off = np.abs(shown.astype(int) - read(paths.aligned))
    np.testing.assert_array_equal(shown[0], read(paths.aligned)[0])
    assert (off > 0).mean() < 1e-3  # fields that lead to the raw source are rounded
    with pytest.raises(UserError, match=r"add --coarse .*coarse\.json"):
        show(tmp_path, paths.fields, source, "refused.zarr", mip=1)
    other = coarse_file(tmp_path, source, [np.eye(3), turned(15, middle, middle), turned(93, middle, middle)])
    with pytest.raises(UserError, match="places sections otherwise"):
        show(tmp_path, paths.fields, source, "refused.zarr", mip=1, coarse=other)
    plain = align(tmp_path, source, constant(0, 0), "plain.zarr")
    with pytest.raises(UserError, match="leave out --coarse"):
        show(tmp_path, plain.fields, source, "refused.zarr", mip=1, coarse=coarse)


# At a finer mip


def test_a_coarse_frame_is_that_of_the_finer_mip(tmp_path):
    source = pyramid(tmp_path)
    middle = (100, 117)
    coarse = coarse_file(tmp_path, source, [np.eye(3), turned(14, middle, (110, 111)), turned(93, middle, middle)])
    placed = Coarse.read(coarse).view(open_volume(source, mip=1), coarse)
    paths = align(tmp_path, source, constant(0, 0, skip=1), placed=placed)
    shown = show(tmp_path, paths.fields, source, coarse=coarse)
    out, fine = open_volume(str(tmp_path / "shown.zarr")), Coarse.read(coarse).view(open_volume(source), coarse)
    assert out.box.shape[1] > 202
    np.testing.assert_allclose(out.box.shape, fine.box.shape, atol=2)
    off = np.abs(shown.astype(int) - fine.read(out.box))
    assert (off > 1).mean() < 1e-3


def waves(shape, factors, offset=0.0):
    """A smooth image at its pixels, each ``1/factors`` of a pixel of a common grid."""
    y, x = ((np.arange(n) + 0.5) / f - 0.5 for n, f in zip(shape, factors, strict=True))
    return seen(y[:, None], x[None])


def seen(y, x):
    return 30000 + 9000 * np.sin(y / 3.1) * np.cos(x / 3.7) + 9000 * np.sin((y + x) / 5.3)


def bend(y, x):
    """A smooth field (dy, dx) in pixels of the common grid, at its places."""
    y, x = np.broadcast_arrays(y, x)
    return np.stack([2.3 * np.sin(x / 19 + 1) + 0.02 * y, 1.7 * np.cos(y / 23) - 1.1 * np.sin(x / 31)])


def bent(folder, factors, step=4, start=(0, 0, 0), box=None):
    """Fields with a known answer, of ``factors`` (y, x) between mip 1, which was aligned, and mip 0."""
    small = (101, 118)
    size = tuple(n * f - (f > 1) for n, f in zip(small, factors, strict=True))  # the last pixels exist in part
    fine = np.stack([waves(size, factors)] * 2).round().astype(np.uint16)
    rough = np.stack([waves(small, (1, 1))] * 2).round().astype(np.uint16)
    source = put(folder / "raw.zarr", [fine, rough], start=start, factors=((1, 1, 1), (1, *factors)))
    paths = align(folder, source, constant(0, 0, skip=int(np.log2(step))), box=box)
    fields = open_volume(paths.fields, writable=True)
    aligned = open_volume(paths.aligned).box.start[1:]
    corner = [a - s // f for a, s, f in zip(aligned, start[1:], factors, strict=True)]
    y, x = (np.arange(n) * step + (step - 1) / 2 + c for n, c in zip(fields.box.shape[2:], corner, strict=True))
    field = (bend(y[:, None], x[None]) / step).astype(np.float32)
    fields.write(fields.box, np.stack([field, field], 1))
    return source, paths


def expected(box, factors, start=(0, 0, 0)):
    y, x = (
        (np.arange(a, b) - s + 0.5) / f - 0.5
        for a, b, s, f in zip(box.start[1:], box.stop[1:], start[1:], factors, strict=True)
    )
    dy, dx = bend(y[:, None], x[None])
    return seen(y[:, None] + dy, x[None] + dx)


@pytest.mark.parametrize("factors", [(1, 1), (2, 2), (1, 2), (6, 3)])
def test_a_known_field_is_applied_to_a_finer_mip(tmp_path, factors):
    source, paths = bent(tmp_path, factors)
    shown = show(tmp_path, paths.fields, source, mip=0)
    box = open_volume(str(tmp_path / "shown.zarr")).box
    assert box == open_volume(source).box
    margin = np.s_[8 * factors[0] : -8 * factors[0], 8 * factors[1] : -8 * factors[1]]
    # what is off is interpolation: a tenth of a pixel of the finer mip would be off by this
    off = np.abs(shown[1][margin] - expected(box, factors)[margin])
    slope = 9000 / 3.1 / np.array(factors)
    assert off.mean() < 0.06 * slope.max()
    assert np.percentile(off, 99) < 0.25 * slope.max()
    np.testing.assert_array_equal(shown[0], read(source)[0])


def test_a_box_that_begins_anywhere_stays_where_it_was(tmp_path):
    start, factors = (2, 6, -8), (2, 2)
    source, paths = bent(tmp_path, factors, start=start, box=Box((2, 10, 7), (4, 91, 88)))
    assert open_volume(paths.fields).box.start == (0, 2, 2, 1)  # 10 and 7 in pixels of 4
    shown = show(tmp_path, paths.fields, source)
    box = open_volume(str(tmp_path / "shown.zarr")).box
    assert box == Box((2, 20, 14), (4, 182, 176))
    off = np.abs(shown[1] - expected(box, factors, start))[16:-16, 16:-16]
    assert off.mean() < 0.06 * 9000 / 6.2
    part = show(tmp_path, paths.fields, source, "part.zarr", bbox="3:4,33:90,51:160")
    np.testing.assert_array_equal(part, shown[1:, 13:70, 37:146])


def test_where_a_field_jumps_it_jumps_at_every_mip(tmp_path):
    source, paths = bent(tmp_path, (2, 2))
    fields = open_volume(paths.fields, writable=True)
    torn = np.zeros(fields.box.shape, np.float32)
    torn[1, 1, :, :15], torn[1, 1, :, 15:] = -1, 1  # in pixels of 4, which are 8 of the finer mip
    fields.write(fields.box, torn)
    kept = Kept.open(paths.fields)
    plain = kept.on(open_volume(source))
    applied = type(plain)(**{**vars(plain), "torn": True})
    plane = Box((40, 90), (60, 150))
    found = applied.dense(plane, applied.read(1, plane))
    np.testing.assert_array_equal(found[1], np.where(np.arange(90, 150) < 120, -8, 8) * np.ones((20, 1)))
    smooth = plain.dense(plane, plain.read(1, plane))
    assert np.abs(np.diff(smooth[1])).max() < 4


# Labels and masks


def test_labels_are_moved_whole(tmp_path):
    source = pyramid(tmp_path)
    paths = align(tmp_path, source, constant(1.4, -0.7, skip=1), memory=0)
    labels = np.random.default_rng(0).integers(2**40, 2**62, (3, 202, 236), np.uint64)
    path = put(tmp_path / "labels.zarr", [labels])
    shown = show(tmp_path, paths.fields, path, labels=True)
    assert shown.dtype == np.uint64
    dy, dx = (np.rint(np.float64(np.float32(n)) * 4).astype(int) for n in read(paths.fields)[:, 1, 30, 30])
    assert (dy, dx) == (6, -3)
    np.testing.assert_array_equal(shown[1, :-6, 3:], labels[1, 6:, :-3])
    assert not shown[1, -6:].any()
    np.testing.assert_array_equal(shown[0], labels[0])


def test_other_images_are_moved_if_they_are_called_so(done, tmp_path):
    source, paths = done
    green = put(tmp_path / "green.zarr", [255 - read(source) + 1])
    with pytest.raises(UserError, match=r"has no such mip; .* --other"):
        show(tmp_path, paths.fields, green)
    channels = np.stack([read(source), read(green)])
    meta = Meta.plain("czyx", voxel_size=(1.0, 40.0, 4.0, 4.0))
    (both,) = create_volume(str(tmp_path / "both.zarr"), box=Box.of(channels.shape), dtype="uint8", meta=meta)
    both.write(both.box, channels)
    shown = show(tmp_path, paths.fields, green, other=True)
    picked = show(tmp_path, paths.fields, str(tmp_path / "both.zarr"), "picked.zarr", other=True, channel=1)
    np.testing.assert_array_equal(shown, picked)
    assert (shown[1] != read(green)[1]).mean() > 0.5


# How the work is cut up


@pytest.mark.parametrize("kind", [{}, {"labels": True}, {"masks": True}], ids=str)
def test_blocks_give_what_the_whole_gives(done, tmp_path, monkeypatch, kind):
    source, paths = done
    whole = show(tmp_path, paths.fields, source, "whole.zarr", **kind)
    for side in (41, 96):
        monkeypatch.setattr(rendering, "_SIDE", side)
        cut = show(tmp_path, paths.fields, source, f"{side}.zarr", **kind)
        np.testing.assert_array_equal(cut, whole)


def test_a_cluster_gives_the_same(done, tmp_path):
    source, paths = done
    here = show(tmp_path, paths.fields, source, "here.zarr")
    there = show(tmp_path, paths.fields, source, "there.zarr", executor=Executor(dask="local:1"))
    np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("out", ["precomputed://{}/shown", "{}/shown.n5", "{}/shown.h5", "{}/shown.tif"])
def test_other_formats_hold_the_same(done, tmp_path, out):
    source, paths = done
    out = out.format(tmp_path)
    render(paths.fields, source, out)
    np.testing.assert_array_equal(read(out), show(tmp_path, paths.fields, source, "zarr.zarr"))
    assert not list(tmp_path.glob(".*"))


def test_going_on_after_a_failure_ends_with_the_same_bytes(done, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    monkeypatch.setattr(rendering, "_SIDE", 64)
    source, paths = done
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    show(tmp_path / "whole", paths.fields, source)
    write, left = rendering.Show.write, [9]

    def fails(self, block, result):
        left[0] -= 1
        if left[0] < 0:
            raise UserError("the disk is gone")
        write(self, block, result)

    with monkeypatch.context() as patch:
        patch.setattr(rendering.Show, "write", fails)
        with pytest.raises(UserError, match="gone"):
            show(tmp_path / "broken", paths.fields, source)
    with pytest.raises(UserError, match=r"settings\.bbox was None"):
        show(tmp_path / "broken", paths.fields, source, bbox="0:1,:,:")
    report = render(paths.fields, source, str(tmp_path / "broken" / "shown.zarr"))
    assert report.skipped > 4
    assert report.done > 4
    assert files(tmp_path / "broken") == files(tmp_path / "whole")


# What is refused


@pytest.fixture(scope="module")
def unfit(tmp_path_factory):
    """A folder with an alignment, and volumes to which it cannot be applied."""
    folder = tmp_path_factory.mktemp("unfit")
    fine = np.stack([tissue(z, (202, 236)) for z in range(3)])
    mips = [fine, coarser(fine), coarser(fine, (4, 4))]
    put(folder / "raw.zarr", mips, factors=((1, 1, 1), (1, 2, 2), (1, 4, 4)))
    put(folder / "small.zarr", [fine[:, :200]])
    put(folder / "short.zarr", [fine[:2]])
    put(folder / "thick.zarr", [fine], size=(80.0, 4.0, 4.0))
    put(folder / "uneven.zarr", [fine], size=(40.0, 3.0, 3.0))
    put(folder / "unlike.zarr", [fine[::-1], coarser(fine[:, ::-1])])
    put(folder / "wide.zarr", [fine.astype(np.uint32)])
    put(folder / "float.zarr", [fine.astype(np.float32)])
    align(folder, str(folder / "raw.zarr"), constant(0, 0, 1))
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fields": "raw.zarr"}, "axes zyx and no names of channels; fields have axes czyx"),
        ({"mip": 2}, r"voxels of 40 x 16 x 16, and .* of 40 x 8 x 8 .* finer mip with --mip"),
        (
            {"source": "small.zarr", "other": True},
            r"box 0:3,0:200,0:236, and .* made on 0:3,0:202,0:236 of such voxels",
        ),
        ({"source": "short.zarr", "other": True}, "give the volume that was aligned, or one on the same voxels"),
        ({"source": "thick.zarr", "other": True}, "80 x 4 x 4, .* sections must be the same"),
        ({"source": "uneven.zarr", "other": True}, "40 x 3 x 3, .* no whole number"),
        ({"source": "unlike.zarr"}, "unlike.zarr holds other voxels there; .* --other"),
        ({"source": "wide.zarr"}, "say --labels, --masks, or --no-labels"),
        ({"source": "float.zarr", "labels": True}, "float32; labels must be whole numbers"),
        ({"bbox": "0:3,0:999,0:5"}, "does not lie inside"),
        ({"name": "raw.zarr"}, "is the source"),
        ({"name": "out.fields.ome.zarr"}, "is the fields"),
        ({"name": "out.zarr"}, "exists already"),
        ({"name": "png/*.png"}, "lamella convert"),
        ({"coarse": "coarse.json"}, "leave out --coarse"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(unfit, monkeypatch, change, message):
    monkeypatch.chdir(unfit)
    before = files(unfit)
    change = {"fields": "out.fields.ome.zarr", "source": "raw.zarr", "name": "shown.zarr", **change}
    fields, source, name = (change.pop(key) for key in ("fields", "source", "name"))
    with pytest.raises(UserError, match=message):
        render(fields, source, name, RenderSettings(**change))
    assert files(unfit) == before
    assert not list(unfit.glob(".*"))


def test_unfinished_fields_are_refused(tmp_path):
    source = pyramid(tmp_path, num=2)
    paths = align(tmp_path, source, constant(0, 0))
    (tmp_path / ".out.zarr.unfinished").mkdir()
    with pytest.raises(UserError, match=r"are unfinished, as the alignment .*out\.zarr is"):
        show(tmp_path, paths.fields, source)
    (tmp_path / ".out.zarr.unfinished").rmdir()
    show(tmp_path, paths.fields, source)
