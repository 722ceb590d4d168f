"""Names of what images are compared by; see ``image_scores``. In a file of its own so that help imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Orientation = Literal["xy", "xz", "yz", "xyz"]
Metric = Literal["mae", "mse", "r2", "pearson", "ssim", "ms_ssim", "psnr", "dice", "accuracy"]

PLANE_AXIS: Mapping[Orientation, int | None] = {"xy": 0, "xz": 1, "yz": 2, "xyz": None}
"""The axis of z y x that planes of an orientation are counted along."""
ERRORS: tuple[Metric, ...] = ("mae", "mse")
"""Metrics of which less is better."""
