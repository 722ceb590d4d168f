"""A synthetic specimen: serial sections of packed neurites, cut, moved, bent, torn and imaged, with the truth kept.

Clean sections show the tissue as it was; disturbed sections show what comes from the microscope. Arrays are (z, y, x), fields
(z, 2, y, x) in pixels, (dy, dx), on the clean grid: ``clean[z](x) == disturbed[z](x + fields[z](x))`` but for what the
microscope adds. The first section is not moved, so that the clean grid is the grid of an alignment that starts there.
Intensity 0 is missing data. The same config and seed give the same specimen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lamella.core.config import Config
from lamella.core.progress import progress
from lamella.core.rng import stream
from lamella.tasks.align.specimen import disturb
from lamella.tasks.align.specimen.organelles import Contents, Textures, fill, paint
from lamella.tasks.align.specimen.tissue import Tissue, cross_section, grow

VOXEL_NM = (40.0, 4.0, 4.0)  # what the sizes of membranes and organelles correspond to

__all__ = ["VOXEL_NM", "Specimen", "SpecimenConfig", "make_specimen"]


class SpecimenConfig(Config):
    """Size of the specimen, and how badly it was treated. Lengths are in pixels, angles in radians."""

    num_sections: int = Field(16, ge=2, description="sections in the stack")
    size: tuple[int, int] = Field((512, 512), description="height and width of a section")
    speed: float = Field(1.8, ge=0, description="rms movement of a neurite from one section to the next")
    drift: float = Field(2.5, ge=0, description="rms step per axis of the random walk of whole sections")
    jitter: float = Field(4.0, ge=0, description="rms displacement per axis of each section on its own")
    rotation: float = Field(0.01, ge=0, description="rms rotation of each section")
    deformation: float = Field(3.0, ge=0, description="rms per axis of the smooth deformation of each section")
    deformation_scale: float = Field(
        96.0, ge=16, description="sigma of the noise that the smooth deformation is made of"
    )
    imaging: float = Field(1.0, ge=0, le=1, description="how much gamma, contrast, shading, blur and noise level vary")
    noise: float = Field(0.055, ge=0, description="rms of the noise, where white is 1")
    num_cracks: int = Field(1, ge=0, description="sections with a crack")
    num_folds: int = Field(1, ge=0, description="sections with a fold")
    num_blackouts: int = Field(1, ge=0, description="sections with a blacked-out patch")
    num_lost: int = Field(1, ge=0, description="sections that were lost")
    defect_width: float = Field(14.0, gt=0, description="widest opening of a crack, and most tissue lost in a fold")

    @model_validator(mode="after")
    def _room(self) -> SpecimenConfig:
        spoiled = self.num_cracks + self.num_folds + self.num_blackouts + self.num_lost
        if spoiled > self.num_sections - 2:
            raise ValueError(
                f"{spoiled} spoiled sections do not fit in {self.num_sections}, of which the first and last stay whole; "
                "ask for more sections or fewer defects"
            )
        if min(self.size) < 64:
            raise ValueError(f"size {self.size} is too small for tissue; give at least 64 by 64 pixels")
        return self


@dataclass(frozen=True)
class Specimen:
    """Clean and disturbed sections (uint8, z y x), and what lies between them.

    ``fields`` (z, 2, y, x) is the truth; ``defects`` (z, y, x) the ternary mask on the disturbed grid (0 normal, 1 near a defect,
    2 inside); ``hidden`` (z, y, x) marks clean pixels that have no counterpart in the disturbed section.
    """

    config: SpecimenConfig
    seed: int
    clean: NDArray[np.uint8]
    disturbed: NDArray[np.uint8]
    fields: NDArray[np.float32]
    defects: NDArray[np.uint8]
    hidden: NDArray[np.bool_]
    spoiled: dict[int, str]


def make_specimen(config: SpecimenConfig, seed: int) -> Specimen:
    """Grow the tissue, cut it, and disturb its sections one by one."""
    treatment = _Treatment.plan(config, seed)
    margin = treatment.margin
    canvas = (config.size[0] + 2 * margin, config.size[1] + 2 * margin)
    tissue = grow(seed, config.num_sections, canvas, config.speed)
    contents = fill(seed, tissue, config.num_sections)
    textures = Textures(seed, canvas)
    sections = []
    with progress("making the specimen", config.num_sections, "sections") as meter:
        for z in range(config.num_sections):
            sections.append(_section(treatment, tissue, contents, textures, z))
            meter.advance()
    clean, disturbed, fields, defects, hidden = (np.stack(layer) for layer in zip(*sections, strict=True))
    return Specimen(config, seed, clean, disturbed, fields, defects, hidden, treatment.spoiled)


@dataclass(frozen=True)
class _Treatment:
    """What happens to each section: shifts (z, 2), angles (z,), and which one is spoiled how."""

    config: SpecimenConfig
    seed: int
    shift: NDArray[np.float64]
    angle: NDArray[np.float64]
    spoiled: dict[int, str]

    @classmethod
    def plan(cls, config: SpecimenConfig, seed: int) -> _Treatment:
        rng, n = stream(seed, "specimen", "treatment"), config.num_sections
        shift = np.cumsum(rng.normal(0, config.drift, (n, 2)), axis=0) + rng.normal(0, config.jitter, (n, 2))
        angle = rng.normal(0, config.rotation, n)
        kinds = ["crack"] * config.num_cracks + ["fold"] * config.num_folds
        kinds += ["blackout"] * config.num_blackouts + ["lost"] * config.num_lost
        where = 1 + rng.permutation(n - 2)[: len(kinds)]
        shift[0], angle[0] = 0, 0
        return cls(config, seed, shift, angle, {int(z): kind for z, kind in zip(where, kinds, strict=True)})

    @property
    def margin(self) -> int:
        """How far outside a section its content may come from."""
        reach = np.abs(self.shift).max() + np.abs(self.angle).max() * max(self.config.size) / 2
        return int(reach + 4 * self.config.deformation + self.config.defect_width) + 4

    def motion(self, rng: np.random.Generator, z: int) -> disturb.Motion:
        c = self.config
        amplitude = c.deformation if z else 0.0
        motion = disturb.smooth_motion(rng, c.size, self.shift[z], self.angle[z], amplitude, c.deformation_scale)
        if self.spoiled.get(z) == "crack":
            motion = disturb.crack(rng, motion, c.defect_width)
        if self.spoiled.get(z) == "fold":
            motion = disturb.fold(rng, motion, c.defect_width)
        return motion

    def missing(self, rng: np.random.Generator, z: int) -> NDArray[np.bool_]:
        """Which pixels the microscope did not record."""
        if self.spoiled.get(z) == "blackout":
            return disturb.patch(rng, self.config.size, min(self.config.size) / 9)
        return np.full(self.config.size, self.spoiled.get(z) == "lost")


def _section(
    treatment: _Treatment, tissue: Tissue, contents: Contents, textures: Textures, z: int
) -> tuple[NDArray[np.generic], ...]:
    """Clean section, disturbed section, true field, defects, hidden."""
    config, seed, margin = treatment.config, treatment.seed, treatment.margin
    textures.advance()
    canvas = paint(cross_section(tissue, z), contents, tissue, textures, seed, z)
    rng = stream(seed, "specimen", "disturb", z)
    motion, missing = treatment.motion(rng, z), treatment.missing(rng, z)
    motion = disturb.hide(motion, missing)
    grey = disturb.show_defects(rng, disturb.move(canvas, motion, margin), motion)
    disturbed = disturb.image(rng, grey, config.imaging, config.noise)
    frame = np.s_[margin : margin + config.size[0], margin : margin + config.size[1]]
    clean = disturb.image(stream(seed, "specimen", "clean", z), canvas[frame], 0.0, config.noise)
    return (
        disturb.record(clean, np.zeros(config.size, bool)),
        disturb.record(disturbed, missing),
        motion.truth,
        disturb.ternary(motion.gap | motion.band | missing),
        motion.hidden,
    )
