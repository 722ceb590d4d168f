"""Modules built around a net, which decides all sizes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from lamella.nets.memory import channels_last


@runtime_checkable
class _Settings(Protocol):
    @property
    def ndim(self) -> int: ...


@runtime_checkable
class Net(Protocol):
    """What the convolutional nets of this package have in common; see ``UNet``."""

    @property
    def config(self) -> _Settings: ...
    @property
    def in_channels(self) -> int: ...
    @property
    def out_channels(self) -> int: ...
    @property
    def stride(self) -> tuple[int, ...]: ...
    @property
    def context(self) -> tuple[int, ...]: ...
    @property
    def margin(self) -> tuple[int, ...]: ...
    @property
    def seamless(self) -> bool: ...


class Around(nn.Module):
    """A module whose sizes are those of the net ``inner``. On a CPU its convolutions keep channels last, a fifth faster in 2D."""

    @property
    @abstractmethod
    def inner(self) -> Net:
        """The net that is built around."""

    def keep_channels_last(self) -> None:
        """Arrange the weights of 2D nets; to be called when the module is complete."""
        if self.ndim == 2:
            channels_last(self)

    @property
    def in_channels(self) -> int:
        return self.inner.in_channels

    @property
    def ndim(self) -> int:
        return self.inner.config.ndim

    @property
    def stride(self) -> tuple[int, ...]:
        """What sizes, and the places of blocks, must be multiples of."""
        return self.inner.stride

    @property
    def context(self) -> tuple[int, ...]:
        """Voxels on each side that an output voxel depends on; exact."""
        return self.inner.context

    @property
    def margin(self) -> tuple[int, ...]:
        """Voxels per side by which the output is smaller than the image."""
        return self.inner.margin

    @property
    def seamless(self) -> bool:
        """Whether blocks with the context equal the whole."""
        return self.inner.seamless

    def shown(self, tensor: Tensor) -> Tensor:
        """The part of a tensor ``(b, c, *space)`` as large as the image that the output is of."""
        return without(tensor, self.margin)


def without(tensor: Tensor, margin: tuple[int, ...]) -> Tensor:
    """``(b, c, *space)`` without ``margin`` voxels at both ends of each axis."""
    for axis, lost in enumerate(margin, 2):
        tensor = tensor.narrow(axis, lost, tensor.shape[axis] - 2 * lost)
    return tensor
