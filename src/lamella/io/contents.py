"""What a path holds: its format, its data sets, and the mips of each; the form that every format gives its findings in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from lamella.core.errors import UserError
from lamella.core.files import replacing
from lamella.core.volume import Volume
from lamella.io.place import Place
from lamella.io.plan import Plan


@dataclass(frozen=True)
class Dataset:
    """An array or a pyramid of them; ``open(mip, writable)`` gives the volume of one mip."""

    num_mips: int
    open: Callable[[int, bool], Volume]


@dataclass(frozen=True)
class Contents:
    """What was found at a place: the data sets by name; a file's only data set may have the empty name.

    ``positions`` are the data sets that are fields of view of one experiment, in folders of frames and plates.
    """

    label: str
    datasets: Mapping[str, Dataset]
    positions: tuple[str, ...] = ()


@runtime_checkable
class Format(Protocol):
    """A file format. To add one, write its file and add it to the list in ``lamella.io.open``."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names by which ``create`` may be asked for; the first is the format's own."""
        ...

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Endings of names that mean this format when a volume is created."""
        ...

    @property
    def label(self) -> str:
        """What the format is called in messages."""
        ...

    def contents(self, place: Place) -> Contents | None:
        """What is there, None if it is not of this format. Must be cheap where it is not."""
        ...

    def create(self, place: Place, plan: Plan, kind: str) -> None:
        """Write an empty volume as planned; ``place`` is free."""
        ...


@contextmanager
def built_beside(place: Place) -> Iterator[Place]:
    """A place to build a folder in; on disk it is moved to ``place`` when complete, taking the place of what was there."""
    if place.local is None:
        yield place
        return
    with replacing(place.local) as beside:
        beside.mkdir()
        yield Place(str(beside), place.prefix)
        if place.local.is_dir():
            shutil.rmtree(place.local)


def pick(contents: Contents, place: Place, dataset: str | None) -> tuple[str, Dataset]:
    """The data set asked for, or the only one, or the one that the format holds for the main one (named "")."""
    names = list(contents.datasets)
    listed = ", ".join(repr(n) for n in names)
    if dataset is None:
        if len(names) == 1 or "" in names:
            return ("" if "" in names else names[0]), contents.datasets["" if "" in names else names[0]]
        raise UserError(
            f"{place.url} holds {len(names)} data sets: {listed}; choose one, for example {place.url}/{names[0]}"
        )
    name = dataset.strip("/")
    if name not in contents.datasets:
        raise UserError(f"data set {dataset!r} is not in {place.url}, which holds {listed}; choose one of those")
    return name, contents.datasets[name]
