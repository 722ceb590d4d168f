"""Joining stack archives: each data set copied sample by sample into one HDF5 file, its type and record kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lamella.blockwise import Block, Executor, Unfinished, cover, run
from lamella.blockwise.unfinished import folder_beside
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import refuse_existing, write_json
from lamella.core.volume import Volume
from lamella.io import open_volume
from lamella.io.open import contents_of
from lamella.io.place import Place
from lamella.prep.archive import HDF5, check_output, lay_out
from lamella.prep.places import places_path


@dataclass(frozen=True)
class Part:
    """One data set of a source, and where its samples go: from ``first`` on in data set ``name`` of the output."""

    volume: Volume
    name: str
    first: int = 0


@dataclass(frozen=True)
class CopyJob:
    """Block ``i`` is sample ``i`` of the part."""

    part: Part
    out: Volume

    def read(self, block: Block) -> NDArray[Any]:
        return self.part.volume.read(block.read)

    def compute(self, block: Block, data: NDArray[Any]) -> NDArray[Any]:
        return data

    def write(self, block: Block, result: NDArray[Any]) -> None:
        shift = self.part.first - self.part.volume.box.start[0]
        start = tuple(0 if i else a + shift for i, a in enumerate(block.write.start))
        self.out.write(Box(start, tuple(a + n for a, n in zip(start, block.write.shape, strict=True))), result)


def combine_archives(
    sources: Sequence[str],
    out: str | Path,
    *,
    append: bool = False,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> dict[str, int]:
    """Copy every data set of ``sources`` into the new HDF5 file ``out``; number of samples by name of data set.

    A file with one data set gives it the file's own name, one with several gives ``FILE/DATASET`` for each. With ``append``, data
    sets of one shape of stack, type and mip become one, named after the first of them. Lists of places found beside the sources
    are joined beside ``out``. A run that was killed goes on when it is repeated.
    """
    path = check_output(out, HDF5)
    parts = [part for source in sources for part in _parts(source)]
    _check_parts(parts, path)
    if append:
        parts = _appended(parts)
    if not folder_beside(path).exists():
        refuse_existing(path, overwrite=overwrite)
        refuse_existing(places_path(path), overwrite=overwrite)
    plan = {"parts": [[p.volume.path, p.volume.meta.name, str(p.volume.box), p.name, p.first] for p in parts]}
    begun = Unfinished.begin(path, plan, exists=path.exists(), overwrite=overwrite)
    arrays = {p.name: (Box.of((_count(parts, p.name), *p.volume.box.shape[1:])), p.volume) for p in reversed(parts)}
    volumes = lay_out(
        path,
        {n: (box, v.dtype, replace(v.meta, name=n, translation=())) for n, (box, v) in sorted(arrays.items())},
        begun,
    )
    for i, part in enumerate(parts):
        blocks = cover(part.volume.box, (1, *part.volume.box.shape[1:]), bounds=part.volume.box)
        job = CopyJob(part, volumes[part.name])
        run(job, blocks, label=f"{part.name} ({i + 1} of {len(parts)})", ledger=begun.ledger(f"{i}"), executor=executor)
    _join_places(sources, parts, path)
    begun.finish()
    return {name: volume.box.shape[0] for name, volume in volumes.items()}


def _parts(source: str) -> list[Part]:
    contents = contents_of(Place.parse(source))
    names = list(contents.datasets) if contents else [None]  # FILE/DATASET, or a path whose error open_volume words
    stem = Path(source).name.split(".")[0]
    parts = []
    for name in names:
        volume = open_volume(source, dataset=name)
        axes = " ".join(volume.meta.axes)
        if volume.meta.axes[0] != "n":
            raise UserError(
                f"{source} ({name or 'data'}) has axes {axes}; archives have samples first (n z y x): "
                "draw stacks from it with 'prep stacks'"
            )
        parts.append(Part(volume, f"{stem}/{name}" if len(names) > 1 else stem))
    return parts


def _check_parts(parts: Sequence[Part], path: Path) -> None:
    if any(Path(p.volume.path).resolve() == path.resolve() for p in parts):
        raise UserError(f"output {path} is also a source; choose another name")
    for name, count in Counter(p.name for p in parts).items():
        if count > 1:
            raise UserError(f"{count} of the archives would give a data set named {name!r}; rename one of the files")


def _appended(parts: Sequence[Part]) -> list[Part]:
    """Parts of a kind follow each other under the name of the first."""
    names: dict[Any, str] = {}
    filled: Counter[str] = Counter()
    result = []
    for part in parts:
        volume = part.volume
        kind = (volume.box.shape[1:], volume.dtype.str, volume.meta.axes, volume.meta.provenance.get("mip"))
        name = names.setdefault(kind, part.name)
        result.append(Part(volume, name, filled[name]))
        filled[name] += volume.box.shape[0]
    return result


def _count(parts: Sequence[Part], name: str) -> int:
    return sum(p.volume.box.shape[0] for p in parts if p.name == name)


def _join_places(sources: Sequence[str], parts: Sequence[Part], path: Path) -> None:
    """One list for all, each place with its archive's name, if every source has one."""
    lists = [places_path(s) for s in sources]
    if not all(p.is_file() for p in lists):
        return
    samples = [
        {"archive": s, **row}
        for s, p in zip(sources, lists, strict=True)
        for row in json.loads(p.read_text())["samples"]
    ]
    write_json(places_path(path), {"datasets": sorted({p.name for p in parts}), "samples": samples})
