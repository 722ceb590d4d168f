"""Evaluating instances: files in, figures out; the same in blocks, resumed or at once."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from scipy.optimize import linear_sum_assignment

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume
from lamella.tasks.segment import evaluate_count
from lamella.tasks.segment.evaluate import InstanceEvaluation, evaluate_instances
from lamella.tasks.segment.evaluate_inputs import open_subjects
from lamella.tasks.segment.evaluate_settings import InstanceSettings
from lamella.tasks.segment.evaluation_report import write_report

THRESHOLDS = np.arange(0.5, 1.0, 0.05)


def cells(seed: int, shape=(48, 60)) -> np.ndarray:
    """Discs, balls in volumes, numbered from 2."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape)
    labels = np.zeros(shape, np.uint16)
    for number in range(2, 14):
        centre = rng.uniform(0, np.array(shape) - 1).reshape(-1, *(1,) * len(shape))
        labels[((grid - centre) ** 2).sum(axis=0) < rng.uniform(3, 7) ** 2] = number
    return labels


def guess(true: np.ndarray, seed: int) -> np.ndarray:
    """A prediction: shifted, some lost, two joined, one too many."""
    rng = np.random.default_rng(seed)
    predicted = np.roll(true, rng.integers(-1, 2, true.ndim), tuple(range(true.ndim)))
    predicted[np.isin(predicted, rng.integers(2, 14, 3))] = 0
    predicted[predicted == 5] = 6
    predicted[..., :4, :5] = 99
    return predicted


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """``labels/`` and ``predicted/`` of five images, of different sizes and formats."""
    for k in range(5):
        true = cells(k, (48 + k, 60))
        put(tmp_path / "labels" / f"im{k}.tif", true)
        put(tmp_path / "predicted" / f"im{k}.png", guess(true, k).astype(np.uint8))
        put(tmp_path / "images" / f"im{k}.png", (true > 0).astype(np.uint8) * 200)
    return tmp_path / "predicted", tmp_path / "labels"


def put(file: Path, array: np.ndarray) -> None:
    file.parent.mkdir(exist_ok=True)
    iio.imwrite(file, array) if file.suffix == ".png" else tifffile.imwrite(
        file, array, photometric="rgb" if array.shape[-1] == 3 else "minisblack"
    )


def evaluate(predicted, true, out, **settings) -> InstanceEvaluation:
    chosen = InstanceSettings(**settings)
    return evaluate_instances(open_subjects(str(predicted), str(true), chosen), out, chosen)


def benchmark(trues, predictions) -> dict[str, float]:
    """The benchmark's figures, from its definition: dense IoU and one assignment for each threshold."""
    per, pool, seg = [], np.zeros((len(THRESHOLDS), 3)), []
    for true, predicted in zip(trues, predictions, strict=True):
        rows, columns = ([a == k for k in np.unique(a[a > 0])] for a in (true, predicted))
        iou = np.array([[(r & c).sum() / (r | c).sum() for c in columns] for r in rows])
        hits = []
        for t in THRESHOLDS:
            a, b = linear_sum_assignment(-np.where(iou >= t, 1 + iou, 0))
            hits.append(int((iou >= t)[a, b].sum()))
        counts = np.array([(h, len(columns) - h, len(rows) - h) for h in hits])
        pool += counts
        per.append(counts[:, 0] / counts.sum(axis=1))
        seg += list(np.where(iou.max(axis=1) > 0.5, iou.max(axis=1), 0))
    per, ap = np.array(per), pool[:, 0] / pool.sum(axis=1)
    tp, fp, fn = pool[0]
    return {
        "AP50_img": per[:, 0].mean(), "AP50_pool": ap[0], "mAP_img": per.mean(), "mAP_pool": ap.mean(), "AP75_pool": ap[5],
        "F1_50": 2 * tp / (2 * tp + fp + fn), "SEG": np.mean(seg), "true": tp + fn, "predicted": tp + fp,
    }  # fmt: skip


def test_figures_are_those_of_the_benchmark_to_the_last_digit(folders, tmp_path):
    found = evaluate(*folders, tmp_path / "out").figures()
    trues = [tifffile.imread(f) for f in sorted(folders[1].iterdir())]
    predictions = [iio.imread(f) for f in sorted(folders[0].iterdir())]
    expected = benchmark(trues, predictions)
    assert {name: found[name] for name in expected} == expected


def test_what_is_written_holds_every_image_and_object(folders, tmp_path):
    out = tmp_path / "out"
    found = evaluate(*folders, out)
    write_report(found, out / "report.html")
    stored = json.loads((out / "scores.json").read_text())
    assert stored["figures"]["AP50_pool"] == found.figures()["AP50_pool"]
    images = list(csv.DictReader((out / "images.csv").open()))
    assert [row["image"] for row in images] == [f"im{k}" for k in range(5)]
    objects = list(csv.DictReader((out / "objects.csv").open()))
    counts = {s: sum(row["status"] == s for row in objects) for s in ("found", "missed", "false")}
    figures = found.pooled.figures()
    assert counts["found"] == figures["matched"]
    assert counts["found"] + counts["missed"] == figures["true"]
    assert counts["found"] + counts["false"] == figures["predicted"]
    extra = next(row for row in objects if row["predicted_id"] == "99")
    assert (extra["status"], extra["predicted_y"], extra["predicted_x"], extra["predicted_area"]) == (
        "false",
        "1.5",
        "2",
        "20",
    )
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") == 2 + 5
    assert not list(out.glob(".*"))


def test_volumes_are_the_same_in_blocks_and_at_once(tmp_path, monkeypatch):
    true = cells(3, (12, 40, 44))
    true[4:8, 10:20, 10:20] = 1
    predicted = guess(true, 3)
    for name, array in (("true.zarr", true), ("predicted.zarr", predicted)):
        (volume,) = create_volume(
            tmp_path / name, box=Box.of(array.shape), dtype=array.dtype, meta=Meta.plain("zyx"), chunk=(8, 16, 16)
        )
        volume.write(volume.box, array)
    paths = tmp_path / "predicted.zarr", tmp_path / "true.zarr"
    whole = evaluate(*paths, tmp_path / "whole", ignore="1")
    monkeypatch.setitem(evaluate_count._BLOCK, 3, (5, 17, 16))
    blocks = evaluate(*paths, tmp_path / "blocks", ignore="1")
    assert len(blocks.images) == 1
    assert 0 < whole.figures()["AP50_pool"] < 1
    assert blocks.figures() == whole.figures()
    for name in ("objects.csv", "images.csv"):
        assert (tmp_path / "blocks" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_slices_are_scored_like_images_of_their_own(tmp_path):
    true = np.stack([cells(k) for k in range(3)])
    predicted = np.stack([guess(section, k) for k, section in enumerate(true)])
    put(tmp_path / "true.tif", true)
    put(tmp_path / "predicted.tif", predicted)
    found = evaluate(tmp_path / "predicted.tif", tmp_path / "true.tif", tmp_path / "out", slices=True)
    assert found.figures()["mAP_img"] == benchmark(true, predicted)["mAP_img"]
    assert [image.subject.name for image in found.images] == [f"true z{k}" for k in range(3)]
    assert len(evaluate(tmp_path / "predicted.tif", tmp_path / "true.tif", tmp_path / "whole").images) == 1


def test_a_killed_evaluation_goes_on_and_ends_with_the_same_files(folders, tmp_path, monkeypatch):
    evaluate(*folders, tmp_path / "once")
    write, calls = evaluate_count.CountOverlaps.write, []

    def killed(self, block, result):
        if len(calls) == 3:
            raise UserError("no space left")
        calls.append(block.index)
        write(self, block, result)

    monkeypatch.setattr(evaluate_count.CountOverlaps, "write", killed)
    with pytest.raises(UserError, match="no space left"):
        evaluate(*folders, tmp_path / "twice")
    assert not (tmp_path / "twice" / "scores.json").exists()
    monkeypatch.setattr(evaluate_count.CountOverlaps, "write", write)
    evaluate(*folders, tmp_path / "twice")
    for name in ("objects.csv", "images.csv"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()


def test_names_choose_images_and_endings_of_programs_are_known(folders, tmp_path):
    predicted, true = folders
    for file in predicted.iterdir():
        file.rename(file.with_name(f"{file.stem}_instances.png"))
    (tmp_path / "split.json").write_text(json.dumps({"test": ["im3", "im1"]}))
    found = evaluate(predicted, true, tmp_path / "out", names=f"{tmp_path / 'split.json'}:test")
    assert [image.subject.name for image in found.images] == ["im3", "im1"]


def test_folders_of_the_cell_tracking_challenge_are_paired(tmp_path):
    for k in (0, 12):
        put(tmp_path / "01_GT" / f"man_seg{k:03d}.tif", cells(k))
        put(tmp_path / "01_RES" / f"mask{k:03d}.tif", cells(k))
    found = evaluate(tmp_path / "01_RES", tmp_path / "01_GT", tmp_path / "out")
    assert found.figures()["SEG_ctc"] == 1
    assert [image.subject.name for image in found.images] == ["t000", "t012"]


def test_patches_of_a_mask_are_objects_on_request(tmp_path):
    true = cells(1)
    true[np.isin(true, (2, 3))] = 0
    put(tmp_path / "mask" / "a.png", ((true > 0) * 255).astype(np.uint8))
    put(tmp_path / "predicted" / "a.tif", true)
    found = evaluate(tmp_path / "predicted", tmp_path / "mask", tmp_path / "out", components=True)
    assert found.figures()["true"] <= len(np.unique(true)) - 1
    assert found.figures()["foreground_voi_merge"] == 0


def test_sizes_are_shown_beside_a_baseline(folders, tmp_path):
    evaluate(*folders, tmp_path / "mine", sizes="40,90")
    better = evaluate(folders[1], folders[1], tmp_path / "perfect", baseline=str(tmp_path / "mine"))
    assert better.sizes.edges == (40, 90)
    assert {row["reached"] for row in better.size_rows()} == {"yes"}
    worse = evaluate(*folders, tmp_path / "again", baseline=str(tmp_path / "perfect"))
    assert {row["reached"] for row in worse.size_rows()} == {"no"}
    assert sum(row["true"] for row in worse.size_rows()) == worse.figures()["true"]
    with pytest.raises(UserError, match="score the baseline on the same images"):
        evaluate(*folders, tmp_path / "other", baseline=str(tmp_path / "mine"), drop_border=True)


MISTAKES = {
    "sizes differ": (lambda a, k: a[: 40 if k == 1 else 48], "a1.tif is 40 x 60 (y x), the truth .*48 x 60"),
    "floats": (lambda a, k: a / 7, "hold float64, not whole numbers; give instance labels"),
    "RGB": (lambda a, k: np.stack([a, a, a], -1).astype(np.uint8), "have 3 channels"),
    "masks": (lambda a, k: (a > 0).astype(np.uint8) * 255, "hold one value in .* patches: a mask, not instances"),
    "negative": (lambda a, k: a.astype(np.int16) - 5, "holds -5; labels are 0 for background"),
    "missing": (lambda a, k: a if k == 0 else None, "2 of 3 images have no prediction .* first: a1, a2"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_does_not_fit_is_refused_before_anything_is_written(name, tmp_path):
    spoil, message = MISTAKES[name]
    for k in range(3):
        put(tmp_path / "labels" / f"a{k}.tif", cells(k))
        spoilt = spoil(cells(k), k)
        if spoilt is not None:
            put(tmp_path / "predicted" / f"a{k}.tif", spoilt)
    with pytest.raises(UserError, match=message.replace("(", r"\(").replace(")", r"\)")):
        evaluate(tmp_path / "predicted", tmp_path / "labels", tmp_path / "out")
    assert not (tmp_path / "out").exists()
