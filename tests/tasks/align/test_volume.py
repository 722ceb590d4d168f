"""Laws of aligning whole volumes: what the fields mean, what is never changed, and that nothing depends on how work is cut up."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lamella.blockwise import Executor
from lamella.core import progress
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.ops.field import rescale, warp
from lamella.ops.normalise import MinMax, Percentile, Rank
from lamella.tasks.align.settings import AlignSettings
from lamella.tasks.align.volume import align_volume, fields_path
from tests.tasks.align.nets import constant, estimator, matcher, untrained

SIZE = (101, 118)
BORDER = 26  # pixels at the edges of a section whose neighbour looks outside, a few more with every section


def tissue(seed=0, size=SIZE, dtype=np.uint8):
    """Noise without missing pixels: every place is told from every other."""
    high = min(np.iinfo(dtype).max, 2**20) if np.dtype(dtype).kind in "iu" else 2**20
    values = np.random.default_rng(seed).integers(1, high, size)
    return values.astype(dtype) if np.dtype(dtype).kind in "iu" else (values / high).astype(dtype)


def moved(section, dy, dx):
    """The section whose pixel p shows what was at p - (dy, dx); 0 where that was outside."""
    field = torch.tensor([-dy, -dx], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, *section.shape)
    return (
        warp(torch.from_numpy(section.astype(np.float64))[None, None], field)[0, 0]
        .round()
        .numpy()
        .astype(section.dtype)
    )


def put(path, array, start=(0, 0, 0)):
    box = Box.of(array.shape).shift(start)
    (volume,) = create_volume(str(path), box=box, dtype=array.dtype, meta=Meta.plain("zyx"), chunk=(1, 32, 32))
    volume.write(box, array)
    return open_volume(str(path))


def align(folder, source, net, name="aligned.zarr", box=None, executor=None, **settings):
    """The aligned voxels and the fields (z, 2, y, x) of a volume or array."""
    if isinstance(source, np.ndarray):
        path = folder / "raw.zarr"
        source = open_volume(str(path)) if path.exists() else put(path, source)
    config = AlignSettings.load({"tile": 64, "overlap": 16, "flip": False, "symmetric": False, **settings})
    found = estimator(net, flip=config.flip, symmetric=config.symmetric)
    paths = align_volume(source, str(folder / name), found, config, box=box, executor=executor)
    aligned, fields = open_volume(paths.aligned), open_volume(paths.fields)
    return aligned.read(aligned.box), fields.read(fields.box).swapaxes(0, 1)


def inner(array):
    return array[..., BORDER:-BORDER, BORDER:-BORDER]


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# What the fields mean


@pytest.mark.parametrize("skip", [0, 1])
def test_the_fields_are_what_the_sections_were_looked_up_through(tmp_path, skip):
    raw = np.stack([tissue(z) for z in range(3)])
    aligned, fields = align(tmp_path, raw, untrained(skip, strength=200.0))
    whole = rescale(torch.from_numpy(fields), skip, tuple(n * 2**skip for n in fields.shape[2:]))
    fine = whole[..., : SIZE[0], : SIZE[1]].double()
    assert 0.3 < fine[1:].abs().mean() < 20
    assert not fine[0].any()
    images = torch.from_numpy(raw)[:, None].double()
    present = warp((images > 0).double(), fine)
    expected = (
        (warp(images, fine) / present.clamp_min(1e-6)).where(present > 0.5, torch.zeros(()).double())[:, 0].numpy()
    )
    sure = np.abs(present[:, 0].numpy() - 0.5) > 1e-3
    assert np.abs(aligned - expected)[sure].max() <= 0.51


def test_field_volumes_tell_where_they_are(tmp_path):
    raw = put(tmp_path / "raw.zarr", np.stack([tissue(z, (60, 70)) for z in range(2)]), start=(4, 11, 13))
    align(tmp_path, raw, constant(0, 0, skip=1), box=Box((4, 15, 16), (6, 60, 80)))
    fields = open_volume(str(tmp_path / "aligned.fields.ome.zarr"))
    assert fields.meta.axes == ("c", "z", "y", "x")
    assert fields.meta.channel_names == ("dy", "dx")
    assert fields.meta.voxel_size == (1, 1, 2, 2)
    assert fields.box == Box((0, 4, 7, 8), (2, 6, 30, 40))
    # coarse row 7 averages fine rows 15 and 16, coarse column 8 fine columns 16 and 17
    assert fields.meta.translation[2] + 7 * 2 == 15.5
    assert fields.meta.translation[3] + 8 * 2 == 16.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_a_zero_field_changes_no_byte(tmp_path, dtype):
    raw = np.stack([tissue(z, (300, 310), dtype) for z in range(2)])
    raw[1, 20:40, 30:60] = 0
    aligned, fields = align(tmp_path, raw, constant(0, 0, skip=1), tile=256)
    assert not fields.any()
    assert aligned.dtype == dtype
    np.testing.assert_array_equal(aligned, raw)


@pytest.mark.parametrize("out", ["precomputed://{}/out", "{}/out.n5", "{}/out.h5", "{}/out.tif", "file://{}/out.zarr"])
def test_other_formats_hold_the_same(tmp_path, out):
    raw = put(tmp_path / "raw.zarr", np.stack([tissue(z, dtype=np.uint16) for z in range(2)]), start=(2, 5, 7))
    out = out.format(tmp_path)
    paths = align_volume(raw, out, estimator(constant(0, 0)), AlignSettings(tile=64))
    aligned = open_volume(paths.aligned)
    assert aligned.box == raw.box
    np.testing.assert_array_equal(aligned.read(aligned.box), raw.read(raw.box))
    assert Path(paths.fields) == tmp_path / "out.fields.ome.zarr"
    assert not list(tmp_path.glob(".*"))


def test_a_constant_answer_adds_up_along_the_chain(tmp_path):
    raw = np.stack([tissue(z) for z in range(5)])
    aligned, fields = align(tmp_path, raw, constant(2, -1), memory=2)
    # each section continues the mean shift of up to two before it, in whole pixels, and the net adds its own answer:
    # rows: 2; (0+2)/2+2 = 3; (2+3)/2 -> 2, +2 = 4; (3+4)/2 -> 4, +2 = 6; columns: -1; -0.5 -> 0, -1; -1-1; -1.5 -> -2, -1
    expected = [(0, 0), (2, -1), (3, -1), (4, -2), (6, -3)]
    for z, (dy, dx) in enumerate(expected):
        assert np.ptp(fields[z].reshape(2, -1), axis=1).max() < 1e-5
        np.testing.assert_allclose(fields[z, :, 0, 0], (dy, dx), atol=1e-5)
        np.testing.assert_array_equal(inner(aligned[z]), inner(moved(raw[z], -dy, -dx)))
    assert not aligned[4, -6:].any()  # nothing is there to be seen


@pytest.mark.parametrize("how", ["flip", "symmetric"])
def test_turning_or_swapping_the_pair_cancels_a_constant_answer(tmp_path, how):
    raw = np.stack([tissue(z) for z in range(3)])
    aligned, fields = align(tmp_path, raw, constant(2, -1), **{how: True})
    assert np.abs(fields).max() < 1e-6
    np.testing.assert_array_equal(aligned, raw)


# What is found and followed


def drifting(num=8, dy=1, dx=-1):
    return np.stack([moved(tissue(size=(141, 158)), dy * z, dx * z)[20:121, 20:138] for z in range(num)])


def test_drift_is_followed_beyond_the_reach_of_the_net(tmp_path):
    raw = drifting()
    aligned, fields = align(tmp_path, raw, matcher(), memory=3)
    for z in range(len(raw)):
        np.testing.assert_allclose(
            inner(fields[z]), np.broadcast_to([[[z]], [[-z]]], inner(fields[z]).shape), atol=1e-3
        )
    np.testing.assert_array_equal(inner(aligned), inner(np.stack([raw[0]] * len(raw))))
    lost, _ = align(tmp_path, raw, matcher(), "forgetful.zarr", memory=0)
    assert (inner(lost[-1]) != inner(raw[0])).mean() > 0.5


def test_holes_of_the_target_are_filled_from_earlier_sections(tmp_path):
    raw, hole = drifting(4), (slice(36, 62), slice(48, 74))
    raw[2, 30:70, 40:80] = 0
    aligned, fields = align(tmp_path, raw, matcher())
    assert not aligned[2][hole].any()
    np.testing.assert_allclose(fields[3, 0][hole], 3, atol=1e-3)
    np.testing.assert_array_equal(aligned[3][hole], raw[0][hole])
    _, unfilled = align(tmp_path, raw, matcher(), "unfilled.zarr", fill=1)
    assert np.abs(unfilled[3, 0][hole] - 3).min() > 0.5


@pytest.mark.parametrize("chain", [None, 3])
def test_a_lost_section_stays_lost_and_the_next_goes_on_from_the_one_before(tmp_path, chain):
    raw = drifting(6)
    raw[3] = 0
    aligned, _ = align(tmp_path, raw, matcher(), chain=chain)
    assert not aligned[3].any()
    for z in (1, 2, 4, 5):
        np.testing.assert_array_equal(inner(aligned[z]), inner(raw[0]), err_msg=f"section {z}")


def test_a_lost_first_section_leaves_the_next_as_it_is(tmp_path):
    raw = drifting(4)
    raw[0] = 0
    aligned, fields = align(tmp_path, raw, matcher())
    assert not fields[:2].any()
    np.testing.assert_array_equal(aligned[:2], raw[:2])
    np.testing.assert_array_equal(inner(aligned[3]), inner(raw[1]))


def test_missing_data_does_not_darken_its_surroundings(tmp_path):
    raw = np.full((2, *SIZE), 200, np.uint8)
    raw[1, 40:50] = 0
    aligned, _ = align(tmp_path, raw, constant(0.25, 0.5))
    assert set(np.unique(aligned)) == {0, 200}
    assert (aligned[1] == 0).sum() == pytest.approx(10 * SIZE[1], abs=SIZE[1])
    signed = np.where(np.indices(SIZE).sum(0) % 2, -3, 3).astype(
        np.int16
    )  # means of neighbours are 0, and still tissue
    source = put(tmp_path / "signed.zarr", np.stack([signed] * 2))
    halfway = estimator(constant(0, 0.5), MinMax(range=(-9, 9)).build())
    paths = align_volume(source, str(tmp_path / "out.zarr"), halfway, AlignSettings(tile=64, flip=False))
    assert (open_volume(paths.aligned).read(Box((1, 0, 0), (2, SIZE[0], SIZE[1] - 1))) == 1).all()


# How the work is cut up


def test_tiles_of_any_size_give_the_same_constant_field(tmp_path):
    raw = np.stack([tissue(z) for z in range(3)])
    net = constant(0.61, -0.3, skip=1)
    whole = align(tmp_path, raw, net, "whole.zarr", tile=512)
    for tile, overlap in ((64, 0), (64, 16), (80, 100)):
        cut = align(tmp_path, raw, net, f"{tile}-{overlap}.zarr", tile=tile, overlap=overlap)
        np.testing.assert_allclose(cut[1], whole[1], atol=1e-5)
        assert (cut[0] != whole[0]).mean() < 1e-3  # values that lie just between two whole numbers


def test_tiles_leave_no_seams(tmp_path):
    raw = np.stack([tissue(z, (200, 210)) for z in range(2)])
    _, whole = align(tmp_path, raw, untrained(), "whole.zarr", tile=512)
    _, tiled = align(tmp_path, raw, untrained(), "tiled.zarr", tile=64, overlap=24)
    scale = whole[1].std()
    assert np.abs(tiled[1] - whole[1]).mean() < 0.1 * scale
    rows, columns = (np.abs(np.diff(tiled[1], axis=axis)).mean((0, 2 if axis == 1 else 1)) for axis in (1, 2))
    for jumps in (rows, columns):  # steps between rows or columns are no larger at the edges of cores than elsewhere
        assert jumps[63::64].max() < 1.25 * jumps.max()
        assert np.median(jumps[63::64]) < 1.1 * np.median(jumps)


@pytest.mark.parametrize("normaliser", [Rank(radius=10), Percentile()], ids=str)
def test_tiles_are_normalised_as_the_whole_section_is(tmp_path, normaliser):
    shade = np.linspace(0.2, 1, SIZE[1])
    raw = put(tmp_path / "raw.zarr", np.stack([(tissue(z) * shade).astype(np.uint8) | 1 for z in range(2)]))
    found = []
    for tile in (64, 512):
        net = estimator(untrained(strength=5.0), normaliser.build(0))
        out = str(tmp_path / f"{tile}.zarr")
        paths = align_volume(raw, out, net, AlignSettings(tile=tile, overlap=64, flip=False))
        found.append(open_volume(paths.fields).read(Box((0, 1, 0, 0), (2, 2, *SIZE))))
    assert np.abs(found[0] - found[1]).mean() < 0.02 * found[1].std()


@pytest.mark.parametrize("chain", [1, 3])
def test_stitched_chains_equal_one_chain(tmp_path, chain):
    raw = drifting(6)
    one, fields = align(tmp_path, raw, matcher(), "one.zarr")
    several, stitched = align(tmp_path, raw, matcher(), "several.zarr", chain=chain)
    np.testing.assert_allclose(inner(stitched), inner(fields), atol=1e-3)
    np.testing.assert_array_equal(inner(several), inner(one))
    np.testing.assert_array_equal(several[0], raw[0])


def test_decay_forgets_what_lies_far_back(tmp_path):
    raw = drifting(5, dy=2, dx=0)
    _, fields = align(tmp_path, raw, matcher(), chain=2, decay=4)
    # sections 3 and 4 stand 2 and 4 px from their anchor 2, of whose own 4 px three quarters and a half are kept
    for z, dy in enumerate([0, 2, 4, 2 + 3, 4 + 2]):
        np.testing.assert_allclose(inner(fields[z, 0]), dy, atol=1e-3)


def test_a_box_is_aligned_where_it_is(tmp_path):
    raw = put(tmp_path / "raw.zarr", drifting(5), start=(10, -7, 33))
    box = Box((11, 2, 40), (15, 80, 139))
    aligned, fields = align(tmp_path, raw, matcher(), box=box)
    assert open_volume(str(tmp_path / "aligned.zarr")).box == box
    first = raw.read(Box((11, 2, 40), (12, 80, 139)))[0]
    np.testing.assert_array_equal(aligned[0], first)
    np.testing.assert_array_equal(inner(aligned[3]), inner(first))
    np.testing.assert_allclose(inner(fields[3, 0]), 3, atol=1e-3)
    shifted, _ = align(tmp_path, raw, constant(2, -1), "shifted.zarr", box=box)
    np.testing.assert_array_equal(
        shifted[1], raw.read(Box((12, 4, 39), (13, 82, 138)))[0]
    )  # also what lies beyond the box


# Killed and gone on with


class Unwell:
    """A volume that breaks off at a given read, as a full disk or a lost server would."""

    def __init__(self, volume, reads):
        self.volume, self.left = volume, reads

    def __getattr__(self, name):
        return getattr(self.volume, name)

    def read(self, box):
        self.left -= 1
        if self.left < 0:
            raise UserError("the server is gone")
        return self.volume.read(box)

    def write(self, box, array):
        raise AssertionError


@pytest.mark.parametrize("chain", [None, 2])
def test_going_on_after_any_failure_ends_with_the_same_bytes(tmp_path, monkeypatch, chain):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    raw = put(tmp_path / "raw.zarr", np.stack([tissue(z) for z in range(4)]))
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    align(tmp_path / "whole", raw, untrained(1), chain=chain)

    def fails(reads):
        try:
            align(tmp_path / "broken", Unwell(raw, reads), untrained(1), chain=chain, executor=Executor(workers=1))
        except UserError as error:
            return "gone" in str(error)
        return False

    failures = 0
    while fails((0, 3, 9, 5, 8, 11)[failures % 6]):
        failures += 1
        assert (tmp_path / "broken" / ".aligned.zarr.unfinished").is_dir()
        if failures == 3:
            with pytest.raises(UserError, match=r"config\.fill was 3, is 2"):
                align(tmp_path / "broken", raw, untrained(1), chain=chain, fill=2)
            with pytest.raises(UserError, match="checkpoint was"):
                align(tmp_path / "broken", raw, constant(0, 0, 1), chain=chain)
    assert failures > 3
    assert files(tmp_path / "broken") == files(tmp_path / "whole")


_KILLED = """
import os, signal, sys
from lamella.tasks.align.stages import Render
from tests.tasks.align.test_volume import align, open_volume, untrained
from pathlib import Path
write, left = Render.write, [int(sys.argv[2])]
def killed(self, block, result):
    write(self, block, result)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
Render.write = killed
sys.argv = sys.argv[:1]
align(Path(sys.argv[0]), open_volume(str(Path(sys.argv[0]).parent / "raw.zarr")), untrained(1))
"""


def test_going_on_after_a_kill_ends_with_the_same_voxels(tmp_path):
    raw = put(tmp_path / "raw.zarr", np.stack([tissue(z) for z in range(4)]))
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    align(tmp_path / "whole", raw, untrained(1))
    script = _KILLED.replace("sys.argv[0]", repr(str(tmp_path / "killed")))
    result = subprocess.run(
        [sys.executable, "-c", script, "", "6"],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": "."},
        check=False,
    )
    assert result.returncode == -9
    align(tmp_path / "killed", raw, untrained(1))
    killed, whole = files(tmp_path / "killed"), files(tmp_path / "whole")
    assert killed.keys() == whole.keys()
    chunks = [name for name in whole if "/c/" in name]
    assert len(chunks) > 20
    assert all(killed[name] == whole[name] for name in chunks)


def test_a_cluster_gives_the_same(tmp_path):
    raw = np.stack([tissue(z) for z in range(3)])
    here = align(tmp_path, raw, untrained(), "here.zarr", chain=1)
    there = align(tmp_path, raw, untrained(), "there.zarr", chain=1, executor=Executor(dask="local:1"))
    np.testing.assert_allclose(there[1], here[1], atol=1e-4)
    assert (there[0] != here[0]).mean() < 1e-3


@pytest.mark.parametrize("chain", [None, 2])
def test_one_count_of_blocks_covers_all_stages(tmp_path, monkeypatch, capsys, chain):
    monkeypatch.setattr(progress, "_LINE_EVERY", -1.0)
    align(tmp_path, np.stack([tissue(z) for z in range(4)]), constant(0, 0), chain=chain)
    lines = [line for line in capsys.readouterr().err.splitlines() if "aligning 4 sections" in line]
    done, total = lines[-1].split(":")[1].split(",")[0].split("/")
    assert int(done) == int(total) == len(lines)


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"box": Box((0, 0, 0), (4, 10, 10))}, "does not lie inside"),
        ({"box": Box((1, 0, 0), (2, 100, 100))}, "1 section; give 2 or more"),
        ({"name": "raw.zarr"}, "is the source"),
        ({"name": "there.zarr"}, "exists already"),
        ({"name": "half.zarr"}, "half.fields.ome.zarr exist already"),
        ({"name": "png/*.png"}, "lamella convert"),
        ({"name": "aligned"}, "does not tell its format"),
        ({"axes": "cyx"}, "axes cyx"),
        ({"dtype": np.int64}, "int64"),
    ],
    ids=str,
)
def test_what_cannot_be_aligned_is_refused_and_leaves_nothing(tmp_path, change, message):
    array = np.stack([tissue(z) for z in range(3)]).astype(change.get("dtype", np.uint8))
    meta = Meta.plain(change.get("axes", "zyx"))
    (volume,) = create_volume(str(tmp_path / "raw.zarr"), box=Box.of(array.shape), dtype=array.dtype, meta=meta)
    volume.write(volume.box, array)
    for name in ("there.zarr", "half.fields.ome.zarr"):
        (tmp_path / name).mkdir()
    before = files(tmp_path)
    with pytest.raises(UserError, match=message):
        align(tmp_path, array, constant(0, 0), change.get("name", "out.zarr"), box=change.get("box"))
    assert files(tmp_path) == before
    assert not list(tmp_path.glob(".*"))


def test_decay_without_chains_is_refused():
    with pytest.raises(UserError, match="give chain too"):
        AlignSettings.load({"decay": 5})


def test_names_of_fields():
    assert fields_path("a/b.ome.zarr") == "a/b.fields.ome.zarr"
    assert fields_path("b") == "b.fields.ome.zarr"
    assert fields_path("precomputed://gs://bucket/b") == "gs://bucket/b.fields.ome.zarr"
