"""The synthetic specimen on disk, as volumes that every verb reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.files import replacing
from lamella.core.provenance import provenance
from lamella.core.volume import Meta
from lamella.io import create_volume
from lamella.tasks.align.specimen import VOXEL_NM, Specimen


@dataclass(frozen=True)
class SpecimenFiles:
    """Where the parts of a specimen lie in its folder."""

    folder: Path

    @property
    def source(self) -> str:
        """The sections as they come from the microscope (z y x)."""
        return str(self.folder / "source.ome.zarr")

    @property
    def clean(self) -> str:
        """The sections as the tissue was (z y x)."""
        return str(self.folder / "clean.ome.zarr")

    @property
    def truth(self) -> str:
        """The true fields (c z y x), NaN where a clean pixel has no counterpart in the source."""
        return str(self.folder / "truth.ome.zarr")

    @property
    def defects(self) -> str:
        """The ternary mask of the source's defects (z y x)."""
        return str(self.folder / "defects.ome.zarr")


def write_specimen(specimen: Specimen, folder: Path) -> SpecimenFiles:
    """Write ``specimen`` to a new ``folder``; it appears there when it is whole."""
    facts = provenance(config=specimen.config.to_dict(), seed=specimen.seed, spoiled=specimen.spoiled)
    truth = specimen.fields.swapaxes(0, 1).copy()
    truth[:, specimen.hidden] = np.nan
    with replacing(folder) as beside:
        files = SpecimenFiles(beside)
        _write(files.source, specimen.disturbed, facts)
        _write(files.clean, specimen.clean, facts)
        _write(files.defects, specimen.defects, facts)
        _write(files.truth, truth, facts)
    return SpecimenFiles(folder)


def _write(path: str, array: NDArray[Any], facts: dict[str, Any]) -> None:
    is_field = array.ndim == 4
    meta = Meta(
        axes=("c", "z", "y", "x") if is_field else ("z", "y", "x"),
        voxel_size=(1.0, *VOXEL_NM) if is_field else VOXEL_NM,
        units=("", *("nanometer",) * 3) if is_field else ("nanometer",) * 3,
        channel_names=("dy", "dx") if is_field else (),
        provenance=facts,
    )
    (volume,) = create_volume(path, box=Box.of(array.shape), dtype=array.dtype, meta=meta)
    volume.write(volume.box, array)
