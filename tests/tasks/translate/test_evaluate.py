"""Evaluating images: positions, channels and frames matched by name; blocks, kills, masks; mistakes named."""

import csv
import json
import math

import imageio.v3 as iio
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.io.plan import make_plan
from lamella.io.positions import create_positions
from lamella.io.preprocessing import Preprocessing
from lamella.ops.shading import Shading
from lamella.prep.convert import convert
from lamella.prep.convert_settings import ConvertSettings
from lamella.tasks.translate import evaluate_count
from lamella.tasks.translate.evaluate import evaluate_images
from lamella.tasks.translate.evaluate_inputs import open_subjects
from lamella.tasks.translate.evaluate_settings import ImageSettings
from lamella.tasks.translate.evaluation_report import headlines, write_report


def image(seed, shape=(40, 50)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    waves = 3000 + 1500 * np.sin(y / 5 + seed) * np.cos(x / 6)
    return (waves + np.random.default_rng(seed).normal(0, 90, shape)).astype(np.uint16)


def frames(folder, positions=(0, 1), channels=(1, 2), slices=(3,), noise=0, shape=(40, 50)):
    """A folder of frames; with ``noise`` other images of the same scene."""
    folder.mkdir()
    for p in positions:
        for c in channels:
            for z in slices:
                made = image(100 * p + 10 * c + z, shape).astype(float)
                made += np.random.default_rng(p + c + z).normal(0, noise, shape) if noise else 0
                name = f"im_c{c:03d}_z{z:03d}_t000_p{p:03d}.png"
                iio.imwrite(folder / name, np.clip(made, 0, 65535).astype(np.uint16))
    return folder


def volume(path, array, axes, **meta):
    made = create_volume(path, box=Box.of(array.shape), dtype=array.dtype, meta=Meta.plain(axes, **meta))[0]
    made.write(made.box, array)
    return path


def evaluate(predicted, true, out, **settings):
    chosen = ImageSettings(**settings)
    return evaluate_images(open_subjects(str(predicted), str(true), chosen), out, chosen)


def table(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_frames_are_compared_with_those_of_their_numbers(tmp_path):
    true = frames(tmp_path / "true", positions=(0, 1, 2), channels=(0, 1, 2), slices=(2, 3))
    predicted = frames(tmp_path / "predicted", noise=200)
    found = evaluate(predicted, true, tmp_path / "scores")
    rows = table(tmp_path / "scores" / "metrics_xy.csv")
    assert [(r["position"], r["channel"], r["z"]) for r in rows] == [
        (p, c, "3") for p in ("p000", "p001") for c in ("c1", "c2")
    ]
    a, b = (iio.imread(f / "im_c002_z003_t000_p001.png").astype(float) for f in (predicted, true))
    assert float(rows[3]["pearson"]) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-5)
    ends = [image(100 * p + 20 + 3) for p in (0, 1)]
    span = float(max(e.max() for e in ends)) - float(min(e.min() for e in ends))
    assert float(rows[3]["ssim"]) == pytest.approx(structural_similarity(b, a, data_range=span), abs=1e-5)
    assert found.subjects.left_out == ("p002",)
    assert found.subjects.items[0].shown.channel == 0  # the truth's other channel is the input
    assert json.loads((tmp_path / "scores" / "scores.json").read_text())["not_predicted"] == ["p002"]


def test_a_plate_and_its_frames_are_the_same_positions(tmp_path):
    true = frames(tmp_path / "true")
    convert(str(true), str(tmp_path / "plate.ome.zarr"), ConvertSettings())
    for pair in ((true, tmp_path / "plate.ome.zarr"), (tmp_path / "plate.ome.zarr", true)):
        found = evaluate(*pair, tmp_path / f"{pair[0].name}-scores")
        assert [row["mae"] for row in found.figures] == [0, 0]
        assert len(found.scored["xy"]) == 4


def test_folders_of_images_are_matched_by_name_and_channels_by_theirs(tmp_path):
    for side in ("true", "predicted"):
        (tmp_path / side).mkdir()
        for k in range(2):
            names = ("DAPI", "MAP2")
            stack = np.stack([image(k), image(k + 7)])
            if side == "predicted":
                names, stack = names[::-1], stack[::-1]
            volume(tmp_path / side / f"x{k}.ome.zarr", stack, "cyx", channel_names=names)
    found = evaluate(tmp_path / "predicted", tmp_path / "true", tmp_path / "scores")
    assert {row["channel"]: row["mae"] for row in found.figures} == {"DAPI": 0, "MAP2": 0}


def test_numbers_of_a_plate_tell_nothing_of_channels(tmp_path):
    """A plate of two stains is not compared with the first two channels of frames, of which one is the phase."""
    true = frames(tmp_path / "true", positions=(0,), channels=(0, 1, 2))
    stains = np.stack([iio.imread(true / f"im_c{c:03d}_z003_t000_p000.png") for c in (1, 2)])[None, :, None]
    for names, out in ((("DAPI", "MAP2"), "named"), (("c001", "c002"), "numbered")):
        plan = make_plan(Box.of(stains.shape), "uint16", Meta.plain("tczyx", channel_names=names))
        create_positions(str(tmp_path / f"{out}.ome.zarr"), {"A/1/0": plan}, kind="plate")
        made = open_volume(tmp_path / f"{out}.ome.zarr", dataset="A/1/0", writable=True)
        made.write(made.box, stains)
    with pytest.raises(UserError, match=r"no channel DAPI, MAP2, only c0, c1, c2.*--channels"):
        evaluate(tmp_path / "named.ome.zarr", true, tmp_path / "none")
    told = evaluate(tmp_path / "named.ome.zarr", true, tmp_path / "told", channels=("DAPI=1", "MAP2=2"))
    numbered = evaluate(tmp_path / "numbered.ome.zarr", true, tmp_path / "numbers")
    for found in (told, numbered):
        assert [row["mae"] for row in found.figures] == [0, 0]


def test_names_that_differ_are_paired_as_told(tmp_path):
    a = volume(tmp_path / "a.ome.zarr", np.stack([image(1), image(2)]), "cyx", channel_names=("u", "v"))
    b = volume(tmp_path / "b.ome.zarr", np.stack([image(2), image(1)]), "cyx", channel_names=("DAPI", "MAP2"))
    with pytest.raises(UserError, match=r"no channel u, v, only DAPI, MAP2"):
        evaluate(a, b, tmp_path / "none")
    found = evaluate(a, b, tmp_path / "scores", channels=("u=MAP2", "1=0"))
    assert [(row["channel"], row["mae"]) for row in found.figures] == [("MAP2", 0), ("DAPI", 0)]


@pytest.fixture
def stacks(tmp_path):
    true = np.stack([image(z, (34, 60)) for z in range(20)])
    noisy = true + np.random.default_rng(0).integers(0, 300, true.shape).astype(np.uint16)
    mask = np.zeros_like(true, np.uint8)
    mask[:, 5:20, 9:40] = 1
    return [volume(tmp_path / f"{name}.ome.zarr", a, "zyx") for name, a in (("p", noisy), ("t", true), ("m", mask))]


ORIENTATIONS = ("xy", "xz", "yz", "xyz")


def test_blocks_give_what_the_whole_gives_in_all_orientations(stacks, tmp_path, monkeypatch):
    predicted, true, mask = stacks
    whole = evaluate(predicted, true, tmp_path / "whole", orientations=ORIENTATIONS, masks=str(mask))
    monkeypatch.setattr(evaluate_count, "_BLOCK", {True: (16, 16, 32), False: (1, 16, 16)})
    evaluate(predicted, true, tmp_path / "blocks", orientations=ORIENTATIONS, masks=str(mask))
    for orientation, planes in zip(ORIENTATIONS, (20, 34, 60, 1), strict=True):
        rows = [table(tmp_path / f / f"metrics_{orientation}.csv") for f in ("whole", "blocks")]
        assert len(rows[0]) == planes
        assert rows[0] == rows[1]
    assert whole.figures[0]["vol_frac"] == pytest.approx(15 * 31 / (34 * 60))
    inside = table(tmp_path / "whole" / "metrics_xyz.csv")[0]
    a, b = (open_subject_layer(v)[:, 5:20, 9:40].astype(float) for v in (predicted, true))
    assert float(inside["mae_masked"]) == pytest.approx(np.abs(a - b).mean(), rel=1e-5)


def open_subject_layer(path):
    opened = open_volume(path)
    return opened.read(opened.box)


def test_an_evaluation_that_was_killed_goes_on(stacks, tmp_path, monkeypatch):
    predicted, true, _ = stacks
    evaluate(predicted, true, tmp_path / "whole")
    done, real = [], evaluate_count.sums_of

    def dying(*args):
        if len(done) == 7:
            raise UserError("stop")
        done.append(1)
        return real(*args)

    monkeypatch.setattr(evaluate_count, "sums_of", dying)
    with pytest.raises(UserError, match="stop"):
        evaluate(predicted, true, tmp_path / "killed")
    assert not (tmp_path / "killed" / "scores.json").exists()
    counted = []
    monkeypatch.setattr(evaluate_count, "sums_of", lambda *a: counted.append(1) or real(*a))
    evaluate(predicted, true, tmp_path / "killed")
    assert 0 < len(counted) < 20
    assert (tmp_path / "killed" / "metrics_xy.csv").read_bytes() == (tmp_path / "whole" / "metrics_xy.csv").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        evaluate(predicted, true, tmp_path / "killed")


def test_masks_of_a_preprocessing_are_found_by_position(tmp_path):
    true, predicted = frames(tmp_path / "true"), frames(tmp_path / "predicted", noise=100)
    (tmp_path / "prep").mkdir()
    (tmp_path / "prep" / "masks.json").write_text("{}")
    mask = np.zeros((1, 1, 1, 40, 50), np.uint8)
    mask[..., :10, :] = 1
    for p in ("p000", "p001"):
        volume(tmp_path / "prep" / "masks" / f"{p}.ome.zarr", mask, "tczyx")
    found = evaluate(predicted, true, tmp_path / "scores", masks=str(tmp_path / "prep"))
    assert found.figures[0]["vol_frac"] == 0.25


def test_percentiles_bring_both_to_one_scale(tmp_path):
    true, predicted = (
        frames(tmp_path / "true", positions=(0,)),
        frames(tmp_path / "predicted", positions=(0,), noise=300),
    )
    evaluate(predicted, true, tmp_path / "scores", percentiles="1,99")
    a, b = (iio.imread(f / "im_c001_z003_t000_p000.png").astype(float) for f in (predicted, true))
    low, high = np.percentile(b, [1, 99])
    a, b = (np.clip((v - low) / (high - low), 0, 1) for v in (a, b))
    row = table(tmp_path / "scores" / "metrics_xy.csv")[0]
    assert float(row["ssim"]) == pytest.approx(structural_similarity(b, a, data_range=1.0), abs=1e-5)
    assert float(row["mae"]) == pytest.approx(np.abs(a - b).mean(), abs=1e-5)


def test_the_shading_of_a_preprocessing_is_taken_off_the_truth(tmp_path):
    predicted, true = (frames(tmp_path / name, positions=(0,)) for name in ("predicted", "true"))
    field = Shading(shape=(40, 50), coefficients=((1.0, 0.2), (0.3, 0.0)))
    for c in (1, 2):
        file = true / f"im_c{c:03d}_z003_t000_p000.png"
        iio.imwrite(file, np.rint(iio.imread(file) * field.field()).astype(np.uint16))
    Preprocessing(shading={1: field}).save(tmp_path / "prep.json")
    found = evaluate(predicted, true, tmp_path / "scores", prep=str(tmp_path / "prep.json"))
    errors = {row["channel"]: row["mae"] for row in found.figures}
    assert errors["c1"] < 0.5  # rounding
    assert errors["c2"] > 100  # whose light is not known


def test_segmentations_are_scored_by_their_objects(tmp_path):
    truth = np.zeros((20, 20), np.uint8)
    truth[5:15, 5:15] = 1
    iio.imwrite(tmp_path / "t.png", truth)
    volume(tmp_path / "p.tif", np.roll(truth, 5, 0).astype(np.float32) * 0.9, "yx")
    found = evaluate(tmp_path / "p.tif", tmp_path / "t.png", tmp_path / "scores", metrics=("dice", "accuracy"))
    assert found.figures[0]["dice"] == pytest.approx(0.5)
    assert found.figures[0]["accuracy"] == pytest.approx(1 - 100 / 400)


def test_the_page_shows_the_worst_first(tmp_path):
    true = frames(tmp_path / "true", positions=(0, 1, 2, 3), channels=(0, 1), slices=(3,))
    predicted = tmp_path / "predicted"
    frames(predicted, positions=(0, 1, 2, 3), channels=(1,))
    for p, noise in enumerate((50, 900, 400, 0)):
        name = f"im_c001_z003_t000_p{p:03d}.png"
        made = iio.imread(true / name) + np.random.default_rng(p).normal(0, noise + 1e-9, (40, 50))
        iio.imwrite(predicted / name, np.clip(made, 0, 65535).astype(np.uint16))
    settings = ImageSettings(panels=1)
    found = evaluate_images(open_subjects(str(predicted), str(true), settings), tmp_path / "scores", settings)
    assert [s.subject.position for s in found.by_error("xy")] == ["p001", "p002", "p000", "p003"]
    page = write_report(found, tmp_path / "scores").read_text()
    told = [page.index(f"{why}: p00{p}") for why, p in (("worst", 1), ("usual", 0), ("best", 3))]
    assert told == sorted(told)
    assert "table.sortable" in page
    panel = iio.imread(tmp_path / "scores" / "panels" / "p001_c1_z003.png")
    assert panel.shape[1] > 4 * 50  # input, truth, prediction, overlay
    assert [card.name for card in headlines(found)] == ["Pearson", "SSIM", "MAE", "planes compared"]


def test_stacks_are_shown_in_three_cuts(stacks, tmp_path):
    predicted, true, _ = stacks
    settings = ImageSettings(panels=1)
    found = evaluate_images(open_subjects(str(predicted), str(true), settings), tmp_path / "scores", settings)
    write_report(found, tmp_path / "scores")
    assert (tmp_path / "scores" / "panels" / "t_cuts.png").exists()


def test_planes_without_contrast_are_left_out_of_means_and_counted(tmp_path):
    true = np.stack([image(1), np.full((40, 50), 700, np.uint16)])
    predicted = np.stack([image(1), image(2)])
    volume(tmp_path / "t.tif", true, "zyx")
    volume(tmp_path / "p.tif", predicted, "zyx")
    found = evaluate(tmp_path / "p.tif", tmp_path / "t.tif", tmp_path / "scores")
    assert found.figures[0]["pearson"] == pytest.approx(1)
    assert math.isfinite(found.figures[0]["mae"])
    assert found.undefined == 1
    assert table(tmp_path / "scores" / "metrics_xy.csv")[1]["pearson"] == ""


def other_size(tmp_path):
    return frames(tmp_path / "p"), frames(tmp_path / "t", shape=(41, 50)), {}


def no_position(tmp_path):
    return frames(tmp_path / "p", positions=(0, 7, 9)), frames(tmp_path / "t"), {}


def no_slice(tmp_path):
    return frames(tmp_path / "p", slices=(1, 2)), frames(tmp_path / "t", slices=(3,)), {}


def no_channel(tmp_path):
    """Channel 2 is predicted everywhere, and true at position 0 alone."""
    folder = frames(tmp_path / "t")
    (folder / "im_c002_z003_t000_p001.png").unlink()
    return frames(tmp_path / "p"), folder, {}


def constant(tmp_path):
    volume(tmp_path / "t.tif", np.full((40, 50), 7, np.uint16), "yx")
    return volume(tmp_path / "p.tif", image(0), "yx"), tmp_path / "t.tif", {}


def constant_scaled(tmp_path):
    return *constant(tmp_path)[:2], {"percentiles": "1,99"}


def nan(tmp_path):
    values = image(0).astype(np.float32)
    values[7, 9] = np.nan
    return volume(tmp_path / "p.tif", values, "yx"), volume(tmp_path / "t.tif", image(0), "yx"), {}


def thin(tmp_path):
    return frames(tmp_path / "p"), frames(tmp_path / "t"), {"orientations": ("xz",)}


def unknown_position(tmp_path):
    return frames(tmp_path / "p"), frames(tmp_path / "t"), {"positions": ("p000", "p005")}


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (other_size, ["40 x 50", "41 x 50", "p000, p001"]),
        (no_position, ["2 of 3 positions", "p007, p009", "p000, p001"]),
        (no_slice, ["slices 1:3", "3:4", "p000, p001"]),
        (no_channel, ["channel c2", "at p001"]),
        (constant, ["t.tif", "is 7", "nothing to compare"]),
        (constant_scaled, ["t.tif", "is 7", "nothing to compare"]),
        (nan, ["p.tif", "NaN", "y 7, x 9"]),
        (thin, ["xz needs stacks", "p000 c1", "1 of 1"]),
        (unknown_position, ["p005", "p000, p001"]),
    ],
)
def test_mistakes_are_named(case, words, tmp_path):
    predicted, true, settings = case(tmp_path)
    with pytest.raises(UserError) as error:
        evaluate(predicted, true, tmp_path / "scores", **settings)
    for word in words:
        assert word in str(error.value), error.value


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"window": 8}, "7 or 9"),
        ({"percentiles": "9"}, "two numbers"),
        ({"sort_by": "dice"}, "not among"),
        ({"channels": ("a",)}, "PREDICTED=TRUE"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, word):
    with pytest.raises(UserError, match=word):
        ImageSettings.load(settings)
