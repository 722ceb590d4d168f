"""Which images are for validation or test, so that nothing is drawn from them to learn from.

An image is held out if any of these says so:

- a folder named ``val``, ``validation`` or ``test`` on its path, unless a folder named ``train`` lies below that one;
- a file ``*split*.json`` in the source's folder or the one above, with lists of names under such keys;
- a list of names, a recipe, or a run that the user names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamella.core.box import Box
from lamella.core.config import read_yaml
from lamella.core.errors import UserError
from lamella.data.image_source import ImageSource, selected
from lamella.data.labelled_source import Opened
from lamella.io import open_volume
from lamella.io.layouts import stem
from lamella.io.pairs import look, read_names, select

HELD_OUT = ("val", "valid", "validation", "validate", "dev", "test", "testing", "held-out", "held_out")
_TRAIN = ("train", "training")
_FEW = 5  # as many images are named in a message


@dataclass(frozen=True)
class Mark:
    """What holds images out: by ``names``, or by ``parts`` of files; ``why`` tells."""

    why: str
    names: frozenset[str] = frozenset()
    parts: tuple[tuple[str, Box], ...] = ()

    def holds(self, image: Opened) -> bool:
        """Whether it holds out any voxel of an image."""
        name = image.name.rpartition("_t")[0] if image.image.time is not None else image.name
        if name in self.names or stem(image.image.volume.path) in self.names:
            return True
        path = _resolved(image.image.volume.path)
        return any(path == p and not box.intersect(image.image.box).is_empty for p, box in self.parts)


def refuse_held_out(images: Sequence[Opened], source: str, never: Sequence[str], *, folders: bool = True) -> None:
    """Raise UserError if any of ``images``, found at ``source``, is for validation or test. ``never`` are the user's own marks.

    folders: names of folders and split files count.
    """
    marks = [*(split_marks(source) if folders else ()), *(mark_of(entry) for entry in never)]
    found = [(image.name, why) for image in images if (why := _why(image, marks, folders))]
    if not found:
        return
    told = ", ".join(f"{name} ({why})" for name, why in found[:_FEW]) + (", ..." if len(found) > _FEW else "")
    raise UserError(
        f"{len(found)} of {len(images)} images are for validation or test: {told}. Points of these would leak into what is "
        "validated; take the images for training alone, for example with --names FILE.json:train, or other sections with --z"
    )


def _why(image: Opened, marks: Iterable[Mark], folders: bool) -> str | None:
    if folders and (folder := held_out_folder(image.image.volume.path)):
        return f"folder {folder}"
    return next((mark.why for mark in marks if mark.holds(image)), None)


def held_out_folder(path: str) -> str | None:
    """The folder on a path whose name says that it is for validation or test, if no deeper one is for training.

    >>> held_out_folder("data/val/images/a.tif"), held_out_folder("test/cells/train/images/a.tif")
    ('val', None)
    """
    for part in reversed(Path(path).parts[:-1]):
        if part.lower() in _TRAIN:
            return None
        if part.lower() in HELD_OUT:
            return part
    return None


def split_marks(source: str) -> list[Mark]:
    """The lists of split files that lie in the folder ``source`` or the one above."""
    place = Path(source)
    folders = [place, place.parent] if place.is_dir() else [place.parent]
    files = sorted(file for folder in folders if folder.is_dir() for file in folder.glob("*split*.json"))
    return [mark for file in files for mark in _of_split(file)]


def _of_split(file: Path) -> list[Mark]:
    try:
        lists = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read {file}, which should say which images are for validation: {error}; mend it or move it away"
        ) from None
    if not isinstance(lists, dict):
        return []
    held = {key: names for key, names in lists.items() if key.lower() in HELD_OUT and isinstance(names, list)}
    return [
        Mark(f"{file.name}:{key}", frozenset(stem(str(n)) for n in names) | frozenset(map(str, names)))
        for key, names in held.items()
    ]


def mark_of(entry: str) -> Mark:
    """What ``FILE.json:KEY``, a text file of names, a recipe, or the folder of a run holds out."""
    path = Path(entry)
    recipe = path / "recipe.yaml" if path.is_dir() else path
    if recipe.suffix.lower() in (".yaml", ".yml"):
        return Mark(f"validation of {entry}", parts=tuple(_parts_of(read_yaml(recipe), entry)))
    if path.is_dir():
        raise UserError(f"{entry} is no run; give a run's folder, a recipe, FILE.json:KEY or a text file of names")
    names = read_names(entry)
    return Mark(entry, frozenset(names) | frozenset(stem(name) for name in names))


def _parts_of(recipe: dict[str, Any], entry: str) -> Iterable[tuple[str, Box]]:
    """Files and boxes that the ``validation`` of a recipe takes."""
    validation = recipe.get("validation")
    sources = validation.get("sources") if isinstance(validation, dict) else None
    if not sources:
        raise UserError(f"{entry} names no images for validation; give a recipe with validation.sources")
    for values in sources:
        known = {k: v for k, v in values.items() if k in ImageSource.model_fields}
        source = ImageSource.load(known, f"{entry}: validation.sources")
        pairs = list(look(source.path, layout=source.layout).pairs)
        if source.names is not None:
            pairs = select(pairs, read_names(source.names), source.path)
        for image in dict.fromkeys(pair.image for pair in pairs):
            volume = open_volume(image, dataset=source.dataset, mip=source.mip)
            yield _resolved(volume.path), selected(source, volume, image)


def _resolved(path: str) -> str:
    return path if "://" in path else str(Path(path).resolve())
