"""The benchmark of long stacks, with few sections: its truth is true, and every method gets through it."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lamella.core.rng import stream
from lamella.ops.field import warp
from lamella.tasks.align.settings import AlignSettings
from tests.tasks.align.nets import estimator, untrained

_PATH = Path(__file__).parents[3] / "benchmarks" / "align" / "stack200.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("stack200", _PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their types
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def stack(bench):
    return bench.make_stack(bench.textures(stream(0, "texture"), 128), 10, 128, 4.0)


def test_the_truth_undoes_what_was_done(bench, stack):
    shown = torch.from_numpy(stack.sections)[:, None].float()
    undone = warp(shown, torch.from_numpy(stack.truth))[:, 0].numpy()
    inner = np.s_[bench.BORDER : -bench.BORDER, bench.BORDER : -bench.BORDER]
    for z in range(2, 10):
        if z - 1 == stack.damaged["lost"] or z == stack.damaged["lost"]:
            continue
        both = (stack.seen[z] & stack.seen[z - 1])[inner]
        before, after = (
            np.corrcoef(s[z][inner][both], s[z - 1][inner][both])[0, 1] for s in (stack.sections.astype(float), undone)
        )
        assert after > 0.5
        assert after > before + 0.05


def test_scores_are_distances_from_the_truth(bench, stack):
    assert all(row["med"] == row["p95"] == 0 for row in bench.scores(stack, stack.truth))
    rows = bench.scores(stack, stack.truth + np.float32([3, 4])[None, :, None, None])
    assert [row["z"] for row in rows] == [z for z in range(1, 10) if z != stack.damaged["lost"]]
    found = bench.summary(rows, 10, stack.damaged)
    assert all(value == pytest.approx(5, abs=1e-5) for value in found.values())


@pytest.mark.parametrize("method", ["sequence", "vote", "joint"])
def test_every_method_gets_through(bench, stack, method):
    few = bench.Stack(stack.sections[:4], stack.truth[:4], stack.seen[:4], stack.damaged)
    settings = AlignSettings.load({"method": method, "tile": 128})
    fields = bench.fields_of(few, estimator(untrained(2)), settings)
    assert fields.shape == few.truth.shape
    assert np.isfinite([row["p95"] for row in bench.scores(few, fields)]).all()
