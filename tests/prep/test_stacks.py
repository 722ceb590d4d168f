"""Stack archives: every sample is where its list says, any kill is gone on from, and tests keep away from training."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.prep.places import places_path, read_places, split_z
from lamella.prep.stacks import StackSettings, prepare_stacks


def write_volume(path: Path, shape=(12, 40, 50), dtype=np.uint16, mips=1, seed=0):
    """Every voxel its own value, so that a stack tells where it came from."""
    voxels = (np.arange(np.prod(shape)).reshape(shape) % 60000 + 1 + seed).astype(dtype)
    meta = Meta(("z", "y", "x"), (40.0, 4.0, 4.0), ("nm", "nm", "nm"))
    volumes = create_volume(str(path), box=Box.of(shape), dtype=dtype, meta=meta, mips=mips)
    for k, volume in enumerate(volumes):
        volume.write(volume.box, voxels[:, :: 2**k, :: 2**k].copy())
    return voxels


@pytest.fixture
def source(tmp_path):
    return str(tmp_path / "source.zarr"), write_volume(tmp_path / "source.zarr")


def content(path: Path) -> dict[str, bytes]:
    """The bytes of a file, or of all files of a folder."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


SMALL = StackSettings(count=6, depth=3, size=16)


@pytest.mark.parametrize("name", ["out.h5", "out.zarr"])
def test_samples_are_where_the_list_says(tmp_path, source, name):
    path, voxels = source
    out = tmp_path / name
    assert prepare_stacks([path], out, SMALL).done == 6
    archive, places = open_volume(str(out)), read_places(places_path(out))
    assert archive.box.shape == (6, 3, 16, 16)
    assert archive.dtype == voxels.dtype
    assert archive.meta.axes == ("n", "z", "y", "x")
    assert archive.meta.voxel_size == (1, 40, 4, 4)
    stacks = archive.read(archive.box)
    for stack, place in zip(stacks, places, strict=True):
        assert np.array_equal(stack, voxels[place.box.slices()])
        assert place.source == path
    assert len({p.box for p in places}) == 6
    assert not list(tmp_path.glob(".*"))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_stacks(tmp_path, source):
    archives = [tmp_path / f"{i}.h5" for i in range(3)]
    for out, seed in zip(archives, (0, 0, 1), strict=True):
        prepare_stacks([source[0]], out, SMALL.model_copy(update={"seed": seed}))
    assert archives[0].read_bytes() == archives[1].read_bytes()
    assert content(places_path(archives[0])) == content(places_path(archives[1]))
    assert read_places(places_path(archives[0])) != read_places(places_path(archives[2]))


def test_a_sample_does_not_depend_on_how_many_there_are(tmp_path, source):
    prepare_stacks([source[0]], tmp_path / "few.h5", SMALL)
    prepare_stacks([source[0]], tmp_path / "many.h5", SMALL.model_copy(update={"count": 9}))
    few, many = (read_places(places_path(tmp_path / n)) for n in ("few.h5", "many.h5"))
    assert few == many[:6]


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_list_replays_the_same_stacks_from_a_copy(tmp_path, source, kind):
    prepare_stacks([source[0]], tmp_path / "first.h5", SMALL)
    listed = places_path(tmp_path / "first.h5")
    if kind == "csv":
        rows = json.loads(listed.read_text())["samples"]
        listed = tmp_path / "list.csv"
        with listed.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    write_volume(tmp_path / "moved.zarr")
    prepare_stacks([str(tmp_path / "moved.zarr")], tmp_path / "again.h5", StackSettings(coords=str(listed)))
    first, again = (open_volume(str(tmp_path / n)) for n in ("first.h5", "again.h5"))
    assert np.array_equal(first.read(first.box), again.read(again.box))
    with pytest.raises(UserError, match="--size 20 differs"):
        prepare_stacks([source[0]], tmp_path / "b.h5", StackSettings(coords=str(listed), size=20))
    with pytest.raises(UserError, match="--bbox has no meaning"):
        prepare_stacks([source[0]], tmp_path / "b.h5", StackSettings(coords=str(listed), bbox="0:9,:,:"))


def test_training_and_testing_share_no_section(tmp_path, source):
    for test in (False, True):
        settings = SMALL.model_copy(update={"count": 30, "depth": 2, "test": test})
        prepare_stacks([source[0]], tmp_path / f"{test}.h5", settings)
    train, test = (
        {z for p in read_places(places_path(tmp_path / n)) for z in (p.z, p.z + 1)} for n in ("False.h5", "True.h5")
    )
    assert train == set(range(10))
    assert test == {10, 11}


def test_z_ranges():
    box = Box((5, 0, 0), (105, 9, 9))
    assert split_z(box, None, None, False) == (5, 85)
    assert split_z(box, None, None, True) == (85, 105)
    assert split_z(box, "5:105", None, False) == (5, 105)
    assert split_z(box, "5:50", "50:", True) == (50, 105)
    for train, test, use_test in [
        ("5:60", "59:90", False),
        ("5:60", "59:90", True),
        ("5:105", None, True),
        (None, "30:40", False),
    ]:
        with pytest.raises(UserError, match="share sections"):
            split_z(box, train, test, use_test)
    with pytest.raises(UserError, match="--z-train"):
        split_z(box, "0:50", None, False)


def test_a_box_and_a_mip_are_kept_to(tmp_path):
    voxels = write_volume(tmp_path / "v.zarr", (6, 80, 80), mips=2)[:, ::2, ::2]
    settings = StackSettings(count=20, depth=2, size=8, mip=1, bbox="1:6,10:22,20:40")
    prepare_stacks([str(tmp_path / "v.zarr")], tmp_path / "out.h5", settings)
    archive = open_volume(str(tmp_path / "out.h5"))
    for i, place in enumerate(read_places(places_path(tmp_path / "out.h5"))):
        assert place.mip == 1
        assert place.box.within(Box((1, 10, 20), (5, 22, 40)))
        assert np.array_equal(archive.read(Box((i, 0, 0, 0), (i + 1, 2, 8, 8)))[0], voxels[place.box.slices()])
    assert archive.meta.provenance["mip"] == 1
    assert archive.meta.voxel_size == (1, 40, 8, 8)


def test_blank_and_missing_stacks_are_drawn_again(tmp_path):
    shape = (4, 64, 64)
    (volume,) = create_volume(str(tmp_path / "v.zarr"), box=Box.of(shape), dtype=np.uint8, meta=Meta.plain("zyx"))
    voxels = np.full(shape, 7, np.uint8)
    voxels[:, :, :20] = np.random.default_rng(0).integers(1, 255, (4, 64, 20))
    voxels[:, :, 24:44] = 0
    volume.write(volume.box, voxels)
    prepare_stacks([str(tmp_path / "v.zarr")], tmp_path / "out.h5", StackSettings(count=25, depth=2, size=10))
    archive = open_volume(str(tmp_path / "out.h5"))
    for stack in archive.read(archive.box):
        assert stack.min() < stack.max()
        assert (stack == 0).mean() <= 0.5
    with pytest.raises(UserError, match="choose a --bbox with tissue"):
        prepare_stacks(
            [str(tmp_path / "v.zarr")], tmp_path / "b.h5", StackSettings(count=2, depth=2, size=9, bbox=":,24:44")
        )


def test_several_sources_are_mixed_by_their_size(tmp_path):
    voxels = {}
    for name, depth in (("a", 30), ("b", 10)):
        voxels[str(tmp_path / f"{name}.zarr")] = write_volume(
            tmp_path / f"{name}.zarr", (depth, 30, 30), seed=len(voxels) * 30000
        )
    out = tmp_path / "out.h5"
    settings = StackSettings(count=120, depth=1, size=8, z_train=":")
    prepare_stacks(list(voxels), out, settings)
    archive, places = open_volume(str(out)), read_places(places_path(out))
    for stack, place in zip(archive.read(archive.box), places, strict=True):
        assert np.array_equal(stack, voxels[place.source][place.box.slices()])
    assert 75 < sum(p.source.endswith("a.zarr") for p in places) < 105
    prepare_stacks(list(voxels)[::-1], tmp_path / "again.h5", StackSettings(coords=str(places_path(out))))
    again = open_volume(str(tmp_path / "again.h5"))
    assert np.array_equal(archive.read(archive.box), again.read(again.box))


def test_mistakes_are_told_before_anything_is_written(tmp_path, source):
    path, out = source[0], tmp_path / "out.h5"
    cases = [
        (SMALL.model_copy(update={"count": None}), [path], out, "--count"),
        (SMALL.model_copy(update={"depth": 11}), [path], out, "does not fit"),
        (SMALL.model_copy(update={"size": 41}), [path], out, "does not fit"),
        (SMALL.model_copy(update={"mip": 3}), [path], out, "mip 3"),
        (SMALL.model_copy(update={"bbox": "0:99,:,:"}), [path], out, "inside the volume"),
        (SMALL, [str(tmp_path / "nothing")], out, "does not exist"),
        (SMALL, [path], tmp_path / "out.tif", "ends in"),
        (SMALL.model_copy(update={"coords": str(tmp_path / "no.json"), "count": None}), [path], out, "cannot read"),
    ]
    for settings, sources, where, message in cases:
        with pytest.raises(UserError, match=message):
            prepare_stacks(sources, where, settings)
    assert [p.name for p in tmp_path.iterdir()] == ["source.zarr"]


def test_what_exists_is_kept_unless_asked(tmp_path, source):
    out = tmp_path / "out.h5"
    prepare_stacks([source[0]], out, SMALL)
    before = out.read_bytes()
    other = SMALL.model_copy(update={"seed": 5})
    with pytest.raises(UserError, match="--overwrite"):
        prepare_stacks([source[0]], out, other)
    assert out.read_bytes() == before
    prepare_stacks([source[0]], out, other, overwrite=True)
    assert out.read_bytes() != before


RUN = """
import sys
import lamella.core.provenance
lamella.core.provenance.git_commit = lambda: "commit"
from lamella.prep.stacks import StackSettings, prepare_stacks
prepare_stacks([sys.argv[1]], sys.argv[2], StackSettings(count=400, depth=3, size=16, seed=3))
"""


@pytest.mark.parametrize("name", ["out.h5", "out.zarr"])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, source, name, monkeypatch):
    monkeypatch.setattr("lamella.core.provenance.git_commit", lambda: "commit")  # a commit meanwhile is no difference
    whole, out = tmp_path / f"whole-{name}", tmp_path / name
    settings = StackSettings(count=400, depth=3, size=16, seed=3)
    prepare_stacks([source[0]], whole, settings)
    hidden = tmp_path / f".{name}.unfinished"
    for pause in (0.02, 0.15):
        child = subprocess.Popen(
            [sys.executable, "-c", RUN, source[0], str(out)], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        deadline = time.monotonic() + 20
        while not (hidden / "places").exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(pause)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, "finished before the kill; the test needs more samples"
    assert hidden.exists()
    report = prepare_stacks([source[0]], out, settings)
    assert report.total == 400
    assert content(out) == content(whole)
    assert content(places_path(out)) == content(places_path(whole))
    assert not hidden.exists()


def test_a_part_of_another_draw_is_not_gone_on_with(tmp_path, source):
    bad = SMALL.model_copy(update={"max_draws": 1, "max_missing": 0.0})
    with pytest.raises(UserError):
        prepare_stacks([write_blank(tmp_path)], tmp_path / "out.h5", bad)
    with pytest.raises(UserError, match="begun with other settings"):
        prepare_stacks([source[0]], tmp_path / "out.h5", SMALL)


def write_blank(tmp_path) -> str:
    create_volume(str(tmp_path / "blank.zarr"), box=Box.of((12, 40, 50)), dtype=np.uint16, meta=Meta.plain("zyx"))
    return str(tmp_path / "blank.zarr")
