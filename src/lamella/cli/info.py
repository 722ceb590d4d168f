"""``lamella info``: what a path holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from lamella.core.volume import Meta, Volume
    from lamella.io import Description


_PIPE_WIDTH = 200  # columns where the output goes to a file or another program


def info(path: str) -> None:
    """Print what a volume, archive or folder holds: data sets, mips, voxel sizes, channels, and how it was made.

    Reads no voxels. Sizes are of all voxels, uncompressed.

    Examples
    --------
    ```
    lamella info aligned.ome.zarr
    lamella info sections/
    lamella info stacks.h5
    lamella info frames/
    lamella info precomputed://gs://bucket/volume
    ```

    Parameters
    ----------
    path
        A file, folder or address: OME-Zarr, N5, precomputed, a TIFF stack, a folder of sections or frames, an HDF5
        archive.
    """
    from rich.console import Console

    from lamella.io import describe

    found = describe(path)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    console.print(f"{found.path}: {found.format}", highlight=False, markup=False, soft_wrap=True)
    console.print(_mips(found))
    for line in _lines(found):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _mips(found: Description) -> Table:
    from rich.table import Table

    table = Table("data set", "mip", "axes", "box", "type", "chunk", "voxel size", "bytes", box=None)
    for name, volumes in found.datasets.items():
        for mip, volume in enumerate(volumes):
            table.add_row(name or "(main)" if not mip else "", str(mip), *_row(volume))
    return table


def _row(volume: Volume) -> tuple[str, ...]:
    from lamella.io.description import nbytes

    return (
        " ".join(volume.meta.axes),
        _box(volume),
        str(volume.dtype),
        " x ".join(map(str, volume.chunk)),
        _voxel(volume.meta),
        _bytes(nbytes(volume)),
    )


def _box(volume: Volume) -> str:
    """The shape, and where it begins if that is not at zero."""
    start = ", ".join(map(str, volume.box.start))
    return " x ".join(map(str, volume.box.shape)) + (f" from {start}" if any(volume.box.start) else "")


def _voxel(meta: Meta) -> str:
    from lamella.io.units import short_unit

    sizes = [(v, short_unit(u)) for a, v, u in zip(meta.axes, meta.voxel_size, meta.units, strict=True) if a in "zyx"]
    units = {u for _, u in sizes}
    if len(units) == 1:
        return " x ".join(f"{v:.6g}" for v, _ in sizes) + f" {units.pop() or '(no unit)'}"
    return " x ".join(f"{v:.6g} {u}".strip() for v, u in sizes)


def _bytes(count: int) -> str:
    """Uncompressed size in binary multiples."""
    names = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    power = min(max(count, 1).bit_length() - 1, 59) // 10
    return f"{count / 1024**power:.4g} {names[power]}"


def _lines(found: Description) -> list[str]:
    """Channels and provenance of each data set, what is the same for all once; the command and versions that made it first."""
    told: dict[tuple[str, str], list[str]] = {}
    for name, volumes in found.datasets.items():
        for fact in _facts(volumes[0]).items():
            told.setdefault(fact, []).append(name)
    lines = []
    for (key, text), names in told.items():
        some = len(names) < len(found.datasets) or len(names) == 1
        where = f" of {', '.join(n or '(main)' for n in names)}" if some and any(names) else ""
        lines.append(f"{key}{where}: {text}")
    return lines


def _facts(volume: Volume) -> dict[str, str]:
    from lamella.io.frames import FRAMES, listed_frames, present

    meta, facts = volume.meta, {}
    if meta.channel_names:
        facts["channels"] = ", ".join(n or "(no name)" for n in meta.channel_names)
    if any(meta.translation):
        facts["voxel 0 lies at"] = ", ".join(f"{t:.6g}" for t in meta.translation)
    if "".join(meta.axes) == "tczyx" and listed_frames(meta):
        counts = present(volume).sum(axis=(0, 2))
        channels = range(volume.box.start[1], volume.box.stop[1])
        facts["frames"] = ", ".join(f"{n} of channel {c}" for c, n in zip(channels, counts, strict=True))
    told = {k: _plain(v) for k, v in meta.provenance.items() if v is not None and k != FRAMES}
    return facts | {k: text for k, text in told.items() if text}


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items() if k != "frames")
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
