"""What an inspection shows is what the net does: known nets give known figures."""

import csv

import h5py
import numpy as np
import pytest
import torch

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.data.source import SourceConfig
from lamella.ops.normalise import Plain
from lamella.tasks.align.inspect import Pair, find_pair, inspect_pair
from lamella.tasks.align.inspect_settings import InspectSettings
from lamella.tasks.align.inspection_report import draw, headlines, main_directions, remark, write_inspection
from tests.tasks.align.nets import constant, matcher, untrained

SIZE = (40, 52)


def pair(dy=2, dx=-1):
    image = np.random.default_rng(0).uniform(0.01, 1, (60, 72)).astype(np.float32)
    target = image[10:50, 10:62]
    return Pair("there.zarr", 0, Box.of((2, *SIZE)), image[10 - dy : 50 - dy, 10 - dx : 62 - dx], target)


def test_a_net_that_matches_is_seen_to():
    found = inspect_pair(matcher(), pair())
    (level,) = found.levels
    inside = (..., slice(8, -8), slice(8, -8))
    np.testing.assert_allclose(found.field[inside] - np.array([[[2.0]], [[-1.0]]]), 0, atol=1e-4)
    np.testing.assert_allclose(level.after[inside], 1, atol=1e-4)
    assert np.abs(level.before[inside]).mean() < 0.4
    assert level.null < 0.4
    assert abs(level.images_before) < 0.1
    assert level.images_after > 0.7
    row = level.row()
    assert (row["level"], row["pixel"], row["maps"], row["silent maps"]) == (0, 1, 24, 0)
    assert row["moved, longest px"] == pytest.approx(np.hypot(2, 1), abs=1e-3)
    assert remark(found) is None


def test_levels_come_coarse_to_fine_and_residuals_add_up():
    found = inspect_pair(untrained(skip=1), pair())
    assert [level.level for level in found.levels] == [2, 1]
    coarse, fine = found.levels
    np.testing.assert_array_equal(coarse.residual, coarse.field)
    assert fine.field.shape == (2, 20, 26)
    assert fine.source.shape == (4, 20, 26)
    assert fine.row()["moved, mean px"] == pytest.approx(2 * np.hypot(*fine.residual).mean(), rel=1e-5)
    assert found.field.shape == (2, *SIZE)


def test_a_collapsed_net_is_named():
    found = inspect_pair(constant(0, 0), pair())
    assert "as good as zero" in remark(found)
    assert all(row["moved, longest px"] == 0 for row in found.rows())
    assert found.levels[-1].images_after == found.levels[-1].images_before


def test_maps_that_say_nothing_are_counted():
    net = untrained()
    with torch.no_grad():
        for encoder in net.encoders.values():
            encoder.layers[2].weight[0].abs_()
            encoder.layers[2].weight[1:] = 0
    assert [row["silent maps"] for row in inspect_pair(net, pair()).rows()] == [3, 3, 3]
    assert headlines(inspect_pair(net, pair()))[-1].value == "9 of 12"


def test_alike_encodings_have_one_colour():
    rng = np.random.default_rng(0)
    image = rng.standard_normal((4, 9, 11)).astype(np.float32)
    colours = main_directions(np.stack([image, image[..., ::-1]]))
    assert colours.shape == (2, 9, 11, 3)
    np.testing.assert_array_equal(colours[0], colours[1][:, ::-1])
    assert not main_directions(image[None, :2])[..., 2].any()  # two maps have two directions


def test_files_and_page(tmp_path):
    found = inspect_pair(untrained(), pair())
    page = write_inspection(found, tmp_path / "out", 2, {"run": "first"})
    names = {p.name for p in page.parent.iterdir()}
    assert names == {*draw(found, 2), "levels.csv", "report.html"}
    assert {"encodings_0.png", "encodings_2.png", "fields.png", "correlation.png", "after.gif"} <= names
    text = page.read_text()
    assert text.count('src="data:image/') == len(names) - 2 - 2  # source and target are shown by the flickering pairs
    assert "src=" not in text.replace('src="data:', "")
    with open(tmp_path / "out" / "levels.csv") as file:
        assert [row["level"] for row in csv.DictReader(file)] == ["2", "1", "0"]
    with pytest.raises(UserError, match="--overwrite"):
        write_inspection(found, tmp_path / "out", 2, {})
    write_inspection(found, tmp_path / "out", 1, {}, overwrite=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="holds no inspection"):
        write_inspection(found, tmp_path / "work", 2, {}, overwrite=True)
    assert (tmp_path / "work" / "thesis.tex").exists()


@pytest.fixture
def archive(tmp_path):
    stacks = np.random.default_rng(0).integers(1, 256, (2, 5, 64, 80), np.uint8)
    stacks[1, 3] = 0
    with h5py.File(tmp_path / "stacks.h5", "w") as file:
        file["main"] = stacks
    return SourceConfig(path=str(tmp_path / "stacks.h5")), stacks


def found(archive, **settings):
    return find_pair(archive[0], InspectSettings.load(settings), Plain())


def test_the_pair_is_where_it_was_asked_for(archive):
    _, stacks = archive
    pair = found(archive, size=32)
    assert pair.box == Box((0, 1, 16, 24), (1, 3, 48, 56))  # section 2, in the middle
    np.testing.assert_allclose(pair.source, stacks[0, 2, 16:48, 24:56] / 255)
    np.testing.assert_allclose(pair.target, stacks[0, 1, 16:48, 24:56] / 255)
    assert found(archive, z=1, centre="0,79", size=40, sample=1).box == Box((1, 0, 0, 40), (2, 2, 40, 80))
    assert found(archive, bbox="3:50,7:70").box.shape == (1, 2, 47, 63)
    assert found(archive, mip=1).target.shape == (32, 40)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"z": 0}, "no section before it there; choose --z from 1 to 4"),
        ({"z": 5}, "choose --z from 1 to 4"),
        ({"sample": 2}, "sample 2 does not exist"),
        ({"sample": 1, "z": 3}, "section 3 .* holds no data"),
        ({"centre": "5"}, "is not Y,X"),
        ({"centre": "5,80"}, "outside the section"),
        ({"bbox": "0:100,0:10"}, "does not lie inside"),
        ({"bbox": "0:10,0:10", "centre": "5,5"}, "give one of them"),
        ({"dataset": "masks"}, "masks"),
    ],
    ids=str,
)
def test_places_that_are_not_there_are_refused(archive, settings, message):
    with pytest.raises(UserError, match=message):
        found(archive, **settings)
