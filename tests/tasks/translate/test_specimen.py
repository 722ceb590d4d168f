"""Synthetic frames: the same from the same seed, with what a net needs in them and the stains where they should be."""

import json

import numpy as np
import pytest

from lamella.core.rng import stream
from lamella.io import open_volume, positions_of, present
from lamella.tasks.translate.baseline import Ridge, count, features
from lamella.tasks.translate.specimen import CHANNELS, SpecimenConfig, write_specimen
from lamella.tasks.translate.specimen_cells import make_cells
from lamella.tasks.translate.specimen_optics import Optics, through_focus

SMALL = SpecimenConfig(positions=2, size=(96, 80), slices=5)


@pytest.fixture(scope="module")
def specimen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("specimen") / "frames"
    write_specimen(SMALL, 0, folder)
    return folder


def test_frames_hold_a_stack_and_two_stains_at_its_middle(specimen):
    assert positions_of(specimen) == ("p000", "p001")
    volume = open_volume(specimen, dataset="p001")
    assert volume.box.shape == (1, 3, 5, 96, 80)
    assert volume.meta.channel_names == CHANNELS
    assert volume.meta.voxel_size[2:] == (2.0, 0.65, 0.65)
    there = present(volume)[0]
    assert there[0].all()
    assert [list(np.flatnonzero(there[c])) for c in (1, 2)] == [[2], [2]]
    assert len(list(specimen.glob("im_*.png"))) == 2 * (5 + 2)
    assert json.loads((specimen / "specimen.json").read_text())["seed"] == 0


def test_the_same_seed_gives_the_same_frames(specimen, tmp_path):
    write_specimen(SMALL, 0, tmp_path / "again")
    write_specimen(SMALL, 1, tmp_path / "other")
    files = {
        f: {p.name: p.read_bytes() for p in f.glob("im_*.png")}
        for f in (specimen, tmp_path / "again", tmp_path / "other")
    }
    first, again, other = files.values()
    assert first == again
    assert first != other


def test_nuclei_lie_in_cells_and_cytoplasm_leaves_them_out():
    cells = make_cells(stream(0, "cells"), (128, 128), (17.0, 28.0), 0.5)
    inside = cells.nuclei > 0.5
    assert 0.02 < inside.mean() < 0.25
    around = cells.cytoplasm > 0.2
    assert cells.cytoplasm[inside].mean() < cells.cytoplasm[around & ~inside].mean()
    assert sum(layer.any() for layer in cells.layers) >= 2


def test_a_delay_is_dark_on_one_side_of_focus_and_bright_on_the_other():
    layer = np.zeros((65, 65), np.float32)
    y, x = np.mgrid[:65, :65] - 32
    layer[:] = np.exp(-(y**2 + x**2) / 18)
    plain = Optics(ring=0, grain=0, falloff=0)
    stack = through_focus(np.random.default_rng(0), [layer], [0.0], 3, plain).astype(float)
    flat = 0.5 * 65535
    centre = stack[:, 32, 32] - flat
    assert abs(centre[1]) < 2
    assert centre[0] == pytest.approx(-centre[2], rel=1e-2)
    assert abs(centre[0]) > 500


def test_ridge_finds_what_is_linear_in_its_filters_and_no_more():
    rng = np.random.default_rng(0)
    stack = rng.normal(size=(3, 40, 50)).astype(np.float32)
    linear = np.stack([2 * stack[0] - stack[2] + 5, features(stack)[..., -1]]).astype(np.float32)
    assert features(stack).shape == (40, 50, count(stack))
    found = Ridge.fit([stack], [linear])(stack)
    for a, b in zip(found, linear, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99
        assert a.mean() == pytest.approx(b.mean(), abs=float(0.1 * b.std()))
    product = (stack[0] * stack[1])[None]
    made = Ridge.fit([stack], [product])(stack)
    assert np.corrcoef(made.ravel(), product.ravel())[0, 1] < 0.5
