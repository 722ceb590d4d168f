"""How people keep images and their labels: each layout finds its pairs, and what has no partner.

| layout | looks like |
|---|---|
| ``folders`` | ``images/x.tif`` and ``labels/x.png`` (also ``masks/``); names equal but for the ending |
| ``suffixes`` | ``x.tif`` and ``x_masks.tif`` in one folder; also ``_mask``, ``_labels``, ``_label``, ``_seg``, ``_cp_masks`` |
| ``ctc`` | Cell Tracking Challenge: ``01/t000.tif`` and ``01_GT/SEG/man_seg000.tif`` or ``01_ST/SEG``; slices ``man_seg_000_005.tif`` |
| ``ome-zarr`` | an OME-Zarr image, or a folder or plate of them, with ``labels/`` inside |
| ``files`` | one image, and its labels where they are named |
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lamella.core.errors import UserError
from lamella.io.folders import natural
from lamella.io.open import contents_of
from lamella.io.place import Place

SUFFIXES = ("_cp_masks", "_masks", "_mask", "_labels", "_label", "_seg")
IMAGE_FOLDERS = ("images", "image", "imgs", "img")
LABEL_FOLDERS = ("labels", "label", "masks", "mask")

_FILES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".h5", ".hdf5")
_STORES = (".zarr", ".n5")
_IMAGE_SUFFIXES = ("_img", "_image")
_BY_PRODUCTS = ("_flows", "_outlines")  # pictures that Cellpose leaves beside its masks


@dataclass(frozen=True)
class Pair:
    """An image and its labels, as ``open_volume`` takes them; ``labels`` is None where there are none.

    ``z`` is the section of the image that the labels show, None if they show all of it.
    """

    name: str
    image: str
    labels: str | None
    z: int | None = None


@dataclass(frozen=True)
class Found:
    """The pairs of a layout, and one line for each file that has no partner."""

    pairs: tuple[Pair, ...]
    problems: tuple[str, ...] = ()


def stem(path: Path | str) -> str:
    """A file's name without its ending; ``.ome`` belongs to the ending.

    >>> stem("cells/a.1.ome.tif")
    'a.1'
    """
    name = Path(path).name
    return re.sub(r"(\.ome)?\.[A-Za-z0-9]+$", "", name, flags=re.IGNORECASE)


def image_files(folder: Path) -> list[Path]:
    """Images and volumes in a folder, in natural order (2 before 10)."""
    found = [p for p in folder.iterdir() if not p.name.startswith(".") and _is_image(p)]
    return sorted(found, key=lambda p: natural(p.name))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in (_STORES if path.is_dir() else _FILES)


# Two folders


def two_folders(folder: Path) -> tuple[Path, Path] | None:
    """The sub-folders of images and of labels, if there are both."""
    images = next((folder / n for n in IMAGE_FOLDERS if (folder / n).is_dir()), None)
    labels = next((folder / n for n in LABEL_FOLDERS if (folder / n).is_dir()), None)
    return (images, labels) if images and labels else None


def pair_folders(images: Path, labels: Path) -> Found:
    """Files of one name in two folders; the labels' names may end in one of the suffixes."""
    shown = _by_stem(image_files(images))
    marked = _by_stem(image_files(labels))
    if not set(shown) & set(marked):
        marked = {_without(name, SUFFIXES): file for name, file in marked.items()}
        shown = {_without(name, _IMAGE_SUFFIXES): file for name, file in shown.items()}
    return _match(shown, marked, f"in {labels}", f"in {images}")


def _by_stem(files: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        other = found.setdefault(stem(file), file)
        if other is not file:
            raise UserError(f"{other} and {file} differ in nothing but their ending; remove one of them")
    return found


def _match(images: dict[str, Path], labels: dict[str, Path], labels_at: str, images_at: str) -> Found:
    pairs = [Pair(n, str(file), str(labels[n])) for n, file in images.items() if n in labels]
    lonely = [f"{file} has no labels of that name {labels_at}" for n, file in images.items() if n not in labels]
    lonely += [f"{file} has no image of that name {images_at}" for n, file in labels.items() if n not in images]
    return Found(tuple(pairs), tuple(lonely))


# One folder


def pair_suffixes(folder: Path) -> Found:
    """``x.tif`` (or ``x_img.tif``) and ``x_masks.tif``."""
    images, labels = {}, {}
    for file in image_files(folder):
        name = stem(file)
        bare = _without(name, SUFFIXES)
        if bare != name:
            labels[bare] = file
        elif _without(name, _BY_PRODUCTS) == name:
            images[_without(name, _IMAGE_SUFFIXES)] = file
    return _match(images, labels, f"with one of the endings {', '.join(SUFFIXES)}", "without that ending")


def label_beside(image: Path) -> Path | None:
    """The labels of one image in the same folder."""
    bare = _without(stem(image), _IMAGE_SUFFIXES)
    names = {f"{bare}{suffix}" for suffix in SUFFIXES}
    return next((f for f in image_files(image.parent) if stem(f) in names), None)


def _without(name: str, suffixes: Iterable[str]) -> str:
    ending = next((s for s in suffixes if name.lower().endswith(s)), "")
    return name[: len(name) - len(ending)]


# Cell Tracking Challenge


def sequences(folder: Path) -> list[Path]:
    """The folders of images of a data set of the Cell Tracking Challenge, or the one that ``folder`` is; maybe none."""
    candidates = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
    return [p for p in candidates if re.fullmatch(r"\d\d", p.name) and _truth(p)]


def _truth(sequence: Path) -> Path | None:
    found = (sequence.with_name(f"{sequence.name}_{kind}") / "SEG" for kind in ("GT", "ST"))
    return next((p for p in found if p.is_dir()), None)


def pair_ctc(sequence: Path, truth: str | None) -> Found:
    """Annotated frames of one sequence; ``truth`` is ``GT``, ``ST`` or a folder, by default GT where there is one."""
    folder = _truth_folder(sequence, truth)
    frames = {int(m[1]): f for f in image_files(sequence) if (m := re.fullmatch(r"t(\d+)", stem(f)))}
    pairs, problems = [], []
    for file in image_files(folder):
        match = re.fullmatch(r"man_seg_?(\d+)(?:_(\d+))?", stem(file))
        if match is None:
            continue
        z = None if match[2] is None else int(match[2])
        name = f"{sequence.name}/t{match[1]}" + ("" if z is None else f"_z{match[2]}")
        image = frames.get(int(match[1]))
        if image is None:
            problems.append(f"{file} has no frame t{match[1]} in {sequence}")
        else:
            pairs.append(Pair(name, str(image), str(file), z))
    return Found(tuple(pairs), tuple(problems))


def _truth_folder(sequence: Path, truth: str | None) -> Path:
    given = None if truth is None else Path(truth)
    if given is not None and given.name == "TRA":
        raise UserError(f"{given} holds markers for tracking, not the cells' shapes; give the SEG folder beside it")
    if truth in ("GT", "ST"):
        given = sequence.with_name(f"{sequence.name}_{truth}") / "SEG"
    elif given is not None and (given / "SEG").is_dir():
        given = given / "SEG"
    folder = given or _truth(sequence)
    if folder is None or not folder.is_dir():
        near = sequence.with_name(f"{sequence.name}_GT") / "SEG"
        raise UserError(
            f"no segmentation of {sequence} in {folder or near}; the challenge keeps it in {near} or _ST/SEG"
        )
    return folder


# OME-Zarr


def pair_zarr(path: str, label: str | None, name: str = "") -> Found:
    """The images of one OME-Zarr (several in a plate or another container), each with the label group of that name."""
    contents = contents_of(Place.parse(path))
    assert contents is not None
    inner = [n for n in contents.datasets if n != "labels" and not n.startswith("labels/")]
    if inner != [""]:
        nested = [pair_zarr(f"{path}/{n}", label, n) for n in inner if contents_of(Place.parse(f"{path}/{n}"))]
        return Found(tuple(p for f in nested for p in f.pairs), tuple(p for f in nested for p in f.problems))
    groups = [n.removeprefix("labels/") for n in contents.datasets if n.startswith("labels/")]
    if label is None and len(groups) > 1:
        listed = ", ".join(repr(g) for g in groups)
        raise UserError(f"{path} has several labels, {listed}; name one, for example labels={groups[0]}")
    chosen = label if label is not None else next(iter(groups), None)
    if label is not None and label not in groups:
        there = f"it has {', '.join(map(repr, groups))}" if groups else "it has none"
        return Found((), (f"{path} has no labels named {label!r}: {there}",))
    labels = None if chosen is None else f"{path}/labels/{chosen}"
    return Found((Pair(name or stem(path), path, labels),))
