"""An aligner as a method of a registration benchmark: two sections in, a field out; a stack in, its fields out.

The run is named by ``LAMELLA_RUN`` (a folder, or RUN:CHECKPOINT). ``BENCH_THREADS`` sets the threads (1), ``LAMELLA_METHOD`` how a stack
is aligned. With ``LAMELLA_FINDER``, a run of the task defects, pairs are masked by what it finds, as ``LAMELLA_FIND`` (JSON, see
``lamella defects``) says. Fields are float32 (2, y, x), (dy, dx) in pixels on the fixed grid: moving(p + field(p)) matches fixed(p).
"""

from __future__ import annotations

import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from halved import ONE_LOOK, at_half
from masked import detector, found
from numpy.typing import NDArray

from lamella.blockwise import Executor
from lamella.core.box import Box
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.ops.field import rescale
from lamella.ops.torn import rescale_torn
from lamella.recipe.aligner import load_estimator
from lamella.tasks.align.estimate import Estimator
from lamella.tasks.align.joint_settings import JointSettings
from lamella.tasks.align.refine_settings import RefineSettings
from lamella.tasks.align.settings import AlignSettings
from lamella.tasks.align.volume import align_volume

torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "1")))


def together() -> dict[str, Any]:
    """What ``LAMELLA_METHOD`` (sequence, vote, joint) and ``LAMELLA_JOINT``, its settings as JSON, say."""
    method = os.environ.get("LAMELLA_METHOD", "sequence")
    return {"method": method, "joint": JointSettings.load(json.loads(os.environ.get("LAMELLA_JOINT", "{}")))}


SETTINGS = AlignSettings(
    passes=int(os.environ.get("LAMELLA_PASSES", "3")),
    flip=os.environ.get("LAMELLA_FLIP", "1") == "1",
    symmetric=os.environ.get("LAMELLA_SYMMETRIC", "1") == "1",
    halvings=int(os.environ.get("LAMELLA_HALVINGS", "0")),
    refine=RefineSettings(
        steps=int(os.environ.get("LAMELLA_REFINE", RefineSettings().steps)),
        leaps=int(os.environ.get("LAMELLA_LEAPS", "0")),
    ),
    tile=2048,
    **together(),
)


@cache
def estimator(settings: AlignSettings = SETTINGS) -> Estimator:
    return load_estimator(os.environ["LAMELLA_RUN"], settings, device="cpu")[0]


def pair(fixed: NDArray[np.uint8], moving: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The field of one pair."""
    if run := os.environ.get("LAMELLA_FINDER"):
        finder = detector(run, os.environ.get("LAMELLA_FIND", "{}"))
        return estimator().pair(moving, fixed, found(finder, moving), found(finder, fixed))
    return estimator().pair(moving, fixed)


def quick(fixed: NDArray[np.uint8], moving: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The field of one pair by one look at half its size."""
    looking = estimator(AlignSettings.load({**ONE_LOOK, "tile": 2048}))
    return at_half(looking.pair, fixed, moving)


def volume(sections: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The fields (z, 2, y, x) of a stack, as ``lamella align`` writes them; the first is zero."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stack.ome.zarr"
        box = Box.of(sections.shape)
        create_volume(str(path), box=box, dtype=sections.dtype, meta=Meta.plain("zyx"))[0].write(box, sections)
        out = str(Path(folder) / "aligned.ome.zarr")
        paths = align_volume(open_volume(str(path)), out, estimator(), SETTINGS, executor=Executor(workers=1))
        stored = open_volume(paths.fields)
        coarse = torch.from_numpy(stored.read(stored.box)).movedim(0, 1)
        size = (sections.shape[1], sections.shape[2])
        finely = rescale_torn if SETTINGS.refine.leaps else rescale
        return finely(coarse, estimator().fine_levels, size).numpy()
