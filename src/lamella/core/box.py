"""Boxes: half-open ranges of voxels.

Axes follow the volume (``z y x`` for images, more where a volume has channels or time). A box holds ``start`` (first voxel
in) and ``stop`` (first voxel out); coordinates may be negative, as in Neuroglancer volumes with an offset.

Laws: ``a.grow(n).grow(-n) == a``; ``a.intersect(a) == a``; ``a.intersect(b).within(a)``; ``a.refine(f).scale(f) == a``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from lamella.core.errors import UserError


@dataclass(frozen=True, order=True)
class Box:
    """A half-open range of voxels, ``start <= voxel < stop`` on every axis.

    >>> Box((0, 10), (4, 20)).shape
    (4, 10)
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", tuple(int(v) for v in self.start))
        object.__setattr__(self, "stop", tuple(int(v) for v in self.stop))
        if len(self.start) != len(self.stop):
            raise UserError(f"box start {self.start} and stop {self.stop} must have the same number of axes")

    @classmethod
    def of(cls, shape: Iterable[int]) -> Box:
        """The box from the origin with this shape."""
        stop = tuple(shape)
        return cls((0,) * len(stop), stop)

    @classmethod
    def read(cls, text: str) -> Box:
        """The box that was written as ``text``.

        >>> Box.read(str(Box((0, -10), (4, 20))))
        Box(start=(0, -10), stop=(4, 20))
        """
        ranges = [part.split(":") for part in text.split(",")]
        return cls(tuple(int(a) for a, _ in ranges), tuple(int(b) for _, b in ranges))

    @property
    def ndim(self) -> int:
        return len(self.start)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels, 0 if empty."""
        return 0 if self.is_empty else prod(self.shape)

    @property
    def is_empty(self) -> bool:
        return any(n <= 0 for n in self.shape)

    def grow(self, context: int | Sequence[int]) -> Box:
        """The box with ``context`` voxels added on both sides of each axis."""
        c = self._per_axis(context)
        return Box(
            tuple(a - n for a, n in zip(self.start, c, strict=True)),
            tuple(b + n for b, n in zip(self.stop, c, strict=True)),
        )

    def intersect(self, other: Box) -> Box:
        """The voxels in both; may be empty."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(max(min(a, b), s) for a, b, s in zip(self.stop, other.stop, start, strict=True))
        return Box(start, stop)

    def within(self, other: Box) -> bool:
        """Whether every voxel of this box is in ``other``."""
        return all(o <= a and b <= p for a, b, o, p in zip(self.start, self.stop, other.start, other.stop, strict=True))

    def shift(self, offset: int | Sequence[int]) -> Box:
        o = self._per_axis(offset)
        return Box(
            tuple(a + n for a, n in zip(self.start, o, strict=True)),
            tuple(b + n for b, n in zip(self.stop, o, strict=True)),
        )

    def slices(self, origin: Sequence[int] | None = None) -> tuple[slice, ...]:
        """Slices of this box in an array whose first voxel is ``origin`` (the zero voxel by default)."""
        o = (0,) * self.ndim if origin is None else tuple(origin)
        return tuple(slice(a - n, b - n) for a, b, n in zip(self.start, self.stop, o, strict=True))

    def scale(self, factor: Sequence[int]) -> Box:
        """The smallest box of a grid ``factor`` times coarser that covers this one."""
        return Box(
            tuple(a // f for a, f in zip(self.start, factor, strict=True)),
            tuple(-(-b // f) for b, f in zip(self.stop, factor, strict=True)),
        )

    def refine(self, factor: Sequence[int]) -> Box:
        """What this box covers of a grid ``factor`` times finer."""
        return Box(
            tuple(a * f for a, f in zip(self.start, factor, strict=True)),
            tuple(b * f for b, f in zip(self.stop, factor, strict=True)),
        )

    def _per_axis(self, value: int | Sequence[int]) -> tuple[int, ...]:
        return (value,) * self.ndim if isinstance(value, int) else tuple(value)

    def __str__(self) -> str:
        return ",".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))


def parse_box(text: str, full: Box) -> Box:
    """Read ``"0:10,0:512,256:512"`` (an empty end means the volume's own) and check that it lies in ``full``.

    Fewer ranges than axes count from the last axis, so ``"0:512,0:512"`` crops y and x of a volume.
    """
    parts = [p.strip() for p in text.split(",")]
    if len(parts) > full.ndim or any(p.count(":") != 1 for p in parts):
        raise UserError(f"box {text!r} is not START:STOP for at most {full.ndim} axes; write for example {full}")
    start, stop = list(full.start), list(full.stop)
    for axis, part in zip(range(full.ndim - len(parts), full.ndim), parts, strict=True):
        low, high = part.split(":")
        try:
            start[axis] = int(low) if low else start[axis]
            stop[axis] = int(high) if high else stop[axis]
        except ValueError:
            raise UserError(
                f"box {text!r} holds {part!r}, which is not two whole numbers; write for example {full}"
            ) from None
    box = Box(tuple(start), tuple(stop))
    if box.is_empty or not box.within(full):
        raise UserError(f"box {box} does not lie inside the volume, whose box is {full}; choose START:STOP within it")
    return box
