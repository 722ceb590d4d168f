"""The benchmarks of open questions and of the original's table: their truth is true, and their figures are what they say."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from lamella.ops.field import warp

_FOLDER = Path(__file__).parents[3] / "benchmarks"
SIDE = 160


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their types
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pairs(monkeypatch):
    module = load(_FOLDER / "open_questions_pairs.py")
    monkeypatch.setattr(module, "SIDE", SIDE)
    return module


def texture(seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((SIDE, SIDE)), 3)
    return np.clip(128 + 60 * noise / noise.std(), 1, 255).astype(np.uint8)


@pytest.mark.parametrize("damage", ["none", "crack", "fold"])
def test_known_fields_undo_what_was_done(pairs, damage):
    pair = pairs.make_pair("here", texture(0), texture(1), damage, 6.0)
    undone = warp(torch.from_numpy(pair.moving.astype(np.float32))[None, None], pair.truth)[0, 0].numpy()
    dark = warp(torch.from_numpy((pair.damage == 2).astype(np.float32))[None, None], pair.truth)[0, 0].numpy() > 0
    seen = pair.seen & ~dark
    before, after = (np.corrcoef(v[seen], pair.fixed[seen])[0, 1] for v in (pair.moving, undone))
    assert after > 0.8
    assert after > before + 0.1
    assert pair.near.any() == (damage != "none") == (pair.damage.max() == 2)


def test_the_table_has_a_null_beside_what_fits():
    table = load(_FOLDER / "align" / "paper_table.py")
    own, other = texture(0), texture(1)

    def shift(fixed, moving):
        return np.stack([np.zeros(fixed.shape), np.full(fixed.shape, 3.0)])

    row = table.measure(shift, [(np.roll(own, 3, 1), own, other)] * 2)
    assert row["pairs"] == 2
    assert row["after"]["mean"] == pytest.approx(1, abs=1e-6)
    assert row["after"]["p1"] == pytest.approx(1, abs=1e-6)
    assert row["after"]["variance"] == pytest.approx(0, abs=1e-6)
    assert row["null"]["mean"] == pytest.approx(0, abs=0.15)
    assert row["null"]["p1"] < 0 < row["null"]["p99"]
