"""A folder with a volume, an archive and a trained run, and what is wrong with some of them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from lamella.core.box import Box
from lamella.core.volume import Meta
from lamella.io import create_volume
from lamella.recipe.find import load_recipe
from lamella.recipe.train import train
from lamella.runs import RunFolder

SHAPE = (5, 72, 80)
TINY = (
    "data.crop=40",
    "data.normaliser={kind: none}",
    "task.net={levels: 2, skip: 0, features: 2, features_step: 1, channels: [3], kernel: 3, correlation: 1}",
    "task.specimen=[]",
    "task.imaging=[]",
    "trainer={steps: 2, batch_size: 2, log_every: 1, checkpoint_every: 2, panels_every: 0, device: cpu, threads: 1}",
)


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """The folder. Tests run in it and leave it as it is."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    put(folder / "raw.zarr", rng.integers(1, 256, SHAPE, np.uint8), "zyx")
    put(folder / "channels.zarr", rng.integers(1, 256, (2, *SHAPE), np.uint8), "czyx")
    put(folder / "labels.zarr", rng.integers(1, 256, SHAPE).astype(np.int64), "zyx")
    put(folder / "other.zarr", rng.integers(1, 256, (5, 40, 40), np.uint8), "zyx", start=(0, 500, 500))
    for name in ("stacks.h5", "there.h5"):
        with h5py.File(folder / name, "w") as file:
            file["main"] = rng.integers(1, 256, (2, 3, 64, 64), np.uint8)
    for name, file in (("there.zarr", "work.txt"), ("there", "work.txt"), ("scores", "scores.json")):
        (folder / name).mkdir()
        (folder / name / file).write_text("a day's work")
    (folder / "notes.txt").write_text("x")
    (folder / "broken.yaml").write_text("task: {kind: align, nett: {levels: 3}}\ndata: {sources: [{path: raw.zarr}]}\n")
    (folder / "elsewhere.yaml").write_text("task: {kind: denoise}\n")
    (folder / "torn.yaml").write_text("task: {kind: align\n")
    (folder / "none.yaml").write_text("- 1\n")
    train(load_recipe("align", [f"data.sources.0.path={folder / 'raw.zarr'}", *TINY]), "first", runs=folder / "runs")
    other = RunFolder.create("other", {"task": {"kind": "denoise"}}, runs=folder / "runs", seed=0)
    (other.path / "checkpoints" / "last.ckpt").write_bytes((folder / "runs/first/checkpoints/last.ckpt").read_bytes())
    empty = RunFolder.create(
        "empty", yaml.safe_load((folder / "runs/first/recipe.yaml").read_text()), runs=folder / "runs"
    )
    assert not empty.checkpoints()
    return folder


def put(path: Path, array: np.ndarray, axes: str, start: tuple[int, ...] | None = None) -> None:
    box = Box.of(array.shape).shift(start or (0,) * array.ndim)
    (volume,) = create_volume(str(path), box=box, dtype=array.dtype, meta=Meta.plain(axes))
    volume.write(box, array)
