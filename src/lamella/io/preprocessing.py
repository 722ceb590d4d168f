"""What was measured of an experiment before training, as plain values, and the views that apply it.

``Preprocessing.load("frames.prep").view(volume)`` is a position as a net sees it; the same object gives the same view in training
and in inference, because there is no other code for either. Its order is fixed:

    raw  ->  divided by the shading  ->  resized  ->  clipped  ->  (x - centre) / spread

``restored`` goes back from a prediction: times spread plus centre, resized to the grid of the raw volume. It needs nothing of the
target that is predicted: centre and spread are those that the target's channel had over the whole data set, or typically had where
each position, stack or slice was normalised by its own.

Volumes have the axes ``t c z y x`` or some of them; channels are known by their numbers. The object is a config, so it is stored in
a recipe or a checkpoint as ``to_dict()`` gives it, and read by ``load``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.core.volume import Volume
from lamella.io.place import Place
from lamella.ops.shading import Shading
from lamella.ops.tiles import TileRule

if TYPE_CHECKING:
    from lamella.io.prepared import Prepared, Restored

STAGES = (
    "shading",
    "resize",
    "masks",
    "statistics",
    "tiles",
)  # each with a file of its own, in the order in which they build on each other

Level = Literal["dataset", "volume", "stack", "slice"]


class Resize(Config):
    """Size of the result relative to the image: 0.5 halves the number of pixels."""

    yx: float = Field(1.0, gt=0, description="factor along y and x")
    z: float = Field(1.0, gt=0, description="factor along z")


class Group(Config):
    """Centre and spread of the intensities of one channel, at one position, time and slice, or all of those that are None."""

    channel: int
    position: str | None = None
    time: int | None = None
    slice: int | None = None
    centre: float
    spread: float = Field(gt=0)
    low: float | None = None
    """Intensities are clipped to ``low`` and ``high`` before they are scaled; None: they are not."""
    high: float | None = None

    @property
    def key(self) -> tuple[int, str | None, int | None, int | None]:
        return self.channel, self.position, self.time, self.slice


class Statistics(Config):
    """Groups of one ``level``, and for each channel the one of all positions, by which predictions are restored."""

    level: Level
    source: str
    """Where the positions lie that groups name."""
    groups: tuple[Group, ...]

    def group(self, channel: int, position: str, time: int, slice: int) -> Group:
        """The group by which a frame is normalised."""
        where = (
            None if self.level == "dataset" else position,
            time if self.level in ("stack", "slice") else None,
            slice if self.level == "slice" else None,
        )
        found = self._by_key.get((channel, *where))
        if found is None:
            names = [("position", where[0]), ("time", where[1]), ("slice", where[2])]
            told = "".join(f", {name} {value}" for name, value in names if value is not None)
            raise UserError(
                f"no statistics were measured of channel {channel}{told} (level {self.level}); measure them with "
                "'lamella prep statistics', or normalise by the data set"
            )
        return found

    def typical(self, channel: int) -> Group:
        """The group of a channel over all positions."""
        found = self._by_key.get((channel, None, None, None))
        if found is None:
            known = ", ".join(str(g.channel) for g in self.groups if g.key[1:] == (None, None, None))
            raise UserError(
                f"no statistics were measured of channel {channel}, only of {known or 'none'}; measure it too"
            )
        return found

    @cached_property
    def _by_key(self) -> Mapping[Any, Group]:
        return {g.key: g for g in self.groups}


class Preprocessing(Config):
    """Measures of an experiment; what was not measured is left out of the view."""

    shading: dict[int, Shading] = Field(default_factory=dict)
    """By channel."""
    resize: Resize = Resize()
    statistics: Statistics | None = None
    masks: str | None = None
    """Folder of the foreground masks, one volume for each position; see ``mask``."""
    weights: bool = False
    """Whether border weight maps lie beside the masks."""
    tiles: TileRule | None = None
    """The rule by which tiles are drawn, on disk or while training."""

    @classmethod
    def load(cls, values: Mapping[str, Any] | str | Path, source: str = "preprocessing") -> Preprocessing:
        """From plain values, from the file that ``save`` wrote, or from the folder that ``lamella prep`` fills."""
        if isinstance(values, Mapping):
            return super().load(values, source)
        path = Path(values)
        if path.is_dir():
            return super().load(_from_folder(path), str(path))
        if not path.is_file():
            raise UserError(f"{path} is no preprocessing; make one with 'lamella prep run', and give its folder")
        return super().load(_json(path), str(path))

    def save(self, path: str | Path) -> None:
        """All of it in one file."""
        write_json(path, self.to_dict())

    def view(self, volume: Volume, *, normalise: bool = True) -> Prepared:
        """``volume`` (a position) as a net sees it: float32 ``t c z y x``, lazy and picklable.

        ``normalise=False`` leaves intensities as they are after shading and resizing. Frames that do not exist are 0.
        """
        from lamella.io.prepared import Prepared

        return Prepared(volume, self, normalise)

    def restored(self, prediction: Volume, channels: Sequence[int], like: Volume, dtype: Any = "float32") -> Restored:
        """A prediction on the view's grid in the units and on the grid of the raw volume ``like``, read as ``dtype``.

        Channel ``i`` of the prediction stands for channel ``channels[i]`` of the experiment. Integers are rounded and clipped to
        the range of their type.
        """
        from lamella.io.prepared import Restored

        return Restored(prediction, self, tuple(channels), like, dtype)

    def mask(self, position: str) -> Volume:
        """The foreground mask of a position on the view's grid: uint8 ``t c z y x`` with one channel, 1 where the specimen is."""
        return self._beside("masks", position)

    def weight(self, position: str) -> Volume:
        """The border weight map of a position, float32, on the same grid as its mask."""
        if not self.weights:
            raise UserError("no weight maps were made; make them with 'lamella prep masks --weights'")
        return self._beside("weights", position)

    def _beside(self, kind: str, position: str) -> Volume:
        from lamella.io.open import open_volume

        if self.masks is None:
            raise UserError("no masks were made; make them with 'lamella prep masks'")
        return open_volume(stored_path(Path(self.masks), kind, position))

    def before(self, stage: str) -> Preprocessing:
        """Only what comes before ``stage`` in the order of stages."""
        later = STAGES[STAGES.index(stage) :]
        kept = {k: v for k, v in self.to_dict().items() if k not in later and not ("masks" in later and k == "weights")}
        return Preprocessing.load(kept)


def stored_path(folder: Path, kind: str, position: str) -> str:
    """Where the mask or weight map of a position lies in the folder of a preprocessing."""
    return str(folder / kind / f"{position or 'volume'}.ome.zarr")


def stage_file(folder: Path, stage: str) -> Path:
    """Where a stage keeps what it measured."""
    return folder / f"{stage}.json"


def root_of(path: str) -> str:
    """A path written so that two ways to name one place are equal."""
    local = Place.parse(path).local
    return path if local is None else str(local.resolve())


def _from_folder(folder: Path) -> dict[str, Any]:
    found = {s: _json(stage_file(folder, s))["measured"] for s in STAGES if stage_file(folder, s).is_file()}
    if not found:
        raise UserError(f"{folder} holds no preprocessing; make one with 'lamella prep run'")
    if "masks" in found:
        found["weights"] = found["masks"]["weights"]
        found["masks"] = str(folder)
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it and measure again") from None


def channel_numbers(volume: Volume, names: Iterable[int | str]) -> tuple[int, ...]:
    """Channels of a volume, given by number or by name, as numbers."""
    box, axes = volume.box, volume.meta.axes
    at = axes.index("c") if "c" in axes else None
    numbers = range(box.start[at], box.stop[at]) if at is not None else range(1)
    known = dict(zip(volume.meta.channel_names, numbers, strict=False))
    found = []
    for name in names:
        number = known.get(str(name)) if str(name) in known else int(name) if str(name).isdigit() else None
        if number is None or number not in numbers:
            there = ", ".join(f"{n} ({k})" for k, n in known.items()) or ", ".join(map(str, numbers))
            raise UserError(f"channel {name!r} is not in {volume.path}, which has {there}; choose one of those")
        found.append(number)
    return tuple(found)
