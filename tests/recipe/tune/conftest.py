"""A recipe whose trials take no time: an aligner of a few hundred parameters on two small stacks."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter


@pytest.fixture(scope="session")
def values(tmp_path_factory) -> dict[str, Any]:
    """The recipe as written. Its loss depends on the weights alone, since the same two windows come again and again."""
    path = tmp_path_factory.mktemp("archive") / "stacks.h5"
    noise = gaussian_filter(np.random.default_rng(0).random((2, 60, 60)), (0, 1.5, 1.5))
    noise = (noise - noise.min()) / np.ptp(noise) * 250 + 1
    with h5py.File(path, "w") as file:
        file["main"] = np.stack([noise[:, 4:52, 4:52], noise[:, 5:53, 6:54]], 1).astype(np.uint8)
    return {
        "task": {
            "kind": "align",
            "net": {"levels": 2, "skip": 0, "features": 2, "features_step": 1, "channels": [3], "kernel": 3},
            "consensus": {"deformation": 0, "round_trip": 0, "unrelated": 0},
            "known_weight": 0,
            "specimen": [],
            "imaging": [],
        },
        "data": {"sources": [{"path": str(path)}], "crop": 32, "normaliser": {"kind": "none"}, "length": 2},
        "validation": {"length": 2},
        "trainer": {"steps": 4, "batch_size": 2, "log_every": 1, "validate_every": 2, "checkpoint_every": 1}
        | {"device": "cpu", "threads": 1},
    }
