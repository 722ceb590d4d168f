"""Training windows of consecutive sections, drawn from stack archives and volumes.

Sample ``i`` is drawn from the random stream (seed, i) alone, so a resumed run goes on with the samples that the interrupted one would
have seen, with any number of workers. Sources are drawn in proportion to the number of windows they hold, times ``weight``;
archives, folders of sections and volumes of different mips may be mixed.

A sample has the layer ``sections`` (image, (1, s, y, x), float32 in [0, 1], 0 is missing) and, if any source has masks, ``masks``
(mask, the same shape, 0 normal, 1 near a defect, 2 inside; 0 where its source has none).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from lamella.core.box import Box
from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.data.numbered import Drawn
from lamella.data.sample import SECTIONS, Layer, Sample
from lamella.data.sections import Sections
from lamella.data.source import SourceConfig, StackSource, open_sources
from lamella.data.windows import Windows
from lamella.ops.normalise import NormaliserConfig, Rank

MASKS = "masks"


class StacksData(Config):
    """Which windows a net is trained on."""

    held_out_needs_length: ClassVar[bool] = True  # windows of a volume have no natural end

    kind: Literal["stacks"] = "stacks"
    sources: tuple[SourceConfig, ...] = Field(min_length=1, description="volumes and archives to draw from")
    crop: int = Field(256, ge=1, description="height and width of a window in pixels of its source's mip")
    sections: int = Field(2, ge=1, description="consecutive sections in a window")
    normaliser: NormaliserConfig = Field(Rank(), description="the same as for inference")
    length: int | None = Field(None, ge=1, description="number of different samples, which then repeat; none: no end")
    max_missing: float = Field(
        0.5, ge=0, lt=1, description="share of a window that may be missing before it is redrawn"
    )
    max_draws: int = Field(100, ge=1, description="draws for one sample before giving up")
    cache_gb: float = Field(
        1.0,
        ge=0,
        description="memory for normalised sections; a source that does not fit is normalised window by window",
    )

    def build(self, seed: int) -> StackSamples:
        """Open the sources and check that each holds windows of this size.

        Raises UserError for a path that is no volume, wrong axes or types, a mip that cannot be had, boxes outside, fewer
        sections than a window has, a crop larger than the section, and intensities that the normaliser refuses.
        """
        shape = (self.sections, self.crop, self.crop)
        left = self.cache_gb * 1e9
        parts: list[Part] = []
        for source in (s for config in self.sources for s in open_sources(config, shape)):
            normaliser = self.normaliser.build(source.mip)
            size = Sections.num_bytes(source.images, normaliser, source.selection)
            keep = size <= left
            left -= size if keep else 0
            sections = Sections(source.images, normaliser, source.selection, keep=keep)
            parts.append(Part(source, source.windows, sections))
            _try(parts[-1])
        return StackSamples(self, tuple(parts), seed)

    def held_out(self, seed: int) -> StackSamples:
        """Samples to validate on, ``length`` of them."""
        return self.build(seed)


@dataclass(frozen=True)
class Part:
    """One source, its windows, and its sections."""

    source: StackSource
    windows: Windows
    sections: Sections

    @property
    def weight(self) -> float:
        return len(self.windows) * self.source.weight


class StackSamples(Drawn):
    """Samples by index, see the module. Picklable; indices past ``length`` begin again."""

    def __init__(self, config: StacksData, parts: Sequence[Part], seed: int) -> None:
        self.config, self.parts, self.seed, self.length = config, tuple(parts), seed, config.length
        weights = np.array([p.weight for p in self.parts], np.float64)
        self._chances = weights / weights.sum()
        self._has_masks = any(p.source.masks is not None for p in self.parts)

    def sample(self, index: int) -> Sample:
        part, box, sections = self._draw(index)
        shape = (1, *sections.shape[-3:])
        layers = {SECTIONS: Layer(torch.from_numpy(sections.reshape(shape)), "image")}
        if self._has_masks:
            masks = part.source.read_masks(box).reshape(shape)
            layers[MASKS] = Layer(torch.from_numpy(masks), "mask")
        return Sample(layers)

    def _draw(self, index: int) -> tuple[Part, Box, NDArray[np.float32]]:
        rng = stream(self.seed, "sample", index)
        for _ in range(self.config.max_draws):
            part = self.parts[int(rng.choice(len(self.parts), p=self._chances))]
            box = part.windows.draw(rng)
            sections = part.sections.window(box, self.config.max_missing)
            if sections is not None:
                return part, box, sections
        raise UserError(
            f"sample {index}: {self.config.max_draws} windows drawn one after another are more than "
            f"{self.config.max_missing:.0%} missing; give sources a bbox with tissue, or raise data.max_missing"
        )


def _try(part: Part) -> None:
    """Read and normalise the middle window, to learn of unusable data before the training begins."""
    box = part.windows[len(part.windows) // 2]
    raw = part.source.images.images(box)
    normaliser = part.sections.normaliser
    try:
        normaliser(raw.reshape(-1, *raw.shape[-2:])[0])
    except UserError as error:
        raise UserError(f"{part.source.images.volume.path}, box {box}: {error}") from None
    part.source.read_masks(box)
