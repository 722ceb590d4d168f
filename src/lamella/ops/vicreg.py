"""VICReg (Bardes, Ponce, LeCun 2022), a loss without negatives: the two views of a place are to be alike, and embeddings as a whole
must not collapse.

    L = 25 * mean squared difference of the views
      + 25 * sum over both views of the mean over channels of  max(0, 1 - deviation of the channel)
      +  1 * sum over both views of the sum over pairs of channels of  covariance^2, divided by the number of channels

Places are never told apart one by one, so those that look alike, as most of a background does, may have like embeddings. Time and
memory grow with the number of places.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lamella.core.errors import UserError

_ALIKE, _SPREAD, _APART = 25.0, 25.0, 1.0  # weights of the paper
_EPSILON = 1e-4  # below the root of a variance, whose slope at 0 has no end


def vicreg(first: Float[Tensor, "n c"], second: Float[Tensor, "m c"]) -> Float[Tensor, ""]:
    """The loss of n places by their embeddings in two views, row k of both being one place; 0 for no place and for one.

    In float32, whatever the precision around it. Embeddings are taken as they are, not normalised.

    >>> views = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])       # deviations above 1, all covariances 2
    >>> round(vicreg(views, views).item(), 4)
    8.0
    """
    if first.shape != second.shape:
        raise UserError(f"two views of {tuple(first.shape)} and {tuple(second.shape)}; they must be of the same places")
    first, second = first.float(), second.float()
    if len(first) < 2:
        return (first - second).sum() * 0.0
    alike = F.mse_loss(first, second)
    return _ALIKE * alike + sum((_shape(view) for view in (first, second)), first.new_zeros(()))


def _shape(view: Float[Tensor, "n c"]) -> Float[Tensor, ""]:
    """What keeps one view from collapsing, to a point or to a line."""
    centred = view - view.mean(0)
    covariance = centred.T @ centred / (len(view) - 1)
    variances = covariance.diagonal()
    narrow = torch.relu(1 - (variances + _EPSILON).sqrt()).mean()
    shared = (covariance.square().sum() - variances.square().sum()) / view.shape[1]
    return _SPREAD * narrow + _APART * shared
