"""One sample at several thresholds: objects, what they score, and the volumes that show how they came about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.ops.instances import (
    Agglomeration,
    AgglomerationMethod,
    Components,
    DistanceWatershed,
    Maps,
    Membranes,
    Merge,
    Mutex,
    Segmentation,
    SeriesMethod,
)
from lamella.ops.instances.fragments import Fragments
from lamella.ops.matching import Overlaps
from lamella.ops.matching_partition import partition_figures
from lamella.ops.matching_scores import ObjectScores, compare
from lamella.recipe.validate.candidates import Candidate
from lamella.recipe.validate.settings import METHODS, ValidateSettings

_CONFIGS: dict[str, type[Config]] = {
    "agglomeration": Agglomeration,
    "mutex": Mutex,
    "components": Components,
    "watershed": DistanceWatershed,
    "membranes": Membranes,
}
FIGURES = ("voi_split", "voi_merge", "voi_sum", "rand_split", "rand_merge", "adapted_rand", "AP50")
"""What every sample scores, in order."""

_PARTITION = {"voi_sum": "voi", "adapted_rand": "adapted_rand_error"}


def method_of(
    target: str,
    names: Sequence[str],
    offsets: Sequence[Sequence[int]] | None,
    words: Mapping[str, Any],
    settings: ValidateSettings,
) -> Any:
    """The config by which objects are made of maps of ``affinities`` or ``classes``, with ``words`` (fields to values).

    Raises UserError for a method that the maps are not enough for, and for a field that it does not have.
    """
    allowed = METHODS[target]
    kind = settings.kind or allowed[0]
    if kind not in allowed:
        raise UserError(f"{kind} makes no objects of {target}; choose --kind {' or '.join(allowed)}")
    if "threshold" in words:
        raise UserError("the threshold is what is validated; give the values to try with --thresholds")
    values = {"kind": kind, **words}
    if kind in METHODS["affinities"] and offsets and "offsets" not in words:
        values["offsets"] = offsets
    if kind in ("components", "watershed") and "boundary" not in names:
        values = {"boundaries": "none", **values}
    return _CONFIGS[kind].load(values, kind)


def named_maps(found: NDArray[np.float32], candidate: Candidate, settings: ValidateSettings) -> dict[str, NDArray[Any]]:
    """Maps (n, *space) under the names that methods know: ``affinities``, or ``objects`` and ``boundaries``."""
    if candidate.target == "affinities":
        return {"affinities": found}
    names = list(candidate.channel_names)
    inside = found[[names.index(name) for name in foreground_of(names, settings)]].sum(axis=0)
    boundaries = found[names.index("boundary")] if "boundary" in names else 1 - inside
    return {"objects": inside, "boundaries": boundaries}


def foreground_of(names: Sequence[str], settings: ValidateSettings) -> list[str]:
    """The classes that are objects: those asked for, or ``object`` and its ``boundary``, or the last."""
    if settings.foreground is None:
        return [name for name in names if name in ("object", "boundary")] or [names[-1]]
    wanted = [part.strip() for part in settings.foreground.split(",")]
    if unknown := [name for name in wanted if name not in names]:
        raise UserError(f"there is no class {unknown[0]!r}; the head knows {', '.join(names)}")
    return wanted


@dataclass(frozen=True)
class Made:
    """The objects at one threshold, and what they score."""

    labels: NDArray[np.int32]
    merges: tuple[Merge, ...]
    row: dict[str, Any]


def fragments_of(maps: Maps, config: Any, voxel_size: Sequence[float]) -> Fragments | None:
    """What is merged, where objects are made by merging."""
    return config.build().fragments(maps, voxel_size) if isinstance(config, Agglomeration) else None


def at_thresholds(
    maps: Maps,
    truth: NDArray[np.int64],
    config: Any,
    settings: ValidateSettings,
    voxel_size: Sequence[float],
    fragments: Fragments | None = None,
) -> Iterator[Made]:
    """Objects and scores at each threshold, rising."""
    for found in _series(maps, config, settings.levels, voxel_size, fragments):
        labels = _without_small(found.labels, config.min_size)
        extra = {} if fragments is None else {"fragments": len(np.unique(fragments.labels))}
        yield Made(labels, found.merges, {"threshold": found.threshold, **figures(truth, labels, settings), **extra})


def figures(truth: NDArray[np.int64], labels: NDArray[np.int32], settings: ValidateSettings) -> dict[str, Any]:
    """``FIGURES`` and the numbers of objects; NaN where there is nothing to compare."""
    overlaps = Overlaps.of(truth, labels)
    prefix = "foreground_" if settings.background == "ignored" else ""
    partition = partition_figures(overlaps)
    objects = ObjectScores.of(compare(overlaps)).figures()
    scored = {name: partition.get(prefix + _PARTITION.get(name, name)) for name in FIGURES}
    return {**scored, "AP50": objects["AP50"], "true": objects["true"], "predicted": objects["predicted"]}


def _series(
    maps: Maps, config: Any, levels: Sequence[float], voxel_size: Sequence[float], fragments: Fragments | None
) -> Iterator[Segmentation]:
    method = config.build()
    if fragments is not None and isinstance(method, AgglomerationMethod):
        yield from method.merged(fragments, maps, levels)
    elif isinstance(method, SeriesMethod):
        yield from method.series(maps, levels, voxel_size)
    else:
        for level in levels:
            again = config.model_copy(update={"threshold": level}).build()
            yield Segmentation(level, again(maps, voxel_size))


def _without_small(labels: NDArray[np.int32], min_size: int) -> NDArray[np.int32]:
    if min_size <= 1 or not labels.any():
        return labels
    sizes = np.bincount(labels.ravel())
    return np.where(sizes[labels] >= min_size, labels, 0).astype(np.int32)


def reads(config: Any) -> str:
    """Which way a threshold goes, for the reader of a table."""
    if isinstance(config, Agglomeration | Mutex):
        return "objects merge where 1 - affinity is below the threshold"
    what = "a membrane" if isinstance(config, Membranes) else "an object"
    return f"a voxel is {what} where its probability is above the threshold"


def segmentation_name(threshold: float) -> str:
    """What the objects at a threshold are stored as."""
    return f"segmentation_{threshold:.2f}" if round(threshold, 2) == threshold else f"segmentation_{threshold:g}"
