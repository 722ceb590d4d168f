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


def write_volume(folder: Path, seed: int) -> None:
    """A volume of six sections with bright columns in noise, and its labels, as two TIFF stacks."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((6, 40, 40), np.uint16)
    for k, centre in enumerate(((10, 10), (10, 30), (30, 20)), 1):
        labels[(slice(None), *disk(centre, 6, shape=labels.shape[1:]))] = k
    image = np.where(labels > 0, 150, 50) + rng.normal(0, 10, labels.shape)
    for name, array in (("images", image.clip(0, 255).astype(np.uint8)), ("labels", labels)):
        (folder / name).mkdir(parents=True)
        tifffile.imwrite(folder / name / f"{folder.name}.tif", array, metadata={"axes": "ZYX"})


def volume_values(folder: Path) -> dict[str, Any]:
    """The values of a study of volumes, with nets that see sections and their neighbours."""
    for seed, name in enumerate(("train", "val", "test")):
        write_volume(folder / name, seed)
    net = {**_NET, "ndim": 3, "down": [[1, 2, 2]]}
    moved = {"task.specimen": [{"kind": "mirror"}], "data.crop": [4, 24, 24]}
    return {
        "train": {"path": str(folder / "train")},
        "validation": {"path": str(folder / "val")},
        "test": {"path": str(folder / "test")},
        "ndim": 3,
        "points": [10],
        "seeds": 1,
        "thresholds": [0.3, 0.5],
        "objects": {"kind": "membranes", "slices": False},
        "figure": "voi_sum",
        "contrast": {
            "recipe": "contrast",
            "set": {
                **_TRAINER,
                **moved,
                "task.net": net,
                "task.loss": "vicreg",
                "task.beside": [0, [0, 1, 1]],
                "data.overhang": 0,
                "task.trim": 1.0,
            },
        },
        "scratch": {"recipe": "head_baseline", "set": {**_TRAINER, **moved, "data.context": 0, "task.trim": 1.0}},
        "looks": 1,
        "head": {"steps": [20]},
        "forest": {"trees": 5, "sigma_max": 2.0},
    }
