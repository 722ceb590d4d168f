"""What fills the neurites of the synthetic specimen: cytoplasm, mitochondria, vesicles, reticulum, synapses.

``paint`` turns the anatomy of a section into grey values (0 black to 1 white, y x). Structures larger than a section's
thickness (mitochondria, synapses, the shade of a cell) persist from section to section; those as small as the 40 nm of a section
(vesicles, ribosomes) are drawn anew in each; what lies between follows an autoregressive texture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.signal import fftconvolve

from lamella.core.rng import stream
from lamella.ops.noise import smooth_noise
from lamella.tasks.align.specimen.tissue import Anatomy, Tissue

_CYTOPLASM, _MEMBRANE = 0.66, 0.13
_PERSISTENCE = 0.25  # of cytoplasm texture, from one section to the next


@dataclass(frozen=True)
class Mitochondrion:
    """A rod along z inside a neurite: centre relative to its disc, half axes in px, orientation, first and last section."""

    disc: int
    offset: NDArray[np.float64]
    axes: tuple[float, float]
    angle: float
    extent: tuple[float, float]


@dataclass(frozen=True)
class Contents:
    """What each neurite holds (arrays by neurite number), and the organelles that span several sections."""

    shade: NDArray[np.float32]
    vesicles: NDArray[np.float32]
    reticulum: NDArray[np.float32]
    grain: NDArray[np.float32]
    mitochondria: tuple[Mitochondrion, ...]
    synapses: NDArray[np.float64]


class Textures:
    """Noise images that change from section to section, each with its own scale and persistence."""

    SCALES: ClassVar = {"fine": 1.3, "medium": 2.6, "coarse": 9.0, "tubule": 5.0, "cluster": 26.0, "width": 14.0}
    PERSISTENCE: ClassVar = {
        "fine": 0.1,
        "medium": _PERSISTENCE,
        "coarse": 0.7,
        "tubule": 0.6,
        "cluster": 0.8,
        "width": 0.6,
    }

    def __init__(self, seed: int, shape: tuple[int, int]) -> None:
        self._seed, self._shape, self._next = seed, shape, 0
        self.now: dict[str, NDArray[np.float32]] = {}

    def advance(self) -> None:
        """Move to the next section (the first call to section 0)."""
        for name, scale in self.SCALES.items():
            fresh = smooth_noise(stream(self._seed, "specimen", name, self._next), self._shape, scale)
            keep = self.PERSISTENCE[name] if self._next else 0.0
            self.now[name] = keep * self.now.get(name, 0) + np.float32(np.sqrt(1 - keep**2)) * fresh
        self._next += 1


def fill(seed: int, tissue: Tissue, num_sections: int) -> Contents:
    """Decide what the neurites of ``tissue`` hold."""
    rng = stream(seed, "specimen", "contents")
    n = tissue.neurite.max() + 1
    glia = rng.random(n) < 0.07
    shade = rng.normal(0, 0.045, n) - 0.13 * glia
    vesicles = np.where(rng.random(n) < 0.4, rng.uniform(0.4, 1.0, n), 0.05)
    grain = np.where(glia, 2.2, rng.uniform(0.75, 1.3, n))
    return Contents(
        shade.astype(np.float32),
        np.where(glia, 0, vesicles).astype(np.float32),
        rng.uniform(0, 1, n).astype(np.float32),
        grain.astype(np.float32),
        _mitochondria(rng, tissue, num_sections),
        _synapses(rng, tissue.shape, num_sections),
    )


def paint(
    anatomy: Anatomy, contents: Contents, tissue: Tissue, textures: Textures, seed: int, z: int
) -> NDArray[np.float32]:
    """Grey values of section ``z``, before anything the microscope or the knife does."""
    t, who = textures.now, anatomy.neurite
    grey = _CYTOPLASM + contents.shade[who] + 0.025 * t["coarse"]
    grey = grey + contents.grain[who] * (0.05 * t["medium"] + 0.07 * t["fine"])
    inside = np.clip((anatomy.wall - 5) / 3, 0, 1)
    tubule = np.exp(-0.5 * (t["tubule"] / 0.17) ** 2) * np.clip(t["coarse"] + contents.reticulum[who] - 0.6, 0, 1)
    grey = grey - 0.26 * tubule * inside
    grey = grey + _vesicles(stream(seed, "specimen", "vesicles", z), anatomy, contents, t["cluster"])
    for organelle in contents.mitochondria:
        _draw_mitochondrion(grey, organelle, anatomy, tissue, t, z)
    membrane = np.clip(anatomy.membrane * (1.05 + 0.16 * t["width"]), 0, 1)
    grey = grey + (_MEMBRANE - grey) * 0.92 * membrane
    return (grey - _synaptic_density(anatomy, contents, t["medium"], z) * np.clip(grey - 0.06, 0, 1)).astype(np.float32)


def _mitochondria(rng: np.random.Generator, tissue: Tissue, num_sections: int) -> tuple[Mitochondrion, ...]:
    radius = tissue.radius[1:-1].mean(axis=0)
    hosts = np.flatnonzero(radius > 20)
    count = int(len(hosts) * (0.2 + num_sections / 24))
    found = []
    for disc in rng.choice(hosts, count) if len(hosts) else ():
        middle, half = rng.uniform(-4, num_sections + 4), rng.uniform(3, 9)
        major = min(rng.uniform(13, 27), 0.6 * radius[disc])
        axes = (major, major * rng.uniform(0.6, 0.95))
        offset = rng.normal(0, 0.22 * radius[disc], 2)
        found.append(Mitochondrion(int(disc), offset, axes, rng.uniform(0, np.pi), (middle - half, middle + half)))
    return tuple(found)


def _draw_mitochondrion(
    grey: NDArray[np.float32],
    organelle: Mitochondrion,
    anatomy: Anatomy,
    tissue: Tissue,
    texture: dict[str, NDArray[np.float32]],
    z: int,
) -> None:
    """Darken ``grey`` in place: outer membrane, dense matrix, cristae."""
    first, last = organelle.extent
    if not first < z < last:
        return
    along = (2 * z - first - last) / (last - first)
    swell = (1 - along**4) ** 0.5
    centre = tissue.centre[z + 1, organelle.disc] + organelle.offset
    at = tuple(
        slice(int(np.clip(c - 52, 0, n)), int(np.clip(c + 52, 0, n))) for c, n in zip(centre, grey.shape, strict=True)
    )
    dy, dx = (anatomy.bent[i][at] - centre[i] for i in (0, 1))
    cos, sin = np.cos(organelle.angle), np.sin(organelle.angle)
    u, v = (cos * dy + sin * dx), (cos * dx - sin * dy)
    a, b = (swell * r * (1 + 0.08 * np.sin(0.7 * z + r)) for r in organelle.axes)
    deep = (1 - np.sqrt((u / a) ** 2 + (v / b) ** 2)) * np.sqrt(a * b) + 1.2 * texture["coarse"][at]
    home = anatomy.neurite[at] == tissue.neurite[organelle.disc]
    deep = np.minimum(deep, np.where(home, anatomy.wall[at] - 5, -9))
    body = np.clip(deep / 2 + 0.5, 0, 1)
    stripe = np.cos(2 * np.pi * v / 8.5 + 1.6 * texture["tubule"][at] + 0.5 * texture["medium"][at] + z)
    cristae = np.clip(1.6 * stripe - 0.2 + 0.5 * texture["coarse"][at], -1, 1) * np.clip((deep - 3) / 3, 0, 1)
    rim = np.exp(-0.5 * ((deep - 1) / 1.7) ** 2)
    grey[at] -= body * (0.17 + 0.075 * cristae - 0.02 * texture["medium"][at]) + 0.17 * rim


def _vesicles(
    rng: np.random.Generator, anatomy: Anatomy, contents: Contents, cluster: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Rings of 9 px in clusters, a few of them with a dense core, and ribosomes: single dark grains."""
    shape = anatomy.wall.shape
    marks = {}
    for name, per_pixel in (("vesicle", 1 / 110), ("core", 1 / 6000), ("ribosome", 1 / 60)):
        n = rng.poisson(per_pixel * np.prod(shape))
        y, x = rng.integers(0, shape[0], n), rng.integers(0, shape[1], n)
        crowd = 1.0 if name != "vesicle" else np.clip(0.5 + 0.7 * cluster[y, x], 0, 1)
        chance = (
            crowd * (contents.vesicles if name == "vesicle" else 1 - 0.7 * contents.vesicles)[anatomy.neurite[y, x]]
        )
        kept = (rng.random(n) < chance) & (anatomy.wall[y, x] > (3 if name == "ribosome" else 8))
        image = np.zeros(shape, np.float32)
        np.add.at(image, (y[kept], x[kept]), rng.uniform(0.5, 1.1, np.count_nonzero(kept)))
        marks[name] = image
    r = np.hypot(*np.mgrid[-8:9, -8:9])
    ring = 0.2 * np.exp(-0.5 * ((r - 4.1) / 1.2) ** 2) - 0.09 * np.exp(-0.5 * (r / 2.0) ** 2)
    core = 0.42 * np.exp(-0.5 * (r / 3.2) ** 2)
    drawn = np.clip(fftconvolve(marks["vesicle"], ring, mode="same"), -0.1, 0.3)
    drawn = drawn + np.clip(fftconvolve(marks["core"], core, mode="same"), 0, 0.4)
    return -(drawn + 0.9 * ndi.gaussian_filter(marks["ribosome"], 1.3)).astype(np.float32)


def _synapses(rng: np.random.Generator, shape: tuple[int, int], num_sections: int) -> NDArray[np.float64]:
    """(synapse, 5): z, y, x, half depth in sections, radius in px."""
    n = int(np.prod(shape) * (num_sections + 6) / 1.0e5)
    return np.column_stack(
        [
            rng.uniform(-3, num_sections + 3, n),
            *(rng.uniform(0, s, n) for s in shape),
            rng.uniform(1.5, 4.5, n),
            rng.uniform(9, 20, n),
        ]
    )


def _synaptic_density(
    anatomy: Anatomy, contents: Contents, texture: NDArray[np.float32], z: int
) -> NDArray[np.float32]:
    """Thickened dark walls near the synapses that reach this section, 0 to 1."""
    dense = np.zeros(anatomy.wall.shape, np.float32)
    for middle, y, x, half, radius in contents.synapses:
        strength = 1 - ((z - middle) / half) ** 2
        if strength <= 0:
            continue
        window = tuple(slice(int(max(c - 60, 0)), int(max(c + 60, 0))) for c in (y, x))
        dy, dx = anatomy.bent[0][window] - y, anatomy.bent[1][window] - x
        spot = np.exp(-0.5 * (dy**2 + dx**2) / radius**2) * np.exp(-anatomy.wall[window] / 9)
        dense[window] += np.sqrt(strength) * spot
    return np.clip(dense * (1.1 + 0.25 * texture), 0, 0.95)
