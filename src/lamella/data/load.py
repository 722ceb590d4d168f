"""What opening images has in common, with and without labels: files that cannot be used, memory to keep what fits, intensities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.data.image import Kept
from lamella.data.image_source import Part
from lamella.data.shared import SharedBytes
from lamella.io.statistics import LIMIT, sample_voxels
from lamella.ops.intensity import IntensityConfig, Scaling

T = TypeVar("T")
Key = tuple[Any, ...]

_ALIGN = 64  # bytes; arrays of any type may begin there


def problem_with(path: str, error: Exception) -> str:
    """What is wrong with the file at ``path``, in one line that names it."""
    match error:
        case UserError():
            return str(error) if path in str(error) else f"{path}: {error}"
        case OSError():
            return f"cannot read {path}: {error}; it may be damaged"
        case _:
            return f"cannot read {path}: {type(error).__name__}: {error}; it may be damaged"


@dataclass
class Bad:
    """Raises what is wrong with a file, or notes it where the rest shall go on."""

    skip: bool
    lines: list[str] = field(default_factory=list)

    def attempt(self, work: Callable[[], T], path: str) -> T | None:
        try:
            return work()
        except Exception as error:  # libraries of file formats raise many kinds for a damaged file
            problem = problem_with(path, error)
        if not self.skip:
            raise UserError(f"{problem} (to go on without such files, set data.skip_bad=true)") from None
        self.lines.append(problem)
        return None


def of_usual_channels(opened: Sequence[list[T]], part_of: Callable[[T], Part], bad: Bad) -> list[list[T]]:
    """The images of each source that have as many channels as most."""
    parts = [part_of(image) for images in opened for image in images]
    numbers = Counter(part.num_channels for part in parts)
    usual = max(numbers, key=lambda n: (numbers[n], -n), default=1)

    def check(part: Part) -> bool:
        if part.num_channels != usual:
            raise UserError(
                f"{part.volume.path} has {part.num_channels} channels, most images have {usual}; name as many for "
                "each source with channels"
            )
        return True

    def has_usual(image: T) -> bool:
        part = part_of(image)
        return bool(bad.attempt(lambda: check(part), part.volume.path))

    return [[image for image in images if has_usual(image)] for images in opened]


class Memory:
    """Room for arrays as long as there is any, in the order in which they come; one image of several labels is kept once."""

    def __init__(self, wanted: Iterable[tuple[Key, int]], gigabytes: float) -> None:
        limit, end = gigabytes * 1e9, 0
        self.places: dict[Key, int] = {}
        for key, size in wanted:
            if key not in self.places and end + size <= limit:
                self.places[key] = end
                end += -(-size // _ALIGN) * _ALIGN
        self.memory = SharedBytes(max(end, 1))
        self.kept: dict[Key, Kept] = {}
        self.scalings: dict[Key, Scaling] = {}

    def keep(self, key: Key, read: Callable[[], NDArray[Any]]) -> Kept | None:
        """The array of ``key``, read now if it is new; None if there is no room for it."""
        if key not in self.places:
            return None
        if key not in self.kept:
            array = read()
            kept = Kept(self.memory, self.places[key], array.shape, array.dtype)
            assert kept.array is not None
            kept.array[...] = array
            self.kept[key] = kept
        return self.kept[key]


def image_key(part: Part) -> Key:
    """Equal for two parts that are the same voxels."""
    return ("image", part.volume.path, part.volume.box, part.time, part.box, part.channels)


def image_bytes(part: Part) -> int:
    return part.box.size * part.num_channels * part.volume.dtype.itemsize


def measured(part: Part, normaliser: IntensityConfig, memory: Memory) -> tuple[Kept | None, Scaling]:
    """The voxels of an image where there is room for them, and how its intensities are scaled."""
    key, path = image_key(part), part.volume.path
    try:
        kept = memory.keep(key, lambda: part.read(Box.of(part.box.shape)))
        if key not in memory.scalings:
            memory.scalings[key] = normaliser.measure(_voxels(part, None if kept is None else kept.array))
    except Exception as error:  # libraries of file formats raise many kinds for a damaged file
        raise UserError(problem_with(path, error)) from None
    return kept, memory.scalings[key]


def _voxels(part: Part, kept: NDArray[Any] | None) -> NDArray[Any]:
    """The voxels to measure intensities on: those of the whole image, whatever part of it is taken."""
    if kept is not None and part.is_whole and part.box.size <= LIMIT:
        return kept
    voxels = sample_voxels(part.volume, part.whole)
    return voxels if part.channels is None else voxels[list(part.channels)]
