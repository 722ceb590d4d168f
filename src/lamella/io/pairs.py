"""Images and their labels: find what belongs together at a path. The layouts are told in ``lamella.io.layouts``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lamella.core.errors import UserError
from lamella.io.layouts import (
    IMAGE_FOLDERS,
    LABEL_FOLDERS,
    SUFFIXES,
    Found,
    Pair,
    image_files,
    label_beside,
    pair_ctc,
    pair_folders,
    pair_suffixes,
    pair_zarr,
    sequences,
    stem,
    two_folders,
)
from lamella.io.place import Place

Layout = Literal["auto", "folders", "suffixes", "ctc", "ome-zarr", "files"]

_FEW = 5  # as many names are listed in a message


def find_pairs(path: str, labels: str | None = None, layout: Layout = "auto") -> list[Pair]:
    """The images at ``path`` with their labels, in natural order.

    ``labels`` names the other folder, file, OME-Zarr label or ``GT``/``ST`` where the layout leaves a choice. Images of which
    none has labels are pairs without labels, to predict on. Raises UserError for paths that hold no images, and for files that
    lack their partner while others have one, naming them.
    """
    found = look(path, labels, layout)
    if found.problems:
        raise UserError(unmatched(path, found.problems))
    return list(found.pairs)


def look(path: str, labels: str | None = None, layout: Layout = "auto") -> Found:
    """Like ``find_pairs``, with what lacks its partner told instead of raised."""
    place = Place.parse(path)
    if place.local is not None and not place.local.exists() and not _is_inside(place.local):
        raise UserError(f"{path} does not exist; give a folder of images, or an image")
    chosen = layout if layout != "auto" else _layout(place, labels)
    found = _LAYOUTS[chosen](place, labels)
    if not found.pairs and not found.problems:
        raise UserError(f"no images were found in {path}; {_EXPECTED}")
    return found


def unmatched(path: str, problems: Sequence[str]) -> str:
    """One line that names the first few files without a partner."""
    more = "" if len(problems) <= _FEW else f"; and {len(problems) - _FEW} more"
    return f"images and labels of {path} do not match: {'; '.join(problems[:_FEW])}{more}; add or rename them"


def read_names(names: str | Sequence[str]) -> list[str]:
    """Names of images: a list of them, a text file with one a line, or ``FILE.json:KEY`` that holds a list."""
    if not isinstance(names, str):
        return list(names)
    file, _, key = names.rpartition(":") if ".json:" in names else (names, "", "")
    try:
        text = Path(file).read_text()
        found = json.loads(text) if file.endswith(".json") else text.split()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read names from {file}: {error}; give a list, a text file or FILE.json:KEY") from None
    for part in key.split(".") if key else ():
        if not isinstance(found, dict) or part not in found:
            there = ", ".join(found) if isinstance(found, dict) else f"a {type(found).__name__}"
            raise UserError(f"{file} has no key {part!r}; it holds {there}")
        found = found[part]
    if not isinstance(found, list) or not all(isinstance(n, str) for n in found):
        raise UserError(f"{names} is no list of names; give FILE.json:KEY with a key that holds one")
    return found


def select(pairs: Sequence[Pair], names: Sequence[str], path: str) -> list[Pair]:
    """The pairs of these names (with or without their ending), in the order of the names."""
    by_name = {p.name: p for p in pairs}
    missing = [n for n in names if n not in by_name and stem(n) not in by_name]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(names)} names are not in {path}: {', '.join(missing[:_FEW])}; "
            f"its names are like {', '.join(list(by_name)[:2])}"
        )
    return [by_name.get(n) or by_name[stem(n)] for n in names]


_EXPECTED = (
    f"expected {'|'.join(IMAGE_FOLDERS[:2])}/ beside {'|'.join(LABEL_FOLDERS)}/, files with {', '.join(SUFFIXES)} beside their "
    "image, 01/ with 01_GT/SEG, or an OME-Zarr with labels"
)


def _is_inside(path: Path) -> bool:
    """Whether the path goes on inside a file, as in ``FILE.h5/DATASET``."""
    return any(parent.is_file() for parent in path.parents)


def _layout(place: Place, labels: str | None) -> Layout:
    local = place.local
    if local is None or not local.is_dir():
        return "ome-zarr" if local is None and labels is None else "files"
    if _is_zarr(local) or any(_is_zarr(p) for p in local.iterdir() if p.is_dir()):
        if labels is not None and not _is_zarr(local) and Path(labels).is_dir() and not _is_zarr(Path(labels)):
            return "folders"  # a store for each image, and a folder of labels elsewhere
        return "files" if labels is not None and Place.parse(labels).local.exists() else "ome-zarr"  # type: ignore[union-attr]
    if sequences(local):
        return "ctc"
    if two_folders(local) or (labels is not None and Path(labels).is_dir()):
        return "folders"
    return "suffixes"


def _is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs", ".zarray"))


def _folders(place: Place, labels: str | None) -> Found:
    folder = _local(place)
    both = two_folders(folder)
    images, marked = both if both else (folder, None)
    if labels is not None:
        marked = Path(labels) if Path(labels).is_dir() else folder / labels
    if marked is None or not marked.is_dir():
        raise UserError(f"{folder} has no folder of labels ({', '.join(LABEL_FOLDERS)}); name it with labels")
    return pair_folders(images, marked)


def _suffixes(place: Place, labels: str | None) -> Found:
    folder = _local(place)
    found = pair_suffixes(folder)
    if found.pairs:
        return found
    pickled = next((p for p in folder.iterdir() if p.name.endswith("_seg.npy")), None)
    if pickled is not None:
        raise UserError(
            f"{pickled} holds Python objects of Cellpose, which are not read; let Cellpose save its masks as PNG or TIFF"
        )
    return Found(tuple(Pair(stem(f), str(f), None) for f in image_files(folder)))


def _ctc(place: Place, labels: str | None) -> Found:
    folder = _local(place)
    found = [pair_ctc(sequence, labels) for sequence in sequences(folder) or [folder]]
    return Found(tuple(p for f in found for p in f.pairs), tuple(p for f in found for p in f.problems))


def _zarrs(place: Place, labels: str | None) -> Found:
    local = place.local
    if local is None or _is_zarr(local):
        return pair_zarr(place.url, labels)
    found = [pair_zarr(str(p), labels) for p in sorted(local.iterdir()) if p.is_dir() and _is_zarr(p)]
    return Found(tuple(p for f in found for p in f.pairs), tuple(p for f in found for p in f.problems))


def _files(place: Place, labels: str | None) -> Found:
    beside = label_beside(place.local) if labels is None and place.local is not None and place.local.is_file() else None
    chosen = labels if labels is not None else None if beside is None else str(beside)
    return Found((Pair(stem(place.url), place.url, chosen),))


def _local(place: Place) -> Path:
    if place.local is None or not place.local.is_dir():
        raise UserError(f"{place.url} is no folder on this machine; this layout needs one")
    return place.local


_LAYOUTS = {"folders": _folders, "suffixes": _suffixes, "ctc": _ctc, "ome-zarr": _zarrs, "files": _files}
