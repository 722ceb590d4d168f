"""What nets of every task ask of an image that they are applied to."""

from __future__ import annotations

from lamella.core.errors import UserError
from lamella.data.image_source import Part
from lamella.io.statistics import sample_voxels
from lamella.ops.intensity import IntensityConfig, Scaling


def check_part(part: Part, in_channels: int, ndim: int, slices: int) -> None:
    """Refuse an image that a net of ``in_channels``, for each of its ``slices`` neighbouring sections, cannot take."""
    path, axes = part.volume.path, "".join(part.volume.meta.axes)
    need = in_channels // slices
    if part.num_channels != need:
        found = f"{path} has {_counted(part.num_channels)}, the net was trained on {need}"
        raise UserError(
            f"{found}; name {need} with --channels"
            if part.num_channels > need
            else f"{found}; give images with as many"
        )
    if part.volume.dtype.kind not in "buif":
        raise UserError(f"{path} holds {part.volume.dtype}; images must be integers or floats")
    if "z" not in axes and (ndim == 3 or slices > 1):
        what = "volumes" if ndim == 3 else f"{slices} neighbouring sections"
        raise UserError(f"{path} has axes {axes} and no z, but the net was trained on {what}; give stacks of sections")


def scaling_of(part: Part, normaliser: IntensityConfig) -> Scaling:
    """How the intensities of an image are scaled: by those of the whole image, whatever part of it is taken."""
    voxels = sample_voxels(part.volume, part.whole)
    try:
        return normaliser.measure(voxels if part.channels is None else voxels[list(part.channels)])
    except UserError as error:
        raise UserError(f"{part.volume.path}: {error}") from None


def _counted(channels: int) -> str:
    return f"{channels} channel{'s' if channels != 1 else ''}"
