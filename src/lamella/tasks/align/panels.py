"""Pictures of what an aligner does with the first pair of a sample."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamella.nets.aligner import SiamesePyramid
from lamella.ops import masks
from lamella.ops.field import warp
from lamella.tasks.align.objective import SimilarityTerm, SmoothnessTerm
from lamella.tasks.align.sample import DEFORMED, TARGET, AlignSample
from lamella.view import pictures


@torch.no_grad()
def draw_panels(
    net: SiamesePyramid, sample: AlignSample, similarity: SimilarityTerm, smoothness: SmoothnessTerm
) -> dict[str, bytes]:
    """``pair.png``: deformed source, target, aligned source and what remains between them; ``field.png``: field, known field,
    distance to what is known, weights of the two penalties; ``flicker.gif``: target and aligned source in turn.
    """
    deformed, target = (sample.shown[-1:, i, None] for i in (DEFORMED, TARGET))
    field = net(deformed, target)
    aligned = warp(deformed, field)
    before, after, wanted = (pictures.grey(_array(x[0, 0])) for x in (deformed, aligned, target))
    difference = _array((aligned - target)[0, 0].abs())
    known = sample.known[-1:]
    error = (field - known).square().sum(1).sqrt()[0]
    limit = max(pictures.longest(_array(known[0])), 1.0)
    similar, smooth = _weights(sample, similarity, smoothness)
    return {
        "pair.png": pictures.png(pictures.beside([before, wanted, after, pictures.heat(difference, 0.5)])),
        "field.png": pictures.png(
            pictures.beside(
                [
                    pictures.field_colour(_array(field[0]), limit),
                    pictures.field_colour(_array(known[0]), limit),
                    pictures.heat(_array(error), limit),
                    pictures.heat(similar, max(1.0, float(similar.max()))),
                    pictures.heat(smooth, 1.0),
                ]
            )
        ),
        "flicker.gif": pictures.gif([wanted, after]),
    }


def _weights(
    sample: AlignSample, similarity: SimilarityTerm, smoothness: SmoothnessTerm
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights of similarity and smoothness for the last pair, as the loss has them for the undeformed source."""
    pair = sample.pair
    valid = pair.target_valid[-1:]
    source_mask = None if pair.source_mask is None else pair.source_mask[-1:]
    target_mask = None if pair.target_mask is None else pair.target_mask[-1:]
    similar = masks.similarity_weights(target_mask, source_mask, valid, near=similarity.near, inside=similarity.inside)
    term = smoothness
    smooth = masks.smoothness_weights(source_mask, valid, near=term.near, inside=term.inside, radius=term.radius)
    return _array(similar[0, 0]), _array(smooth[0, 0])


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().numpy()
