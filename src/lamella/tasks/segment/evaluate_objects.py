"""Object by object: what became of each, where it lies, and how well it was met."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from lamella.ops.matching import Ints, Objects, Overlaps
from lamella.ops.matching_scores import Compared

_SIDES = ("true", "predicted")
FIELDS = (
    "image", "status",
    *(f"{side}_{name}" for side in _SIDES for name in ("id", "z", "y", "x", "area")),
    "iou",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The objects of one image that count. ``areas`` and ``found`` (matched one to one) of the true and the predicted ones;
    ``best`` the IoU of true objects with the prediction that fits best; ``wrong`` (n, ndim) centres of those without a partner.
    """

    true_areas: Ints
    true_found: NDArray[np.bool_]
    best: NDArray[np.float64]
    predicted_areas: Ints
    predicted_found: NDArray[np.bool_]
    wrong: NDArray[np.float64]

    @classmethod
    def of(cls, found: Compared, pairs: Ints) -> Outcome:
        """From the matched ``pairs`` (see ``match``)."""
        true, predicted = np.zeros(len(found.true), bool), np.zeros(len(found.predicted), bool)
        true[found.rows[pairs]], predicted[found.columns[pairs]] = True, True
        best = np.zeros(len(found.true))
        np.maximum.at(best, found.rows, found.iou)
        wrong = np.concatenate([found.true.centres[~true], found.predicted.centres[~predicted]])
        return cls(found.true.areas, true, best, found.predicted.areas, predicted, wrong)

    @property
    def missed(self) -> int:
        return int((~self.true_found).sum())

    @property
    def false(self) -> int:
        return int((~self.predicted_found).sum())


class ObjectTable:
    """``objects.csv``, written image by image. A found object and its partner are one row."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.DictWriter(file, FIELDS, lineterminator="\n", restval="")
        self._writer.writeheader()

    def add(self, image: str, overlaps: Overlaps, found: Compared, pairs: Ints) -> None:
        for row in _rows(overlaps, found, pairs):
            self._writer.writerow(
                {"image": image, **{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}}
            )


def _rows(overlaps: Overlaps, found: Compared, pairs: Ints) -> Iterator[dict[str, Any]]:
    partner = dict(zip(found.rows[pairs].tolist(), pairs.tolist(), strict=True))
    taken = set(found.columns[pairs].tolist())
    best = [
        _best(len(side), index, found.iou)
        for side, index in ((found.true, found.rows), (found.predicted, found.columns))
    ]
    for k in range(len(found.true)):
        if k in partner:
            pair = partner[k]
            row = {**_of(found.true, k, "true"), **_of(found.predicted, int(found.columns[pair]), "predicted")}
            yield {"status": "found", **row, "iou": float(found.iou[pair])}
        else:
            yield {"status": "missed", **_of(found.true, k, "true"), "iou": float(best[0][k])}
    for k in range(len(found.predicted)):
        if k not in taken:
            yield {"status": "false", **_of(found.predicted, k, "predicted"), "iou": float(best[1][k])}
    for name, objects, side in (
        ("true", overlaps.true, found.true),
        ("predicted", overlaps.predicted, found.predicted),
    ):
        yield from _dropped(objects, side.dropped, name)


def _best(count: int, index: Ints, iou: NDArray[np.float64]) -> NDArray[np.float64]:
    best = np.zeros(count)
    np.maximum.at(best, index, iou)
    return best


def _dropped(objects: Objects, reasons: Mapping[int, str], side: str) -> Iterator[dict[str, Any]]:
    """Objects that do not count, with the reason as their status."""
    for k, number in enumerate(objects.ids.tolist()):
        if number in reasons:
            yield {"status": reasons[number], **_of(objects, k, side)}


def _of(objects: Any, k: int, side: str) -> dict[str, Any]:
    """Number, place and area of one object, as columns of ``side``."""
    place = dict(zip("zyx"[-objects.centres.shape[1] :], objects.centres[k].tolist(), strict=True))
    row = {"id": int(objects.ids[k]), **place, "area": int(objects.areas[k])}
    return {f"{side}_{name}": value for name, value in row.items()}
