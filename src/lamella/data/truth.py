"""Known fields between sections, for supervised training on synthetic displacements.

``truth`` holds fields whose values are known, and the weight layer ``valid`` where: 1 where the tissue that a target pixel shows
can be seen in the source section too, 0 where it is hidden under a fold, where the pixel lies in a crack, or where nothing is
known. Geometry and seams keep both true.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lamella.core.errors import UserError
from lamella.data.geometry import voxel_grid
from lamella.data.sample import Layer, Sample
from lamella.data.tear import Tear

TRUTH = "truth"
VALID = "valid"


def with_truth(
    sample: Sample,
    field: Float[Tensor, "b c *space"],
    *,
    source: tuple[int, ...] = (0,),
    target: tuple[int, ...] = (1,),
) -> Sample:
    """Add ``field``, which on the grid of section ``target[k]`` says where in section ``source[k]`` to look, with ``valid`` 1.

    field: ``(b, len(target) * d, *space)``, pixels.
    """
    if len(source) != len(target) or field.shape[1] != len(target) * sample.ndim:
        raise UserError(
            f"a field of {field.shape[1]} channels cannot hold {len(target)} fields of {sample.ndim} components from sections "
            f"{source} to {target}; give {sample.ndim} channels for each pair"
        )
    known = torch.ones(field.shape[0], len(target), *field.shape[2:], dtype=field.dtype, device=field.device)
    return sample.with_layers(
        **{TRUTH: Layer(field, "field", on=target, to=source), VALID: Layer(known, "weight", on=target)}
    )


def seen(sample: Sample) -> Float[Tensor, "b n *space"]:
    """``valid``, and 0 also where the truth points out of the source section."""
    truth, valid = sample[TRUTH].tensor, sample[VALID].tensor
    space, ndim = sample.space, sample.ndim
    vectors = truth.reshape(truth.shape[0], -1, ndim, *space)
    inside = torch.ones_like(valid, dtype=torch.bool)
    grid = voxel_grid(space, truth.device).reshape(ndim, *space)
    for axis, size in enumerate(space):
        place = grid[axis] + vectors[:, :, axis]
        inside &= (place >= 0) & (place <= size - 1)
    return valid * inside.to(valid.dtype)


def hide(sample: Sample, tear: Tear) -> Sample:
    """``valid`` set to 0 where the tear will hide the tissue that the truth points to; before the sample is moved."""
    if TRUTH not in sample:
        return sample
    truth = sample[TRUTH]
    space, batch = sample.space, truth.tensor.shape[0]
    vectors = truth.tensor.reshape(batch, -1, 2, space[0] * space[1])
    hidden = tear.pick(truth.to).hides(voxel_grid(space, truth.tensor.device) + vectors)
    valid = sample[VALID].tensor
    return sample.with_tensors(**{VALID: valid * ~hidden.reshape(valid.shape)})
