"""Archives in the making: created once, filled sample by sample, gone on with after a kill.

An HDF5 archive lies uncompressed and in one piece, so samples are written in place and in any order, and a kill at any moment leaves
a file that can be gone on with (the index of a compressed HDF5 file would be lost). A ``.zarr`` archive is compressed, one chunk per
section, each written in one step. What is done is recorded in a hidden folder beside the archive until all of it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamella.blockwise import Unfinished
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.provenance import provenance
from lamella.core.volume import Meta, Volume
from lamella.io import create_archive, create_volume, open_volume

HDF5 = (".h5", ".hdf5", ".hdf")
SUFFIXES = (*HDF5, ".zarr")

Arrays = Mapping[str, tuple[Box, Any, Meta]]


def check_output(path: str | Path, suffixes: tuple[str, ...] = SUFFIXES) -> Path:
    """The local path of an archive that can be written."""
    if "://" in str(path) or Path(path).suffix not in suffixes:
        raise UserError(f"output {path} must be a path on this machine that ends in {' or '.join(suffixes)}")
    return Path(path)


def lay_out(path: Path, arrays: Arrays, begun: Unfinished) -> dict[str, Volume]:
    """The writable data sets of the archive by name (box, dtype, meta), made if no earlier run did."""
    if not begun.created:
        with begun.creating():
            _create(path, arrays)
    named = path.suffix in HDF5
    return {name: open_volume(str(path), dataset=name if named else None, writable=True) for name in arrays}


def _create(path: Path, arrays: Arrays) -> None:
    if path.suffix in HDF5:
        create_archive(path, arrays, overwrite=True)
        return
    ((box, dtype, meta),) = arrays.values()
    create_volume(str(path), box=box, dtype=dtype, meta=meta, chunk=(1, 1, *box.shape[2:]), overwrite=True)


def origin(**facts: Any) -> dict[str, Any]:
    """Provenance for the archive itself: without the time and the command, so that the same settings give the same bytes."""
    return {k: v for k, v in provenance(**facts).items() if k not in ("time", "command")}
