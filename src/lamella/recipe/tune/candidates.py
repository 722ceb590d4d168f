"""Settings of methods that make instances: those to try first, spread over their ranges, and then those around the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from scipy.stats import qmc

from lamella.core.config import override
from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.ops.instances import InstancesConfig
from lamella.recipe.tune.space import Range, parse_range

Values = dict[str, Any]
"""The fields of an instances config, ``kind`` among them."""

_FOREGROUND = (
    "boundaries=choice(none,soft,hard)",
    "boundary_threshold=uniform(0.2,0.8)",
    "min_size=choice(0,10,20,40,80)",
)
_SPACES = {
    "components": ("threshold=uniform(0.1,0.9)", *_FOREGROUND, "opening=int(0,2)", "dilation=int(0,2)"),
    "watershed": (
        "threshold=uniform(0.1,0.9)",
        *_FOREGROUND,
        "median=choice(1,3,5)",
        "suppress=int(2,12)",
        "smooth=uniform(0,3)",
    ),
    "basins": (
        "threshold=uniform(0.1,0.9)",
        *_FOREGROUND,
        "smooth=uniform(0,3)",
        "valleys=choice(0,0.5,1,2)",
        "merge=uniform(0.4,1.0)",
    ),
    "membranes": (
        "threshold=uniform(0.1,0.9)",
        "smooth=uniform(0,3)",
        "merge=uniform(0.2,1.0)",
        "min_size=choice(0,10,20,40,80)",
    ),
}
_ADAPTER: TypeAdapter[Any] = TypeAdapter(InstancesConfig)
_NEAR = 0.15  # half width of the first neighbourhood, as a share of each range; half as much in every further round
_KEEP = 0.8  # chance that a neighbour keeps a choice


def kinds_for(maps: Sequence[str], wanted: Sequence[str], own: str) -> list[str]:
    """The methods to try: those that are wanted, or all that the net's maps allow (without membranes, unless the run uses them).

    Raises UserError for a method that does not exist or that needs maps which the net does not give.
    """
    for kind in wanted:
        if kind not in _SPACES:
            raise UserError(f"there is no method {kind!r}; choose among {', '.join(_SPACES)}")
        if lacking := [m for m in config({"kind": kind}).build().needs if m not in maps]:
            raise UserError(f"{kind} needs the map {lacking[0]!r}, and this run's net gives {', '.join(maps)} only")
    allowed = [k for k in _SPACES if all(m in maps for m in config({"kind": k}).build().needs)]
    return list(wanted) or [kind for kind in allowed if kind != "membranes" or own == kind]


def space_of(kind: str, maps: Sequence[str], words: Sequence[str]) -> tuple[list[Range], Values]:
    """What to vary of a method and what stays: its own ranges, replaced by those of ``words`` (KEY=RANGE or KEY=VALUE)."""
    fields = set(type(config({"kind": kind})).model_fields)
    own = {word.partition("=")[0]: word for word in _SPACES[kind]}
    given = {word.partition("=")[0]: word for word in words if word.partition("=")[0] in fields}
    ranges, fixed = [], {"kind": kind}
    for word in {**own, **given}.values():
        if found := parse_range(word):
            ranges.append(found)
        else:
            fixed |= _fixed(word)
    if "boundaries" not in maps:
        ranges = [r for r in ranges if not r.key.startswith(("boundar", "valleys"))]
        fixed |= {"boundaries": "none"} if "boundaries" in fields else {}
    for r in ranges:
        for corner in r.corners():
            config({**fixed, r.key: corner})
    return ranges, fixed


def check_words(words: Sequence[str], kinds: Sequence[str]) -> None:
    """Refuse a key that none of the methods has."""
    known = {name for kind in kinds for name in type(config({"kind": kind})).model_fields} - {"kind"}
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals or key not in known:
            raise UserError(f"{word!r} names no setting of {' or '.join(kinds)}; they have {', '.join(sorted(known))}")


def config(values: Mapping[str, Any]) -> Any:
    """The instances config of these values."""
    try:
        return _ADAPTER.validate_python(dict(values))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"][1:])
        raise UserError(f"{values['kind']}: {where} is {problem['input']!r}: {problem['msg']}") from None


def first_values(kind: str, space: tuple[list[Range], Values], count: int, seed: int) -> list[Values]:
    """All combinations if there are only choices, and no more than ``count``; else ``count`` points spread evenly (Sobol)."""
    ranges, fixed = space
    choices = math.prod(len(r.choices) if r.kind == "choice" else count + 1 for r in ranges)
    if choices <= count:
        combined = product(*(r.choices for r in ranges))
        return [{**fixed, **dict(zip([r.key for r in ranges], values, strict=True))} for values in combined]
    rng = stream(seed, "instances", kind)
    points = qmc.Sobol(len(ranges), rng=rng).random_base2(math.ceil(math.log2(count)))[:count]
    return [{**fixed, **{r.key: _at(r, x) for r, x in zip(ranges, point, strict=True)}} for point in points]


def near_values(space: tuple[list[Range], Values], best: Values, count: int, round_: int, seed: int) -> list[Values]:
    """``count`` settings around ``best``, the nearer the later the round."""
    ranges, fixed = space
    rng = stream(seed, "instances", str(best["kind"]), round_)
    width = _NEAR / 2 ** (round_ - 1)
    found = []
    for _ in range(count):
        moved = {}
        for r in ranges:
            if r.kind == "choice":
                keep = rng.random() < _KEEP and best[r.key] in r.choices
                moved[r.key] = best[r.key] if keep else r.choices[int(rng.integers(len(r.choices)))]
            else:
                moved[r.key] = _at(r, min(max(_place(r, float(best[r.key])) + rng.uniform(-width, width), 0.0), 1.0))
        found.append({**fixed, **moved})
    return found


def _at(r: Range, x: float) -> Any:
    """The value at the share ``x`` of a range."""
    if r.kind == "choice":
        return r.choices[min(int(x * len(r.choices)), len(r.choices) - 1)]
    if r.log:
        value = math.exp(math.log(r.low) + x * (math.log(r.high) - math.log(r.low)))
    else:
        value = r.low + x * (r.high - r.low + (1 if r.whole else 0))
    return min(int(value), int(r.high)) if r.whole else round(float(value), 4)


def _place(r: Range, value: float) -> float:
    """The share of a range at which a value lies, that ``_at`` gives back."""
    if r.log:
        return float(np.log(value / r.low) / np.log(r.high / r.low))
    return (value + 0.5 - r.low) / (r.high - r.low + 1) if r.whole else (value - r.low) / (r.high - r.low)


def _fixed(word: str) -> Values:
    return override({}, [word])
