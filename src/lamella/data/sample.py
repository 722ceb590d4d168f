"""Samples: named layers with kinds, so that no task warps anything itself.

Axes: every tensor is ``(b, c, *space)`` with space ``z y x`` or ``y x``, except points, which are ``(b, n, d)`` in voxel
coordinates of the same order (a point at voxel 3 has coordinate 3.0, the voxel's centre; NaN is no point).

| kind | holds | geometry moves it by |
|---|---|---|
| image | intensities, 0 is missing data in sections | bilinear interpolation (cubic on request), 0 outside |
| label | integers without an order | nearest voxel, so no new values |
| mask | 0 normal, 1 near a defect, 2 inside | the highest value under any interpolation weight, so thin defects stay |
| weight | what a voxel counts in a loss | bilinear interpolation, 0 outside |
| field | ``n`` displacement fields, ``(b, n * d, *space)``, pixels | bilinear, and vectors changed so that they stay true |
| points | places | exactly, through the inverse |

In an align sample the channels of ``sections`` are consecutive sections, and each may have its own geometry. Then ``on`` says
which section's grid each channel (each field, each point) lies on; without it channel k lies on section k. A field also has ``to``,
the section it points into: ``aligned(x) = section[to](x + field(x))`` on the grid of section ``on``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lamella.core.errors import UserError

Kind = Literal["image", "label", "mask", "weight", "field", "points"]

SECTIONS = "sections"  # the layer of an align sample whose channels are consecutive sections


@dataclass(frozen=True, eq=False)
class Layer:
    """One tensor and what it means; see the module for shapes, ``on`` and ``to``."""

    tensor: Tensor
    kind: Kind
    on: tuple[int, ...] = ()
    to: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        allowed = (3,) if self.kind == "points" else (4, 5)
        if self.tensor.ndim not in allowed:
            need = "(b, n, d)" if self.kind == "points" else "(b, c, y, x) or (b, c, z, y, x)"
            raise UserError(f"a layer of kind {self.kind} has shape {tuple(self.tensor.shape)}; it must be {need}")

    @property
    def space(self) -> tuple[int, ...]:
        """Size of the spatial axes; empty for points."""
        return () if self.kind == "points" else tuple(self.tensor.shape[2:])

    def with_tensor(self, tensor: Tensor) -> Layer:
        """The same meaning with another tensor."""
        return replace(self, tensor=tensor)

    def to_device(self, device: torch.device | str, non_blocking: bool = False) -> Layer:
        return self.with_tensor(self.tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Layer:
        """In page-locked memory, for faster copies to a GPU; data loaders call this."""
        return self.with_tensor(self.tensor.pin_memory())


class Sample(Mapping[str, Layer]):
    """Layers by name, of one batch size, one space and one device. Never changed: the ``with_`` methods return a new one.

    >>> sample = Sample({"sections": Layer(torch.zeros(1, 2, 8, 8), "image")})
    >>> sample.with_tensors(sections=torch.ones(1, 2, 8, 8))["sections"].tensor.mean().item()
    1.0
    """

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self._layers = dict(layers)
        self._check()

    def _check(self) -> None:
        batches = {name: layer.tensor.shape[0] for name, layer in self.items()}
        spaces = {name: layer.space for name, layer in self.items() if layer.kind != "points"}
        for what, seen in (("batch sizes", batches), ("spaces", spaces)):
            if len(set(seen.values())) > 1:
                raise UserError(f"the layers of a sample have different {what}: {seen}; crop or batch them alike")
        for name, layer in self.items():
            if layer.kind == "points" and spaces and layer.tensor.shape[2] != self.ndim:
                raise UserError(
                    f"points {name!r} have {layer.tensor.shape[2]} coordinates, the images {self.ndim} spatial axes; give {self.ndim}"
                )

    def __getitem__(self, name: str) -> Layer:
        if name not in self._layers:
            raise KeyError(f"sample has no layer {name!r}; it has {', '.join(self._layers)}")
        return self._layers[name]

    def __contains__(self, name: object) -> bool:
        return name in self._layers

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        layers = ", ".join(f"{name}: {layer.kind} {tuple(layer.tensor.shape)}" for name, layer in self.items())
        return f"Sample({layers})"

    @property
    def batch(self) -> int:
        return next(iter(self.values())).tensor.shape[0]

    @property
    def space(self) -> tuple[int, ...]:
        """Size of the spatial axes, ``(y, x)`` or ``(z, y, x)``."""
        return next(layer.space for layer in self.values() if layer.kind != "points")

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.space)

    @property
    def device(self) -> torch.device:
        return next(iter(self.values())).tensor.device

    def of_kind(self, kind: Kind) -> dict[str, Layer]:
        return {name: layer for name, layer in self.items() if layer.kind == kind}

    def with_layers(self, **layers: Layer) -> Sample:
        """With these layers added or put in place of those of the same name."""
        return Sample({**self._layers, **layers})

    def with_tensors(self, **tensors: Tensor) -> Sample:
        """With other tensors in layers that exist; their kinds stay."""
        return self.with_layers(**{name: self[name].with_tensor(tensor) for name, tensor in tensors.items()})

    def without(self, *names: str) -> Sample:
        return Sample({name: layer for name, layer in self.items() if name not in names})

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Sample:
        """The same sample on ``device``."""
        return Sample({name: layer.to_device(device, non_blocking) for name, layer in self.items()})

    def pin_memory(self) -> Sample:
        return Sample({name: layer.pin_memory() for name, layer in self.items()})


def sections_of(name: str, layer: Layer, sections: int) -> list[int]:
    """The section on whose grid each channel of a layer (each field, each point) lies, of a stack of ``sections``."""
    ndim = layer.tensor.ndim - 2
    num = layer.tensor.shape[1] // (ndim if layer.kind == "field" else 1)
    return resolve(name, num, sections, layer.on, "on", natural=layer.kind not in ("field", "points"))


def targets_of(name: str, layer: Layer, sections: int) -> list[int]:
    """The section into which each field of a layer points, of a stack of ``sections``."""
    return resolve(name, layer.tensor.shape[1] // (layer.tensor.ndim - 2), sections, layer.to, "to", natural=False)


def resolve(name: str, num: int, sections: int, given: tuple[int, ...], what: str, *, natural: bool) -> list[int]:
    """One section for each of ``num`` things; where ``natural``, thing k is on section k unless something else is given."""
    if not given and natural and num == sections:
        return list(range(num))
    if len(given) not in (1, num) or not all(0 <= k < sections for k in given):
        raise UserError(
            f"sections change one by one, and layer {name!r} has {what}={given} for its {num} channels, fields or points; give its "
            f"Layer one section number below {sections} for each, or one for all"
        )
    return list(given) * num if len(given) == 1 else list(given)


def collate(samples: Sequence[Sample]) -> Sample:
    """One batch of all ``samples``, joined along ``b``; for use as a data loader's ``collate_fn``.

    The samples must have the same layers in the same sizes; lists of points may differ in length and are filled up with NaN.
    """
    first = samples[0]
    for other in samples:
        if {name: (v.kind, v.on, v.to) for name, v in other.items()} != {
            name: (v.kind, v.on, v.to) for name, v in first.items()
        }:
            raise UserError(f"samples with different layers cannot be one batch: {first!r} and {other!r}")
    return Sample({name: layer.with_tensor(_join(name, samples)) for name, layer in first.items()})


def _join(name: str, samples: Sequence[Sample]) -> Tensor:
    tensors = [sample[name].tensor for sample in samples]
    if samples[0][name].kind == "points":
        longest = max(t.shape[1] for t in tensors)
        fill = float("nan")
        tensors = [torch.nn.functional.pad(t, (0, 0, 0, longest - t.shape[1]), value=fill) for t in tensors]
    if len({t.shape[1:] for t in tensors}) > 1:
        sizes = ", ".join(str(tuple(t.shape)) for t in tensors)
        raise UserError(f"layer {name!r} has different sizes in one batch: {sizes}; crop the samples to one size")
    return torch.cat(tensors)
