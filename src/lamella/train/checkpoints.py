"""Checkpoints: written so that a kill leaves the old one whole, and read as weights by anyone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lamella.core.errors import UserError

AVERAGE = "average"  # the net's averaged state, beside Lightning's entries
_NET = "net."  # where Lightning keeps the task's net in its state


@dataclass(frozen=True)
class Loaded:
    """What became of each parameter and buffer when weights were loaded into a net."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    """In the net only: they keep their first values."""
    unused: tuple[str, ...]
    """In the checkpoint only."""
    mismatched: tuple[str, ...]
    """In both with different shapes: they keep their first values."""

    def summary(self) -> str:
        parts = [f"{len(self.loaded)} loaded"]
        for label, names in (
            ("not in the checkpoint", self.missing),
            ("of another shape", self.mismatched),
            ("not in the net", self.unused),
        ):
            if names:
                parts.append(f"{len(names)} {label}: {', '.join(names)}")
        return "; ".join(parts)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU; only tensors and plain values are unpickled."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"cannot read checkpoint {path}: {error}; choose another of the run's checkpoints") from error


def weights(checkpoint: Mapping[str, Any], *, average: bool = True) -> dict[str, Tensor]:
    """The net's parameters and buffers by name: averaged if the run averaged them, unless ``average`` is False."""
    if average and AVERAGE in checkpoint:
        return dict(checkpoint[AVERAGE])
    return {k.removeprefix(_NET): v for k, v in checkpoint["state_dict"].items() if k.startswith(_NET)}


def load_weights(net: nn.Module, state: Mapping[str, Tensor], source: str) -> Loaded:
    """Load the weights whose name and shape fit; refuse if none does."""
    own = net.state_dict()
    fitting = {name for name in own if name in state and state[name].shape == own[name].shape}
    if not fitting:
        raise UserError(
            f"nothing of {source} fits the net: no parameter has the same name and shape; check the recipes"
        )
    net.load_state_dict({name: state[name] for name in own if name in fitting}, strict=False)
    return Loaded(
        loaded=tuple(name for name in own if name in fitting),
        missing=tuple(name for name in own if name not in state),
        unused=tuple(name for name in state if name not in own),
        mismatched=tuple(name for name in own if name in state and name not in fitting),
    )


def digest(path: Path) -> str:
    """SHA-256 of a checkpoint file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
