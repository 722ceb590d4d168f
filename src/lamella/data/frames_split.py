"""Which part of an experiment is trained on, which is held out, and which is kept for the final test.

A part is a set of values of one column: positions, times, slices, samples, or any further column of the table of frames. Values
are shuffled by the split's own seed and dealt out by ratio. Once dealt out they are written down (``parts``), in the recipe of the
run and in its ``split.json``, and what is written down is used as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from lamella.core.config import Config, read_yaml
from lamella.core.errors import UserError
from lamella.core.rng import stream

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
Parts = dict[Part, tuple[str, ...]]


class Split(Config):
    """How samples are divided."""

    column: str = Field(
        "position", description="position, time, slice, sample, or a further column of the table of frames"
    )
    train: float = Field(0.75, ge=0, description="share of the values to train on")
    validation: float = Field(0.25, ge=0, description="share to hold out")
    test: float = Field(0.0, ge=0, description="share that training never sees")
    seed: int = Field(0, description="of the shuffling")
    parts: Parts | None = Field(None, description="the values of each part, instead of shares")

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, values: Any) -> Any:
        """The path of a ``split.json``, or of a run that has one, stands for what is in it."""
        if not isinstance(values, str):
            return values
        path = Path(values)
        return read_yaml(path / "split.json" if path.is_dir() else path)  # JSON is YAML

    @model_validator(mode="after")
    def _check(self) -> Split:
        if self.parts is None:
            if not self.train > 0:
                raise ValueError(f"train {self.train} leaves nothing to train on; give it a share above 0")
            return self
        seen: dict[str, str] = {}
        for part, names in self.parts.items():
            for name in names:
                if name in seen:
                    raise ValueError(f"{self.column} {name} is in {seen[name]} and in {part}; leave it in one of them")
                seen[name] = part
        return self

    def ratio(self, part: Part) -> float:
        """The share of a part, of all that the shares sum up to."""
        shares = {"train": self.train, "validation": self.validation, "test": self.test}
        return shares[part] / math.fsum(shares.values())

    def settled(self, values: Sequence[str]) -> Split:
        """With the parts written down. ``values`` are all different values of the column, in order.

        Raises UserError for shares that leave a part without any value, and for values written down that do not exist.
        """
        if self.parts is not None:
            _check_known(self, self.parts, values)
            return self
        counts = self._counts(len(values))
        empty = [part for part in PARTS if self.ratio(part) > 0 and counts[part] == 0]
        if empty:
            told = ", ".join(f"{part} {self.ratio(part):.3g}" for part in PARTS)
            raise UserError(
                f"the split by {self.column} has {len(values)} values ({_listed(values)}), and shares of {told} leave "
                f"nothing for {' and '.join(empty)}; change data.split's shares, or split by another column"
            )
        order = stream(self.seed, "split").permutation(len(values))
        parts: Parts = {}
        first = 0
        for part in PARTS:
            chosen = sorted(int(k) for k in order[first : first + counts[part]])
            parts[part] = tuple(values[k] for k in chosen)
            first += counts[part]
        return self.model_copy(update={"parts": parts})

    def _counts(self, num: int) -> Mapping[Part, int]:
        """How many of ``num`` values each part gets: the whole numbers of its share, and the rest by the largest remainder."""
        exact = {part: self.ratio(part) * num for part in PARTS}
        counts = {part: math.floor(share + 1e-9) for part, share in exact.items()}  # 0.1 * 30 is a little below 3
        rest = sorted(PARTS, key=lambda part: counts[part] - exact[part])  # stable, so train comes before test
        for part in rest[: num - sum(counts.values())]:
            counts[part] += 1
        return counts


def _check_known(split: Split, parts: Parts, values: Sequence[str]) -> None:
    unknown = [f"{name} ({part})" for part, names in parts.items() for name in names if name not in values]
    if unknown:
        raise UserError(
            f"the split names {split.column} {_listed(unknown)}, which the data do not have; they have {_listed(values)}"
        )


def _listed(names: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
