"""Instances of held-out samples against the labels, to follow while a net trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lamella.ops.instances import Method
from lamella.ops.matching import IGNORED, Overlaps
from lamella.ops.matching_scores import ObjectScores, compare


def instances(
    maps: Mapping[str, Float[Tensor, "b 1 *space"]], method: Method, voxel_size: Sequence[float] | None
) -> Iterator[NDArray[np.int32]]:
    """The instances of each sample of a batch, ``(*space)``."""
    arrays = {head: tensor.float().cpu().numpy()[:, 0] for head, tensor in maps.items()}
    for k in range(len(next(iter(arrays.values())))):
        yield method({head: array[k] for head, array in arrays.items()}, voxel_size)


def precision_at_half(
    found: Sequence[NDArray[Any]], labels: Int[Tensor, "b 1 *space"], valid: Float[Tensor, "b 1 *space"]
) -> float:
    """AP at IoU 0.5, TP / (TP + FP + FN), of instances in all samples together, where they count; 1 where nothing is and nothing
    is found.
    """
    truth = np.where(valid.cpu().numpy()[:, 0] > 0.5, labels.cpu().numpy()[:, 0], IGNORED)
    scores = [ObjectScores.of(compare(Overlaps.of(t, p))) for t, p in zip(truth, found, strict=True)]
    counts = np.sum([s.counts[0] for s in scores], 0)
    return float(counts[0] / counts.sum()) if counts.sum() else 1.0
