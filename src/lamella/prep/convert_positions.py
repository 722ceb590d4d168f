"""Copying experiments of several positions: folders of frames into plates, plates into frames, either into its own kind.

Each position is copied as a volume of its own, with its own ledgers, all under one plan. A volume that is neither becomes
position 0 of the frames, or the field ``A/1/0`` of the plate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from lamella.blockwise import Crew, Executor, Report
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.io import open_volume
from lamella.io.plan import make_plan
from lamella.io.positions import create_positions, layout_of, plate_told, positions_of, renamed, with_position_name
from lamella.io.views import expanded
from lamella.prep.convert import Planned, begin, chunk_of, fill, opened, plan_copy
from lamella.prep.convert_settings import ConvertSettings


def convert_positions(
    source: str,
    target: str,
    names: Sequence[str],
    settings: ConvertSettings,
    *,
    overwrite: bool,
    executor: Executor,
) -> list[Report]:
    """Copy the positions ``names`` of ``source`` into a folder of frames or a plate; one report per position and mip.

    Voxels, type, voxel size, units, channel names, coordinates, further columns of the frames' table and the places of frames that
    do not exist are kept, and what a plate says of itself. A conversion that was killed goes on when it is repeated.
    """
    layout = layout_of(target, settings.kind, len(names))
    assert layout is not None
    many = bool(positions_of(source))
    to = renamed(source, names, layout) if many else {names[0]: "p000" if layout == "frames" else "A/1/0"}
    planned = {n: plan_copy(_arranged(source, n, settings, to[n]), settings) for n in names}
    plan = {
        "source": source,
        "settings": settings.to_dict(),
        "positions": {to[n]: p.facts() for n, p in planned.items()},
    }
    part = begin(source, target, plan, overwrite)
    if not part.created:
        with part.creating():
            _create(target, {to[n]: p for n, p in planned.items()}, settings, plate_told(source) if many else None)
    reports: list[Report] = []
    with Crew(executor) as crew:
        for name, copy in planned.items():
            mips = [open_volume(target, dataset=to[name], mip=k, writable=True) for k in range(settings.mips)]
            reports += fill(copy, mips, settings, part, crew, to[name])
    part.finish()
    return reports


def _arranged(source: str, name: str, settings: ConvertSettings, to: str) -> Volume:
    """The position as it is to be stored: frames have all axes, and the name of a field that is not ``A/1/N`` in their table."""
    chosen = settings.model_copy(update={"dataset": name}) if name else settings
    volume = opened(source, chosen)
    if "/" in to:
        return volume
    at = {a: n for a, n in (("c", settings.channel), ("t", settings.time)) if n is not None}
    volume = expanded(volume, "tczyx", **at)
    return volume if name == f"A/1/{int(to[1:])}" else Named(volume, name)


class Named:
    """A volume whose list of frames tells the name of its position."""

    def __init__(self, source: Volume, name: str) -> None:
        self.source, self.path, self.box, self.dtype, self.chunk = (
            source,
            source.path,
            source.box,
            source.dtype,
            source.chunk,
        )
        t, c, z = (range(a, b) for a, b in zip(source.box.start[:3], source.box.stop[:3], strict=True))
        self.meta = with_position_name(source.meta, name, list(product(t, c, z)))
        self.read, self.write = source.read, source.write


def _create(
    target: str, planned: Mapping[str, Planned], settings: ConvertSettings, plate: Mapping[str, object] | None
) -> None:
    kind = settings.kind
    if settings.ome_version:
        if kind is not None or layout_of(target, kind, len(planned)) != "plate":
            raise UserError(
                f"OME-Zarr {settings.ome_version} was asked for, but {target} will be no plate; name it .zarr"
            )
        kind = f"plate-{settings.ome_version}"
    plans = {
        name: make_plan(p.volume.box, p.dtype, p.meta, chunk_of(p.volume, settings), p.factors)
        for name, p in planned.items()
    }
    create_positions(target, plans, kind=kind, overwrite=True, plate=plate)
