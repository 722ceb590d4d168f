"""Train a sparse head on a list of embeddings at once, in a fraction of a second.

All points make one batch, so there is no chance but the first weights, and L-BFGS (Liu and Nocedal 1989) finds the least loss in some tens
of steps:

    mean over the classes of the mean cross entropy of their points  +  decay * half the sum of the squared weights

Embeddings are shifted and scaled to mean 0 and deviation 1 channel by channel, which is put into the first layer's weights afterwards:
the head that comes of it reads embeddings as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.nets.heads import SparseHead, check_width
from lamella.tasks.head.loss import of_classes

STEPS = 60  # of L-BFGS; later ones change no class
_TILE = 1 << 15  # voxels whose maps fit into a processor's cache


@dataclass(frozen=True)
class Standard:
    """Mean and deviation of each channel of embeddings."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, vectors: NDArray[np.floating]) -> Standard:
        """Of embeddings (n, h); a channel of one value keeps its scale."""
        values = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
        deviation = values.std(0, unbiased=False)
        return cls(values.mean(0), torch.where(deviation > 0, deviation, 1.0))

    def trusting(self, learnt: int, trust: float) -> Standard:
        """With the first ``learnt`` channels ``trust`` times as strong: the weaker, the dearer it is for a head to use them."""
        deviation = self.deviation.clone()
        deviation[:learnt] /= trust
        return Standard(self.mean, deviation)

    def __call__(self, vectors: Tensor) -> Tensor:
        return (vectors - self.mean) / self.deviation

    @torch.no_grad()
    def folded(self, head: SparseHead) -> SparseHead:
        """A head for embeddings as they are, of one for standardised ones."""
        made = SparseHead(head.widths)
        made.load_state_dict(head.state_dict())
        first = made.layers[0]
        assert isinstance(first, nn.Linear)
        first.weight.div_(self.deviation)
        first.bias.sub_(first.weight @ self.mean)
        return made


def new_head(h_channels: int, num_classes: int, hidden: tuple[int, ...], seed: int = 0) -> SparseHead:
    """A head with first weights that follow from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(seed, "head").integers(2**62)))
        return SparseHead((h_channels, *hidden, num_classes))


def fit_head(
    head: SparseHead,
    vectors: NDArray[np.floating],
    classes: NDArray[np.integer],
    standard: Standard,
    *,
    decay: float = 1e-3,
    steps: int = STEPS,
) -> float:
    """Train ``head`` in place on standardised embeddings ``vectors`` (n, h) of ``classes`` (n); returns the loss.

    It goes on from the weights that it has. Raises UserError for points of one class only, and embeddings that do not fit.
    """
    check_classes(classes, head.widths[-1])
    check_width(head.widths[0], vectors.shape[1], "the embeddings")
    inputs = standard(torch.from_numpy(np.ascontiguousarray(vectors, np.float32)))
    targets = torch.from_numpy(np.asarray(classes, np.int64))
    parameters = list(head.parameters())
    weights = [p for p in parameters if p.ndim > 1]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        vector_to_parameters(torch.from_numpy(flat.astype(np.float32)), parameters)
        found = of_classes(head(inputs), targets, balanced=True)
        found = found + 0.5 * decay * torch.stack([w.square().sum() for w in weights]).sum()
        gradients = torch.autograd.grad(found, parameters)
        return float(found.detach()), np.concatenate([g.double().numpy().ravel() for g in gradients])

    with torch.enable_grad():
        first = np.concatenate([p.detach().double().numpy().ravel() for p in parameters])
        best = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    vector_to_parameters(torch.from_numpy(best.x.astype(np.float32)), parameters)
    return float(best.fun)


def check_classes(classes: NDArray[np.integer], num_classes: int) -> None:
    """Refuse points that nothing can be learnt from."""
    if not len(classes):
        raise UserError("there are no points; add some of two classes at least")
    found = np.unique(classes)
    if found[0] < 0 or found[-1] >= num_classes:
        raise UserError(f"points have classes from {found[0]} to {found[-1]}; there are classes 0 to {num_classes - 1}")
    if len(found) < 2:
        raise UserError(f"all {len(classes)} points are of class {found[0]}; add points of another class")


@torch.inference_mode()
def probabilities(head: SparseHead, embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
    """Class probabilities (k, *space) of embeddings (h, *space), which add up to 1 at every voxel."""
    check_width(head.widths[0], len(embeddings), "the embeddings")
    flat = torch.from_numpy(embeddings.reshape(len(embeddings), -1))
    layers = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    found = torch.empty(head.widths[-1], flat.shape[1])
    for start in range(0, flat.shape[1], _TILE):
        x = flat[:, start : start + _TILE].float()
        for number, layer in enumerate(layers):
            x = torch.addmm(layer.bias[:, None], layer.weight, x.relu_() if number else x)
        found[:, start : start + _TILE] = torch.softmax(x, 0)
    return found.numpy().reshape(-1, *embeddings.shape[1:])
