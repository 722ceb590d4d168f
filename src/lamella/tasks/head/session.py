"""A head in the making, for viewers: the user adds points, and sees at once what would come of them.

    session = SparseSession(embeddings)               # an array (h, *space), or a volume that `lamella embed` wrote
    session.add([[120, 40], [122, 300]], [1, 0])      # points y x (z y x in volumes), and their classes
    session.fit()                                     # from the weights of the last time
    probabilities = session.predict()                 # (classes, *space)

Points are kept with their embeddings, so fitting reads no image. What is predicted depends on the points, the seed and the fits before
alone; ``fit(fresh=True)`` forgets these.

Where intensities lie beside what was learnt (``task.beside`` of the contrast run), they are the last channels: ``beside`` says how many, and
``trust`` how strong those before them are to be. What tells classes apart by brightness is best found with 0.1 to 0.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lamella.blockwise import cover
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.core.volume import Volume
from lamella.nets.heads import SparseHead
from lamella.tasks.head.fit import STEPS, Standard, fit_head, new_head, probabilities

_SAMPLE = 100_000  # voxels on which the scale of embeddings is measured
_BLOCK = {2: (1024, 1024), 3: (64, 128, 128)}  # of a volume that is predicted piece by piece


class SparseSession:
    """See the module. Embeddings of a volume are read where they are asked for; an array is kept as it is."""

    def __init__(
        self,
        embeddings: NDArray[np.floating] | Volume,
        *,
        num_classes: int = 2,
        hidden: tuple[int, ...] = (32,),
        decay: float = 0.03,
        beside: int = 0,
        trust: float = 1.0,
        seed: int = 0,
    ) -> None:
        self._source = embeddings if isinstance(embeddings, np.ndarray) else _Stored(embeddings)
        shape = self._source.shape
        if len(shape) not in (3, 4):
            raise UserError(f"embeddings of shape {shape} must have the axes c y x or c z y x")
        if num_classes < 2:
            raise UserError(f"num_classes {num_classes} must be at least 2")
        self.h_channels, self.space = shape[0], shape[1:]
        if not 0 <= beside <= self.h_channels:
            raise UserError(f"beside {beside} must be from 0 to {self.h_channels}, the number of channels")
        if not trust > 0:
            raise UserError(f"trust {trust:g} must be above 0; 1 leaves channels as strong as they are")
        self.num_classes, self.hidden, self.decay, self.seed = num_classes, hidden, decay, seed
        self._points = np.zeros((0, len(self.space)))
        self._classes = np.zeros(0, np.int64)
        self._vectors = np.zeros((0, self.h_channels), np.float32)
        measured = Standard.of(_sampled(self._source, stream(seed, "standard")))
        self._standard = measured.trusting(self.h_channels - beside, trust)
        self._head = new_head(self.h_channels, num_classes, hidden, seed)
        self._fitted = False

    @property
    def points(self) -> NDArray[np.float64]:
        """Places of the points (n, d), in the order in which they were added."""
        return self._points.copy()

    @property
    def classes(self) -> NDArray[np.int64]:
        """Their classes (n)."""
        return self._classes.copy()

    @property
    def head(self) -> SparseHead:
        """The head as it was last fitted, for embeddings as they are; ``.dense(ndim)`` gives convolutions."""
        if not self._fitted:
            raise UserError("nothing was fitted yet; add points and call fit")
        return self._standard.folded(self._head)

    def add(self, points: ArrayLike, classes: ArrayLike | int) -> None:
        """Add points (n, d) in voxels, axes in the order z y x, and the class of each, or of all.

        Raises UserError for points outside the image and classes that there are not; then none is added.
        """
        places = np.atleast_2d(np.asarray(points, np.float64))
        if places.ndim != 2 or places.shape[1] != len(self.space):
            axes = "z y x" if len(self.space) == 3 else "y x"
            raise UserError(f"points of shape {places.shape} must be (number, {len(self.space)}), with the axes {axes}")
        numbers = np.broadcast_to(np.asarray(classes), (len(places),))
        if numbers.dtype.kind not in "iu" or not ((numbers >= 0) & (numbers < self.num_classes)).all():
            raise UserError(f"classes {numbers.tolist()[:5]} must be whole numbers from 0 to {self.num_classes - 1}")
        voxels = self._voxels(places)
        vectors = np.stack([_at(self._source, voxel) for voxel in voxels]) if len(voxels) else self._vectors[:0]
        self._points = np.concatenate([self._points, places])
        self._classes = np.concatenate([self._classes, numbers.astype(np.int64)])
        self._vectors = np.concatenate([self._vectors, vectors.astype(np.float32)])

    def remove(self, indices: int | Sequence[int]) -> None:
        """Take away points by their place in ``points``."""
        chosen = np.atleast_1d(np.asarray(indices, np.int64))
        if ((chosen < -len(self._points)) | (chosen >= len(self._points))).any():
            raise UserError(f"points {chosen.tolist()} are not there; there are {len(self._points)}, counted from 0")
        keep = np.ones(len(self._points), bool)
        keep[chosen] = False
        self._points, self._classes, self._vectors = self._points[keep], self._classes[keep], self._vectors[keep]

    def fit(self, *, steps: int = STEPS, fresh: bool = False) -> float:
        """Train the head on all points, from the weights of the last fit, or from first ones if ``fresh``; returns the loss.

        Raises UserError if there are points of one class only.
        """
        if fresh:
            self._head = new_head(self.h_channels, self.num_classes, self.hidden, self.seed)
        loss = fit_head(self._head, self._vectors, self._classes, self._standard, decay=self.decay, steps=steps)
        self._fitted = True
        return loss

    def predict(self, box: Box | None = None) -> NDArray[np.float32]:
        """Class probabilities (k, *space) of ``box``, or of all, as of the last fit."""
        head, whole = self.head, Box.of(self.space)
        wanted = whole if box is None else box
        if wanted.ndim != whole.ndim or not wanted.within(whole):
            raise UserError(f"box {wanted} does not lie in the image, {whole}")
        if isinstance(self._source, np.ndarray):
            return probabilities(head, self._source[(slice(None), *wanted.slices())])
        found = np.empty((self.num_classes, *wanted.shape), np.float32)
        for block in cover(wanted, _BLOCK[len(self.space)]):
            here = (slice(None), *block.write.slices(wanted.start))
            found[here] = probabilities(head, self._source[(slice(None), *block.write.slices())])
        return found

    def _voxels(self, places: NDArray[np.float64]) -> NDArray[np.int64]:
        """The voxel of each place, which must lie in the image."""
        voxels = np.floor(places + 0.5)
        out = ~(np.isfinite(places).all(1) & ((voxels >= 0) & (voxels < self.space)).all(1))
        if out.any():
            first = places[out][0].tolist()
            turned = voxels[:, ::-1]
            hint = "; the axes seem to be turned round" if ((turned >= 0) & (turned < self.space)).all() else ""
            raise UserError(
                f"point {first} lies outside the image of {tuple(self.space)}, axes in the order z y x{hint}"
            )
        return voxels.astype(np.int64)


class _Stored:
    """A volume of embeddings, c (z) y x, read like an array."""

    def __init__(self, volume: Volume) -> None:
        axes = "".join(volume.meta.axes)
        if axes not in ("cyx", "czyx"):
            raise UserError(f"{volume.path} has axes {axes}; a session takes embeddings with the axes c y x or c z y x")
        self.volume, self.shape = volume, volume.box.shape

    def __getitem__(self, index: Any) -> NDArray[Any]:
        ranges = [range(n)[s] for n, s in zip(self.shape, index, strict=True)]
        start = tuple(a + r.start for a, r in zip(self.volume.box.start, ranges, strict=True))
        stop = tuple(a + r.stop for a, r in zip(self.volume.box.start, ranges, strict=True))
        return self.volume.read(Box(start, stop))


def _at(source: NDArray[Any] | _Stored, voxel: NDArray[np.int64]) -> NDArray[Any]:
    """The embedding of one voxel."""
    index = (slice(None), *(slice(int(v), int(v) + 1) for v in voxel))
    return np.asarray(source[index]).reshape(-1)


def _sampled(source: NDArray[Any] | _Stored, rng: np.random.Generator) -> NDArray[Any]:
    """Embeddings (n, h) of about ``_SAMPLE`` voxels: of all of an array, of some blocks of a volume."""
    space = source.shape[1:]
    if isinstance(source, np.ndarray):
        flat = source.reshape(len(source), -1)
        return flat[:, :: max(flat.shape[1] // _SAMPLE, 1)].T
    blocks = cover(Box.of(space), _BLOCK[len(space)])
    chosen = rng.choice(len(blocks), min(len(blocks), 4), replace=False)
    found = [source[(slice(None), *blocks[int(k)].write.slices())].reshape(source.shape[0], -1) for k in chosen]
    joined = np.concatenate(found, 1)
    return joined[:, :: max(joined.shape[1] // _SAMPLE, 1)].T
