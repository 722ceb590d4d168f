"""What is measured of the training part before training, and kept in the run, so that prediction needs no target.

Where the preprocessing holds no statistics, centre and spread of every channel are measured here, over all the frames that are trained
on. Of each target the intensities that become 0 and 1 (percentiles) are measured then, so that losses and their weights mean the same
whatever the stain's brightness.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.progress import progress
from lamella.data.frames_image import FrameImage, Unit
from lamella.data.frames_stack import Channels, Stack
from lamella.io.preprocessing import Group, Statistics

_LIMIT = 1 << 22  # pixels of a channel: more change no percentile that matters
Values = NDArray[np.float32]
Centre = Literal["median", "mean"]


def statistics(stacks: Sequence[Stack], channels: Channels, centre: Centre, source: str) -> Statistics:
    """Centre and spread of every channel over the frames that are trained on, of stacks opened without statistics."""
    groups: dict[int, Group] = {}
    kinds = (1, 0) if channels.target == "intensity" else (0,)
    images = {number: (kind, k) for kind in kinds for k, number in enumerate(stacks[0].numbers[kind])}
    with progress("measuring intensities", len(images), "channels") as meter:
        for number, (kind, k) in sorted(images.items()):
            values = _values([_frames(stack, kind, k, channels) for stack in stacks])
            groups[number] = Group(channel=number, **spread_of(values, number, centre))
            meter.advance()
    return Statistics(level="dataset", source=source, groups=tuple(groups.values()))


def units(stacks: Sequence[Stack], channels: Channels, percentiles: tuple[float, float]) -> tuple[Unit, ...]:
    """For each target the values of the view at two percentiles."""
    found: list[Unit] = []
    for k, number in enumerate(stacks[0].numbers[1]):
        values = _values([_frames(stack, 1, k, channels) for stack in stacks])
        low, high = (float(v) for v in np.percentile(values.astype(np.float64), percentiles))
        if not high > low:
            raise UserError(
                f"target channel {number} is {low:g} at percentile {percentiles[0]:g} and at {percentiles[1]:g}: there is "
                "nothing to learn; leave it out of data.targets, or widen data.target_range"
            )
        found.append((low, high))
    return tuple(found)


def _frames(stack: Stack, kind: int, channel: int, channels: Channels) -> list[tuple[FrameImage, int, int]]:
    """The frames of a channel (of the inputs, kind 0, or the targets) that are trained on."""
    image = stack.inputs if kind == 0 else stack.targets
    depth = channels.depth if kind == 0 or channels.whole_window else 1
    zs = sorted({z + d for z in stack.planes for d in range(-(depth // 2), depth // 2 + 1)})
    return [(image, channel, z) for z in zs if kind == 0 or stack.exists[channel, z]]


def _values(stacks: Sequence[list[tuple[FrameImage, int, int]]]) -> Values:
    """All pixels of all frames if these are few enough, otherwise of evenly spread frames on a grid of pixels."""
    frames = [frame for stack in stacks for frame in stack]
    chosen = [frames[int(k)] for k in np.linspace(0, len(frames) - 1, min(len(frames), 256))]
    pixels = sum(int(np.prod(image.shape[1:])) for image, _, _ in chosen)
    step = max(int(np.ceil(np.sqrt(pixels / _LIMIT))), 1)
    return np.concatenate([*_read(chosen, step)]) if chosen else np.zeros(0, np.float32)


def _read(frames: Sequence[tuple[FrameImage, int, int]], step: int) -> Iterator[Values]:
    for image, channel, z in frames:
        start, shape = image.volume.box.start, image.shape
        corner = (image.time, image.channels[channel], start[2] + z, *start[3:])
        whole = Box(corner, (*(n + 1 for n in corner[:3]), *(a + n for a, n in zip(start[3:], shape[1:], strict=True))))
        yield image.volume.read(whole)[0, 0, 0][::step, ::step].ravel()


def spread_of(values: Values, channel: int, centre: Centre) -> dict[str, float]:
    exact = values.astype(np.float64)
    if not exact.size:
        raise UserError(f"channel {channel} has no frame to train on; leave it out, or choose other positions")
    if centre == "mean":
        middle, spread, name = float(exact.mean()), float(exact.std()), "standard deviation"
    else:
        lower, middle, upper = (float(v) for v in np.percentile(exact, (25, 50, 75)))
        spread, name = upper - lower, "interquartile range"
    if not spread > 0:
        fix = "its images are constant, so leave it out" if not exact.std() > 0 else "set data.centre=mean"
        raise UserError(
            f"the {name} of channel {channel} is 0 (values are about {middle:g}), so it cannot be normalised; {fix}"
        )
    return {"centre": middle, "spread": spread}
