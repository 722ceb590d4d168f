"""Evaluation gives the figures that a hand computation gives, whatever the tiling, and goes on where it was killed."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from lamella.blockwise import Executor
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.ops.correlation import chunked_pearson
from lamella.ops.noise import smooth_noise
from lamella.tasks.align import scores
from lamella.tasks.align.evaluate import Inputs, aligned_mip, evaluate_alignment

SHAPE = (6, 90, 130)


def put(path: Path, array: np.ndarray):
    axes = "zyx" if array.ndim == 3 else "czyx"
    (volume,) = create_volume(str(path), box=Box.of(array.shape), dtype=array.dtype, meta=Meta.plain(axes))
    volume.write(volume.box, array)
    return open_volume(str(path))


@pytest.fixture
def stack() -> np.ndarray:
    """Sections that share a third of their variance with their neighbours, one lost, one with a hole."""
    rng = stream(0, "stack")
    common = smooth_noise(rng, SHAPE, (1.0, 2.0, 2.0))
    z = np.clip(128 + 40 * common + 15 * rng.standard_normal(SHAPE), 1, 255).astype(np.uint8)
    z[3] = 0
    z[1, 20:50, 40:60] = 0
    return z


@pytest.fixture
def volumes(tmp_path, stack) -> Inputs:
    truth = 3 * smooth_noise(stream(0, "truth"), (2, *SHAPE), (0.0, 0.0, 20.0, 20.0))
    fields = truth + np.array([3, 4], np.float32)[:, None, None, None]
    truth[:, 2, :10] = np.nan
    return Inputs(
        put(tmp_path / "aligned.zarr", stack),
        put(tmp_path / "source.zarr", np.roll(stack, 5, axis=2)),
        put(tmp_path / "fields.zarr", fields.astype(np.float32)),
        put(tmp_path / "truth.zarr", truth),
    )


def test_figures_equal_a_hand_computation(volumes, stack, tmp_path):
    found = evaluate_alignment(volumes, tmp_path / "out", chunks=(12, 32))
    pairs = [(1, 0), (2, 1), (4, 2), (5, 4)]  # section 3 is lost and passed over
    for chunk in (12, 32):
        r = [chunked_pearson(stack[a], stack[b], chunk, (stack[a] > 0) & (stack[b] > 0)) for a, b in pairs]
        tally = found.totals[f"after {chunk}"]
        assert tally.mean == pytest.approx(np.nanmean(r))
        assert tally.dropped >= np.isnan(r).sum() > 0
    assert [s.previous for s in found.sections] == [None, 0, 1, 2, 2, 4]
    assert found.totals["endpoint"].percentile(50) == pytest.approx(5, abs=0.02)
    assert found.totals["endpoint"].dropped == 10 * 130
    assert found.totals["step"].percentile(99) == pytest.approx(0, abs=0.02)
    assert found.sections[3].missing == 1
    assert found.sections[1].missing == pytest.approx(600 / (90 * 130))


def test_null_is_about_zero_and_tissue_is_not(volumes, tmp_path):
    found = evaluate_alignment(volumes, tmp_path / "out", chunks=(12,))
    assert abs(found.totals["null 12"].mean) < 0.05
    assert found.totals["after 12"].mean > 0.3


def test_tiles_do_not_change_figures(volumes, tmp_path, monkeypatch):
    whole = evaluate_alignment(volumes, tmp_path / "whole", chunks=(12, 32))
    monkeypatch.setattr(scores, "_TILE", 40)
    tiled = evaluate_alignment(volumes, tmp_path / "tiled", chunks=(12, 32), executor=Executor(workers=1))
    for name, tally in whole.totals.items():
        np.testing.assert_array_equal(tiled.totals[name].counts, tally.counts, err_msg=name)
    assert tiled.folded_percent == whole.folded_percent
    assert tiled.worst == whole.worst


def test_folds_are_counted(tmp_path, stack):
    fields = np.zeros((2, *SHAPE), np.float32)
    fields[1, 2, :, 50:60] = -3.0 * np.arange(10)  # x + field runs backwards over ten columns
    inputs = Inputs(put(tmp_path / "a.zarr", stack), fields=put(tmp_path / "f.zarr", fields))
    found = evaluate_alignment(inputs, tmp_path / "out", chunks=(12,))
    assert [s.folded for s in found.sections if s.z != 2] == [0] * 5
    assert found.sections[2].folded == 90 * 9


def test_worst_places_are_where_it_is_worst(tmp_path, stack):
    stack[5, 40:60, 60:80] = 255 - stack[4, 40:60, 60:80]
    found = evaluate_alignment(Inputs(put(tmp_path / "a.zarr", stack)), tmp_path / "out", chunks=(20,))
    worst = found.worst[0]
    assert (worst["z"], worst["y"], worst["x"]) == (5, 50, 70)
    assert worst["correlation"] == pytest.approx(-1)


def test_files_hold_what_was_found(volumes, tmp_path):
    found = evaluate_alignment(volumes, tmp_path / "out", chunks=(12,))
    record = json.loads((tmp_path / "out/scores.json").read_text())
    assert record["figures"]["after 12"]["mean"] == found.totals["after 12"].mean
    assert record["sections"][0]["after_12_mean"] is None
    assert record["provenance"]["aligned"] == volumes.aligned.path
    with open(tmp_path / "out/sections.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(r["z"]) for r in rows] == list(range(6))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["scores.json", "sections.csv", "worst.csv"]
    with pytest.raises(UserError, match="--overwrite"):
        evaluate_alignment(volumes, tmp_path / "out", chunks=(12,))
    evaluate_alignment(volumes, tmp_path / "out", chunks=(12,), overwrite=True)


def test_goes_on_where_it_was_killed(volumes, tmp_path, monkeypatch):
    whole = evaluate_alignment(volumes, tmp_path / "whole", chunks=(12,))
    write, scored = scores.ScoreSections.write, []

    def dies(self, block, result):
        if len(scored) == 3:
            raise UserError("the power went off")
        scored.append(block.index)
        write(self, block, result)

    monkeypatch.setattr(scores.ScoreSections, "write", dies)
    with pytest.raises(UserError, match="power"):
        evaluate_alignment(volumes, tmp_path / "out", chunks=(12,), executor=Executor(workers=1))
    monkeypatch.setattr(
        scores.ScoreSections,
        "write",
        lambda self, block, result: (scored.append(block.index), write(self, block, result)),
    )
    again = evaluate_alignment(volumes, tmp_path / "out", chunks=(12,))
    assert len(scored) < 10
    assert json.dumps(again.summary()) == json.dumps(whole.summary())


def test_method_checks_tell_a_true_method_from_one_that_stands_still(tmp_path):
    sheet = smooth_noise(stream(1, "sheet"), (200, 260), 3.0)
    stack = np.stack([np.clip(128 + 40 * sheet[:160, 4 * z : 4 * z + 160], 1, 255) for z in range(6)]).astype(np.uint8)
    inputs = Inputs(put(tmp_path / "a.zarr", stack))

    def shift(source, target):
        """Right between neighbours, whichever way, and no motion for the unrelated section."""
        field = np.zeros((2, *source.shape), np.float32)
        right, left = (np.abs(np.roll(source.astype(float), s, 1) - target)[:, 8:-8].mean() for s in (4, -4))
        if min(right, left) < 5:
            field[1] = -4 if right < left else 4
        return field

    good = evaluate_alignment(inputs, tmp_path / "good", chunks=(16,), estimate=shift, samples=3).method
    assert good["after"] > 0.99
    assert good["after"] > good["before"] + 0.1
    assert abs(good["null"]) < 0.2
    assert good["forward_backward"]["p95"] < 0.02
    still = evaluate_alignment(
        inputs, tmp_path / "still", chunks=(16,), estimate=lambda a, b: np.full((2, *a.shape), 1, np.float32), samples=3
    ).method
    assert still["forward_backward"]["p50"] == pytest.approx(np.hypot(2, 2), abs=0.02)


def test_the_method_is_run_again_within_the_part_that_was_aligned(tmp_path):
    stack = stream(0, "part").integers(1, 256, (12, 70, 90), np.uint8)
    source = put(tmp_path / "source.zarr", stack)
    box = Box((0, 10, 20), (5, 60, 70))
    (aligned,) = create_volume(str(tmp_path / "a.zarr"), box=box, dtype="uint8", meta=Meta.plain("zyx"))
    aligned.write(box, stack[box.slices()])
    seen = []

    def still(source, target):
        seen.append(source)
        return np.zeros((2, *source.shape), np.float32)

    evaluate_alignment(
        Inputs(open_volume(aligned.path), source), tmp_path / "out", chunks=(16,), estimate=still, samples=4
    )
    pieces = {z: stack[z, 10:60, 20:70] for z in range(5)}
    assert len(seen) == 12
    for piece in seen:
        assert any(np.array_equal(piece, p) for p in pieces.values())


def test_coarse_fields_are_read_at_the_images_mip(tmp_path):
    """A linear field of shrunk sections, stored four times coarser, is the same linear field; boxes need not start at zero."""
    box = Box((5, 7, 9), (7, 7 + 37, 9 + 50))
    meta = Meta.plain("zyx")
    (aligned,) = create_volume(str(tmp_path / "a.zarr"), box=box, dtype="uint8", meta=meta)
    coarse = Box((0, 5, 1, 2), (2, 7, 1 + 10, 2 + 13))
    (volume,) = create_volume(
        str(tmp_path / "f.zarr"), box=coarse, dtype="float32", meta=Meta(tuple("czyx"), (1.0, 1.0, 4.0, 4.0), ("",) * 4)
    )
    centre = np.stack(np.meshgrid(*(4.0 * np.arange(n) + 1.5 for n in (10, 13)), indexing="ij"))
    volume.write(coarse, np.stack([0.1 * centre / 4, 0.1 * centre / 4], axis=1).astype(np.float32))
    whole = scores.FieldStack.of(volume, aligned).read(6, Box((7, 9), (44, 59)))
    expected = 0.1 * np.mgrid[:37, :50]
    np.testing.assert_allclose(whole[:, 4:-4, 4:-4], expected[:, 4:-4, 4:-4], atol=1e-4)
    part = scores.FieldStack.of(volume, aligned).read(6, Box((20, 21), (33, 40)))
    np.testing.assert_allclose(part, whole[:, 13:26, 12:31], atol=1e-5)


def test_the_source_is_read_at_the_mip_that_was_aligned(tmp_path):
    sized = {"voxel_size": (40.0, 4.0, 4.0), "units": ("nanometer",) * 3}
    create_volume(str(tmp_path / "s.zarr"), box=Box.of(SHAPE), dtype=np.uint8, meta=Meta.plain("zyx", **sized), mips=3)
    for size, mip in [(4.0, 0), (16.0, 2)]:
        meta = Meta.plain("zyx", voxel_size=(40.0, size, size), units=sized["units"])
        (aligned,) = create_volume(str(tmp_path / f"{size}.zarr"), box=Box.of(SHAPE), dtype=np.uint8, meta=meta)
        assert aligned_mip(str(tmp_path / "s.zarr"), aligned) == mip
    (other,) = create_volume(str(tmp_path / "5.zarr"), box=Box.of(SHAPE), dtype=np.uint8, meta=Meta.plain("zyx"))
    with pytest.raises(UserError, match="4 x 4, 8 x 8, 16 x 16; give the volume that was aligned"):
        aligned_mip(str(tmp_path / "s.zarr"), other)


def test_wrong_volumes_are_refused(volumes, tmp_path):
    for inputs, chunks, message in [
        (Inputs(volumes.fields), (12,), "needs z y x"),
        (Inputs(volumes.aligned, fields=volumes.aligned), (12,), "needs c z y x"),
        (Inputs(volumes.aligned, truth=volumes.truth), (12,), "give --fields"),
        (volumes, (12, 512), "from 4 to 90"),
    ]:
        with pytest.raises(UserError, match=message):
            evaluate_alignment(inputs, tmp_path / "out", chunks=chunks)
    assert not (tmp_path / "out").exists()
