"""Laws that every format obeys."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.core.volume import Volume
from lamella.io import describe, open_volume
from tests.io.cases import CASES, Case, box_of, create, fingerprint, meta_of, new, voxels

pytestmark = pytest.mark.parametrize("case", CASES, ids=str)


def _random_boxes(case: Case, count: int) -> list[Box]:
    rng, full = stream(1, str(case)), box_of(case)
    ends = [np.sort(rng.integers(a, b + 1, (count, 2)), axis=1) for a, b in zip(full.start, full.stop, strict=True)]
    return [Box(tuple(int(e[i, 0]) for e in ends), tuple(int(e[i, 1]) for e in ends)) for i in range(count)]


def _blocks(volume: Volume) -> list[Box]:
    """The volume's box cut into its chunks."""
    counts = [-(-n // c) for n, c in zip(volume.box.shape, volume.chunk, strict=True)]
    starts = [
        tuple(s + i * c for s, i, c in zip(volume.box.start, index, volume.chunk, strict=True))
        for index in np.ndindex(*counts)
    ]
    whole = [Box(s, tuple(a + c for a, c in zip(s, volume.chunk, strict=True))) for s in starts]
    return [b.intersect(volume.box) for b in whole]


def test_any_box_reads_as_written(case: Case, tmp_path: Path) -> None:
    array = voxels(case)
    new(case, tmp_path).write(box_of(case), array)
    volume = open_volume(str(tmp_path / case.name))
    assert isinstance(volume, Volume)
    assert (volume.box, volume.dtype) == (box_of(case), np.dtype(case.dtype))
    for box in [volume.box, *_random_boxes(case, 12)]:
        got = volume.read(box)
        assert got.dtype == volume.dtype
        np.testing.assert_array_equal(got, array[box.slices(volume.box.start)])


def test_box_written_changes_only_itself_and_the_rest_reads_as_zero(case: Case, tmp_path: Path) -> None:
    volume = new(case, tmp_path)
    expected = np.zeros(volume.box.shape, volume.dtype)
    for seed, box in enumerate(_random_boxes(case, 4)):
        if case.whole_sections:
            box = Box((box.start[0], *volume.box.start[1:]), (box.stop[0], *volume.box.stop[1:]))
        part = voxels(case, seed)[box.slices(volume.box.start)]
        volume.write(box, part)
        expected[box.slices(volume.box.start)] = part
    np.testing.assert_array_equal(open_volume(str(tmp_path / case.name)).read(volume.box), expected)


def test_metadata_is_kept(case: Case, tmp_path: Path) -> None:
    created = new(case, tmp_path)
    assert created.meta == meta_of(case)
    assert open_volume(str(tmp_path / case.name)).meta == meta_of(case)


def test_pickled_volume_reads_and_writes(case: Case, tmp_path: Path) -> None:
    array = voxels(case)
    volume = new(case, tmp_path)
    volume.read(volume.box)
    pickle.loads(pickle.dumps(volume)).write(volume.box, array)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(volume)).read(volume.box), array)


def test_aligned_blocks_written_together_equal_one_write(case: Case, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir(), (tmp_path / "parts").mkdir()
    array = voxels(case)
    new(case, tmp_path / "whole").write(box_of(case), array)
    volume = new(case, tmp_path / "parts")
    blocks = _blocks(volume)
    stream(0, "order").shuffle(blocks)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda b: volume.write(b, array[b.slices(volume.box.start)]), blocks))
        read = list(threads.map(volume.read, blocks))
    for block, got in zip(blocks, read, strict=True):
        np.testing.assert_array_equal(got, array[block.slices(volume.box.start)])
    assert fingerprint(tmp_path / "whole") == fingerprint(tmp_path / "parts")


def test_interrupted_job_goes_on_to_the_same_bytes(case: Case, tmp_path: Path) -> None:
    (tmp_path / "once").mkdir(), (tmp_path / "twice").mkdir()
    array = voxels(case)
    new(case, tmp_path / "once").write(box_of(case), array)
    first = new(case, tmp_path / "twice")
    blocks = _blocks(first)
    half = len(blocks) // 2
    for block in blocks[: half + 1]:
        first.write(block, array[block.slices(first.box.start)])
    again = open_volume(str(tmp_path / "twice" / case.name), writable=True)
    assert (again.box, again.chunk) == (first.box, first.chunk)
    for block in blocks[half:]:
        again.write(block, array[block.slices(first.box.start)])
    assert fingerprint(tmp_path / "once") == fingerprint(tmp_path / "twice")


def test_existing_output_is_refused_and_replaced_only_when_asked(case: Case, tmp_path: Path) -> None:
    new(case, tmp_path).write(box_of(case), voxels(case))
    with pytest.raises(UserError, match="exists already"):
        new(case, tmp_path)
    replaced = new(case, tmp_path, overwrite=True)
    assert not replaced.read(replaced.box).any()


def test_mips_have_their_boxes_and_voxel_sizes(case: Case, tmp_path: Path) -> None:
    if not case.mips:
        with pytest.raises(UserError, match="mips"):
            create(case, tmp_path, mips=3)
        return
    volumes = create(case, tmp_path, mips=3)
    assert [v.box for v in volumes[:1]] == [box_of(case)]
    for mip, volume in enumerate(volumes):
        factor = tuple(2**mip if a in "yx" else 1 for a in case.axes)
        again = open_volume(str(tmp_path / case.name), mip=mip)
        assert volume.box == again.box == box_of(case).scale(factor)
        assert again.meta.voxel_size == tuple(v * f for v, f in zip(meta_of(case).voxel_size, factor, strict=True))
        volume.write(volume.box, np.full(volume.box.shape, mip, volume.dtype))
        assert (again.read(again.box) == np.asarray(mip, volume.dtype)).all()
    with pytest.raises(UserError, match=r"mip 3 does not exist.*mips 0 to 2"):
        open_volume(str(tmp_path / case.name), mip=3)
    assert [len(v) for v in describe(str(tmp_path / case.name)).datasets.values()] == [3]


def test_wrong_boxes_and_arrays_are_refused(case: Case, tmp_path: Path) -> None:
    volume = new(case, tmp_path)
    with pytest.raises(UserError, match="outside"):
        volume.read(volume.box.grow(1))
    with pytest.raises(UserError, match=f"has {volume.box.ndim + 1} axes"):
        volume.read(Box.of((1,) * (volume.box.ndim + 1)))
    with pytest.raises(UserError, match="does not fit"):
        volume.write(volume.box, np.zeros((1,) * volume.box.ndim, volume.dtype))
    with pytest.raises(UserError, match="complex64"):
        volume.write(volume.box, np.zeros(volume.box.shape, np.complex64))
    with pytest.raises(UserError, match="opened for reading"):
        open_volume(str(tmp_path / case.name)).write(volume.box, voxels(case))
    with pytest.raises(UserError, match="data set 'nonesuch'"):
        open_volume(str(tmp_path / case.name), dataset="nonesuch")
