"""Joined archives hold what their sources held, whatever happened on the way."""

import json

import numpy as np
import pytest

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_archive, create_volume, open_volume
from lamella.prep import combine
from lamella.prep.combine import combine_archives
from lamella.prep.places import places_path


def write_archive(path, seed=0, **datasets):
    """An archive with a data set (shape, dtype) for each name; returns what it holds."""
    rng = np.random.default_rng(seed)
    held = {n: rng.integers(1, 250, shape).astype(dtype) for n, (shape, dtype) in datasets.items()}
    meta = Meta(tuple("nzyx"), (1.0, 40.0, 8.0, 8.0), ("", "nm", "nm", "nm"), provenance={"mip": 2})
    arrays = {n: (Box.of(v.shape), v.dtype, meta) for n, v in held.items()}
    for name, volume in create_archive(path, arrays).items():
        volume.write(volume.box, held[name])
    return held


def read(path, name):
    volume = open_volume(str(path), dataset=name)
    return volume.read(volume.box)


@pytest.fixture
def archives(tmp_path):
    a = write_archive(tmp_path / "a.h5", 1, main=((4, 3, 8, 8), np.uint8))["main"]
    b = write_archive(tmp_path / "b.h5", 2, main=((3, 3, 8, 8), np.uint8))["main"]
    c = write_archive(tmp_path / "c.h5", 3, images=((2, 5, 9, 7), np.uint16), masks=((2, 5, 9, 7), np.uint8))
    return [str(tmp_path / f"{n}.h5") for n in "abc"], a, b, c


def test_every_data_set_is_copied_under_its_files_name(tmp_path, archives):
    paths, a, b, c = archives
    counts = combine_archives(paths, tmp_path / "all.h5")
    assert counts == {"a": 4, "b": 3, "c/images": 2, "c/masks": 2}
    for name, held in {"a": a, "b": b, "c/images": c["images"], "c/masks": c["masks"]}.items():
        assert np.array_equal(read(tmp_path / "all.h5", name), held)
        assert read(tmp_path / "all.h5", name).dtype == held.dtype
    meta = open_volume(str(tmp_path / "all.h5"), dataset="a").meta
    assert meta.voxel_size == (1, 40, 8, 8)
    assert meta.provenance["mip"] == 2
    assert not list(tmp_path.glob(".*"))


def test_append_joins_equal_stacks_and_keeps_others_apart(tmp_path, archives):
    paths, a, b, _ = archives
    counts = combine_archives(paths, tmp_path / "all.h5", append=True)
    assert counts == {"a": 7, "c/images": 2, "c/masks": 2}
    assert np.array_equal(read(tmp_path / "all.h5", "a"), np.concatenate([a, b]))


def test_a_zarr_archive_and_a_single_data_set_can_be_joined(tmp_path, archives):
    paths, a, _, c = archives
    (volume,) = create_volume(str(tmp_path / "z.zarr"), box=Box.of(a.shape), dtype=a.dtype, meta=Meta.plain("nzyx"))
    volume.write(volume.box, a)
    counts = combine_archives([str(tmp_path / "z.zarr"), f"{paths[2]}/images"], tmp_path / "all.h5")
    assert counts == {"z": 4, "images": 2}
    assert np.array_equal(read(tmp_path / "all.h5", "z"), a)
    assert np.array_equal(read(tmp_path / "all.h5", "images"), c["images"])


def test_lists_of_places_are_joined(tmp_path, archives):
    paths = archives[0][:2]
    for path in paths:
        places_path(path).write_text(json.dumps({"samples": [{"x": 1, "source": path}]}))
    combine_archives(paths, tmp_path / "all.h5")
    samples = json.loads(places_path(tmp_path / "all.h5").read_text())["samples"]
    assert [s["archive"] for s in samples] == [s["source"] for s in samples] == paths


def test_a_stopped_copy_goes_on_to_the_same_bytes(tmp_path, archives, monkeypatch):
    paths = archives[0]
    combine_archives(paths, tmp_path / "whole.h5")
    write = combine.CopyJob.write

    def stop(self, block, result):
        if self.part.name == "b" and block.index == 1:
            raise UserError("stopped")
        write(self, block, result)

    monkeypatch.setattr(combine.CopyJob, "write", stop)
    with pytest.raises(UserError, match="stopped"):
        combine_archives(paths, tmp_path / "all.h5")
    monkeypatch.undo()
    with pytest.raises(UserError, match="begun with other settings"):
        combine_archives(paths[:2], tmp_path / "all.h5")
    combine_archives(paths, tmp_path / "all.h5")
    assert (tmp_path / "all.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_mistakes_are_told_before_anything_is_written(tmp_path, archives):
    paths = archives[0]
    (tmp_path / "other").mkdir()
    write_archive(tmp_path / "other" / "a.h5", main=((1, 1, 4, 4), np.uint8))
    create_volume(str(tmp_path / "v.zarr"), box=Box.of((3, 8, 8)), dtype=np.uint8, meta=Meta.plain("zyx"))
    before = sorted(tmp_path.iterdir())
    for sources, out, message in [
        ([paths[0], str(tmp_path / "other" / "a.h5")], "all.h5", "named 'a'"),
        ([paths[0], str(tmp_path / "v.zarr")], "all.h5", "prep stacks"),
        ([paths[0], str(tmp_path / "none.h5")], "all.h5", "does not exist"),
        (paths, "all.zarr", "ends in .h5"),
        (paths[:1], "b.h5", "exists already"),
    ]:
        with pytest.raises(UserError, match=message):
            combine_archives(sources, tmp_path / out)
    assert sorted(tmp_path.iterdir()) == before


def test_an_archive_is_not_joined_into_itself(tmp_path, archives):
    paths = archives[0]
    with pytest.raises(UserError, match="is also a source"):
        combine_archives(paths, paths[0], overwrite=True)
