"""Small cells on a dark ground, and a study of them that takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from skimage.draw import disk

SIDE = 64
_NET = {"kind": "unet", "features": [4, 8], "down": [2], "edges": "replicate"}
_TRAINER = {
    "trainer.steps": 4,
    "trainer.batch_size": 1,
    "trainer.device": "cpu",
    "trainer.panels_every": 0,
    "trainer.graph": False,
}


def write_cells(folder: Path, number: int, seed: int) -> Path:
    """``number`` images with bright discs in noise, and their labels, in ``folder``."""
    rng = np.random.default_rng(seed)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for index in range(number):
        labels = np.zeros((SIDE, SIDE), np.uint16)
        for k, centre in enumerate(rng.permutation([(14, 14), (14, 48), (48, 14), (48, 48)])[:3], 1):
            labels[disk(centre, 8, shape=labels.shape)] = k
        image = np.where(labels > 0, 150, 50) + rng.normal(0, 10, labels.shape)
        tifffile.imwrite(folder / "images" / f"{folder.name}{index}.tif", image.clip(0, 255).astype(np.uint8))
        tifffile.imwrite(folder / "labels" / f"{folder.name}{index}.tif", labels)
    return folder


def study_values(folder: Path, **changes: Any) -> dict[str, Any]:
    """The values of a study of cells that are written to ``folder``."""
    for seed, (name, number) in enumerate((("train", 2), ("val", 1), ("test", 1))):
        write_cells(folder / name, number, seed)
    values: dict[str, Any] = {
        "train": {"path": str(folder / "train")},
        "validation": {"path": str(folder / "val")},
        "test": {"path": str(folder / "test")},
        "points": [4, 20],
        "seeds": 2,
        "thresholds": [0.3, 0.5],
        "objects": {"kind": "components", "boundaries": "none", "min_size": 20},
        "contrast": {
            "recipe": "contrast",
            "set": {
                **_TRAINER,
                "task.net": _NET,
                "task.h_channels": 4,
                "data.crop": 48,
                "task.point_density": 0.02,
                "data.overhang": 0,
            },
        },
        "scratch": {
            "recipe": "head_baseline",
            "set": {**_TRAINER, "data.crop": 32, "data.context": 0, "task.specimen": []},
        },
        "looks": 2,
        "head": {"steps": [2, 20]},
        "forest": {"trees": 5, "sigma_max": 2.0},
    }
    return {**values, **changes}
