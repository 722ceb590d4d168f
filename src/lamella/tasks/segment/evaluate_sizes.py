"""Scores by the size of objects, so that a method that is good on average cannot hide that it loses the small ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamella.core.errors import UserError
from lamella.tasks.segment.evaluate_objects import Outcome


@dataclass(frozen=True)
class SizeClasses:
    """``rows``: for each class of area (voxels, from one of the ``edges`` up to below the next) what was found of it.

    True objects belong to the class of their own area, predictions to that of theirs. AP is TP / (TP + FP + FN) with the TP
    counted over the true objects.
    """

    edges: tuple[int, ...]
    rows: list[dict[str, Any]]

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], edges: Sequence[int] = ()) -> SizeClasses:
        """Classes between ``edges``; without any, between the quartiles of the true areas."""
        areas, hit, best, other, other_hit = (
            np.concatenate([getattr(o, name) for o in outcomes])
            for name in ("true_areas", "true_found", "best", "predicted_areas", "predicted_found")
        )
        edges = tuple(edges) or _quartiles(areas)
        of_true, of_predicted = np.digitize(areas, edges), np.digitize(other, edges)
        rows = []
        for k in range(len(edges) + 1):
            t, p = of_true == k, of_predicted == k
            tp, fp, fn = int(hit[t].sum()), int((~other_hit[p]).sum()), int((~hit[t]).sum())
            iou = float(np.where(best[t] > 0.5, best[t], 0).mean()) if t.any() else float("nan")
            rows.append(
                {
                    "area": _class(edges, k), "true": tp + fn, "found": tp, "false": fp,
                    "recall": _share(tp, tp + fn), "AP": _share(tp, tp + fp + fn), "SEG": iou,
                }
            )  # fmt: skip
        return cls(edges, rows)

    def beside(self, baseline: SizeClasses) -> list[dict[str, Any]]:
        """The rows with AP and SEG of a baseline on the same objects, and whether its AP is reached."""
        counts = [[row["true"] for row in classes.rows] for classes in (self, baseline)]
        if self.edges != baseline.edges or counts[0] != counts[1]:
            raise UserError(
                f"the baseline has {counts[1]} true objects in classes parted by {list(baseline.edges)}, these images {counts[0]} in "
                f"{list(self.edges)}; score the baseline on the same images with the same --sizes and --ignore"
            )
        return [
            {
                **row,
                "baseline AP": other["AP"],
                "baseline SEG": other["SEG"],
                "reached": "yes" if not row["true"] or row["AP"] >= other["AP"] else "no",
            }
            for row, other in zip(self.rows, baseline.rows, strict=True)
        ]


def _quartiles(areas: np.ndarray) -> tuple[int, ...]:
    if not len(areas):
        return ()
    return tuple(sorted({int(np.ceil(q)) for q in np.percentile(areas, [25, 50, 75])}))


def _class(edges: Sequence[int], k: int) -> str:
    if not edges:
        return "all"
    low = f"{edges[k - 1]}" if k else ""
    return f"below {edges[0]}" if not k else f"{low} and more" if k == len(edges) else f"{low} to {edges[k] - 1}"


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
