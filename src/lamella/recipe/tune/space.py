"""What a search may vary: recipe keys and the values that each can take.

| written | tries |
|---|---|
| `KEY=log(1e-5,1e-2)` | numbers whose logarithm is uniform |
| `KEY=uniform(0,0.5)` | numbers, uniform |
| `KEY=int(2,6)` | whole numbers, both ends included |
| `KEY=logint(4,64)` | whole numbers whose logarithm is uniform |
| `KEY=choice(adam,adamw)` | one of these values, each as YAML |
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from lamella.core.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_SPEC = re.compile(r"([^=]+)=(log|uniform|int|logint|choice)\((.*)\)", re.DOTALL)
_FORMS = "log(LOW,HIGH), uniform(LOW,HIGH), int(LOW,HIGH), logint(LOW,HIGH) or choice(A,B,...)"


@dataclass(frozen=True)
class Range:
    """The values of one key: numbers from ``low`` to ``high``, or ``choices``."""

    key: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[Any, ...] = ()

    @property
    def whole(self) -> bool:
        return self.kind.endswith("int")

    @property
    def log(self) -> bool:
        return self.kind.startswith("log")

    def distribution(self) -> BaseDistribution:
        """The range as Optuna sees it; of choices it sees their JSON, since it cannot keep lists and mappings."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind == "choice":
            return CategoricalDistribution([json.dumps(choice) for choice in self.choices])
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def value(self, drawn: Any) -> Any:
        """The value for the recipe of what Optuna drew."""
        return json.loads(drawn) if self.kind == "choice" else drawn

    def corners(self) -> tuple[Any, ...]:
        """The values that a recipe must accept for all to be accepted."""
        if self.kind == "choice":
            return self.choices
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


def split(words: Sequence[str]) -> tuple[list[Range], list[str]]:
    """Ranges to search, and plain changes, from the words of a command."""
    found = [(word, parse_range(word)) for word in words]
    ranges = [r for _, r in found if r]
    if not ranges:
        raise UserError(
            f"nothing to search: give at least one KEY={_FORMS}, for example trainer.learning_rate=log(1e-5,1e-2)"
        )
    keys = [r.key for r in ranges]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise UserError(f"{twice} is given two ranges; give one")
    return ranges, [word for word, r in found if not r]


def parse_range(word: str) -> Range | None:
    """The range that a word of the command gives a key; None if it gives a plain value."""
    match = _SPEC.fullmatch(word)
    return _range(word, *match.groups()) if match else None


def changes(ranges: Sequence[Range], drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Recipe keys and values of what Optuna drew."""
    return {r.key: r.value(drawn[r.key]) for r in ranges}


def _range(word: str, key: str, kind: str, inside: str) -> Range:
    try:
        values = yaml.safe_load(f"[{inside}]")
    except yaml.YAMLError:
        raise UserError(f"{word!r} cannot be read; write KEY={_FORMS}") from None
    if kind == "choice":
        if len(values) < 2:
            raise UserError(f"{word!r} leaves no choice; give two values or more")
        return Range(key, kind, choices=tuple(values))
    return _numeric(word, key, kind, values)


def _numeric(word: str, key: str, kind: str, values: Sequence[Any]) -> Range:
    try:
        low, high = (float(value) for value in values)
    except (TypeError, ValueError):
        raise UserError(f"{word!r} needs two numbers, the lowest and the highest") from None
    found = Range(key, kind, low, high)
    if low >= high or (found.log and low <= 0):
        raise UserError(
            f"{word!r}: the first number must be lower than the second" + (" and above 0" if found.log else "")
        )
    if found.whole and (low != int(low) or high != int(high)):
        raise UserError(f"{word!r} needs whole numbers")
    return found
