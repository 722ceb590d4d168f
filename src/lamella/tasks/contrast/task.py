"""The contrast task: learn embeddings from images without labels, by telling places apart.

    total = NT-Xent over all points of the batch, or of each crop (see ``lamella.ops.ntxent``), or VICReg (``lamella.ops.vicreg``)

Two views of every crop are drawn. The embeddings of a point in both are to be alike, and with NT-Xent unlike those of all other
points of the batch, in either view and in any sample; with ``negatives: crop`` of those of the same sample alone. Where images differ
in noise, focus or size of what they show, the quickest way to tell their places apart is to tell the images apart, and that says
nothing of what a place is.

The embedding of a point is linear between voxels by default. Points are moved exactly, and fall anywhere between voxels, at other
places in either view: the nearest voxel's embedding would be up to half a voxel off along each axis, in each view by another
half. What is compared would then differ at edges even for a perfect net, and only one voxel would learn where four (in 3D eight)
can. ``sampling: nearest`` is there to compare with earlier work.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lamella.core.errors import UserError
from lamella.data.augment.affine import present
from lamella.data.augment.arrange import Transpose
from lamella.data.augment.trim import kept_size
from lamella.data.sample import Sample
from lamella.nets.beside import build_beside
from lamella.ops.ntxent import nt_xent
from lamella.ops.points import at_points
from lamella.ops.vicreg import vicreg
from lamella.tasks.contrast import scores
from lamella.tasks.contrast.config import ContrastConfig
from lamella.tasks.contrast.net import ContrastNet
from lamella.tasks.contrast.panels import draw_panels
from lamella.tasks.contrast.sample import ContrastSample, check_batch, two_views
from lamella.train.task import Task

Points = Float[Tensor, "n c"]

_PATIENCE = 300  # steps that a new net may take before its embeddings differ
_COLLAPSED = 0.05  # of spread; embeddings that are of use have more than a half
_FEWEST = 8  # points per step, without which nothing can be told apart


class ContrastTask(Task):
    """See the module."""

    net: ContrastNet

    def __init__(self, config: ContrastConfig) -> None:
        self.config = config
        base = build_beside(config.net, config.channels, config.h_channels, config.beside)
        self.net = ContrastNet(base, config.widths, config.h_channels)

    def check(self, batch: Sample) -> None:
        check_batch(batch, self.config.channels, self.net.ndim)
        size = self._size(batch)
        given = prod(n - 2 * m for n, m in zip(size, self.net.margin, strict=True))
        if self.config.point_density * given < _FEWEST:
            raise UserError(
                f"point_density {self.config.point_density} gives {self.config.point_density * given:.1f} points in a view of "
                f"{given} voxels; raise it to {_FEWEST / given:.2g} or more, or enlarge data.crop"
            )
        for each in self.config.specimen:
            if isinstance(each, Transpose) and len({batch.space[a] for a in present(each.axes, batch.ndim)}) > 1:
                raise UserError(
                    f"crops of {batch.space} cannot be transposed within one size; set {' and '.join(each.axes)} of data.crop "
                    "alike, or leave 'transpose' out of task.specimen"
                )

    def sample(self, batch: Sample, rng: np.random.Generator, training: bool) -> ContrastSample:
        """Views are drawn for validation as for training: without, both would be the same."""
        config = self.config
        check_batch(batch, config.channels, self.net.ndim)
        return two_views(
            batch, config.specimen, config.imaging, config.point_density, self._size(batch), self.net.margin, rng
        )

    def loss(self, sample: ContrastSample, step: int) -> dict[str, Tensor]:
        return self._losses(*self._embedded(sample), sample)

    def validate(self, sample: ContrastSample) -> dict[str, Tensor]:
        first, second = self._embedded(sample)
        found = {"recalled": scores.recalled(self.net.project(first), self.net.project(second))}
        return {
            **self._losses(first, second, sample),
            **found,
            "dimensions": scores.dimensions(torch.cat([first, second])),
        }

    def inputs(self, sample: ContrastSample) -> tuple[Any, ...]:
        return (sample.first.image,)

    def compile(self) -> None:
        self.net.base.compile()

    def panels(self, sample: ContrastSample) -> dict[str, bytes]:
        first, second = self.net(torch.cat([sample.first.image, sample.second.image])).chunk(2)
        return draw_panels(sample, first, second, self.net.margin)

    def watch(self, metrics: Mapping[str, float]) -> str | None:
        if metrics.get("step", 0) < _PATIENCE or metrics.get("spread", 1.0) > _COLLAPSED:
            return None
        return (
            f"all places have nearly the same embedding (spread {metrics['spread']:.3f}): they have collapsed. Lower "
            "trainer.learning_rate, raise task.temperature or trainer.batch_size, and start again"
        )

    def _embedded(self, sample: ContrastSample) -> tuple[Points, Points]:
        """What is learnt of the embeddings of all points that count, in each view; both views go through the net as one batch."""
        views = sample.first, sample.second
        maps = self.net(torch.cat([view.image for view in views])).chunk(2)
        lost = torch.tensor(self.net.margin, device=sample.kept.device)
        first, second = (
            at_points(m[:, : self.net.learnt], (view.points - lost).nan_to_num(), self.config.sampling)[sample.kept]
            for m, view in zip(maps, views, strict=True)
        )
        return first, second

    def _losses(self, first: Points, second: Points, sample: ContrastSample) -> dict[str, Tensor]:
        projected = self.net.project(first), self.net.project(second)
        with torch.no_grad():
            told = {
                "alike": scores.alike(*projected),
                "spread": scores.spread(torch.cat([first, second])),
                "points": torch.tensor(float(len(first))),
            }
        if self.config.loss == "vicreg":
            return {"total": vicreg(self.net.expand(first), self.net.expand(second)), **told}
        return {"total": self._told_apart(*projected, sample), **told}

    def _told_apart(self, first: Points, second: Points, sample: ContrastSample) -> Tensor:
        """NT-Xent over the points of the batch, or the mean over points of that of their crops."""
        if self.config.negatives == "batch":
            return nt_xent(first, second, self.config.temperature)
        counts = sample.kept.sum(1).tolist()
        crops = zip(first.split(counts), second.split(counts), strict=True)
        total = torch.stack([nt_xent(a, b, self.config.temperature) * len(a) for a, b in crops]).sum()
        return total / max(len(first), 1)

    def _size(self, batch: Sample) -> tuple[int, ...]:
        return kept_size(batch.space, self.config.trim, self.net.stride, self.net.margin)
