"""From two images of tissue to the field that aligns one to the other, with everything around the net.

The same object serves whole sections and tiles of them: it normalises as in training, averages over the pair turned by 180°
(a net's constant bias, which would add up to drift along a stack, cancels), and can look again at what its first field left.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as attribute
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from lamella.nets.aligner import Encodings, SiamesePyramid
from lamella.ops.field import compose, finer, rescale, rotate180, warp
from lamella.ops.masks import box_mean, dilate
from lamella.ops.normalise import Normaliser
from lamella.ops.torn import carried_in, narrow, rescale_torn, smooth_apart
from lamella.tasks.align.agreed import agreed
from lamella.tasks.align.compared import CONTRAST, halved
from lamella.tasks.align.refine import reach, refine
from lamella.tasks.align.refine_settings import RefineSettings

Reader = Callable[[int], NDArray[np.float32]]
Views = list[Encodings]  # of an image as it is, and turned by 180°
INSIDE = 2  # of a mask
_PREPARING = Lock()
_MARGINS = 32  # pixels; margins are read in steps of so many
_PRIOR = 40  # pixels; a narrower one keeps more of what a pass invents, a wider one less of what sections really do


@dataclass(frozen=True)
class Tears:
    """Where a pair is damaged: ``source(margin)`` and ``target(margin)`` (y, x), ``margin`` pixels larger on each side; True inside."""

    source: Callable[[int], NDArray[np.bool_]]
    target: Callable[[int], NDArray[np.bool_]]

    def turned(self) -> Tears:
        """The same from target to source."""
        return Tears(self.target, self.source)


class Wider:
    """Reads an image ``margin`` pixels larger on each side, and again only where that is more than it has read before."""

    def __init__(self, read: Reader) -> None:
        self._read, self._margin, self._image = read, 0, read(0)

    def __call__(self, margin: int) -> NDArray[np.float32]:
        if margin > self._margin:
            self._margin = -(-margin // _MARGINS) * _MARGINS
            self._image = self._read(self._margin)
        less = self._margin - margin
        return self._image[less : self._image.shape[0] - less, less : self._image.shape[1] - less]


@dataclass
class Estimator:
    """Estimates fields with a trained net.

    ``flip`` averages with the field of the pair turned by 180°. ``symmetric`` also does all of this from target to source and takes what
    both ways agree on (see ``agreed``).
    Each of ``passes`` warps the source by the field so far, smoothed, and estimates anew from there: what is large and smooth is then
    behind the net, so that it works where it is best, and what it invents in one pass does not stay for the next. With ``halvings``
    the net looks first at the images halved so many times, where displacements are that much smaller. ``fine_levels`` tells how
    much coarser than the images the fields are: one pixel of a field covers 2^fine_levels pixels of the image, and its vectors are
    in pixels of that size.

    Where the sections' damage is known, what lies inside it is to be given as missing; and the field may jump across damage of up to
    ``torn`` pixels, since a crack or fold has moved the tissue beside it: there it is not smoothed, but carried in from either side.

    In the end the field, either way, takes the steps of ``refine`` on the images themselves.
    """

    net: SiamesePyramid
    normalise: Normaliser
    flip: bool = True
    symmetric: bool = True
    passes: int = 1
    device: str = "cpu"
    halvings: int = 0
    torn: int = 48
    refine: RefineSettings = attribute(default_factory=lambda: RefineSettings(steps=0))
    _ready: bool = attribute(default=False, repr=False)

    @property
    def fine_levels(self) -> int:
        return self.net.config.skip

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "net": copy.deepcopy(self.net).to("cpu"), "_ready": False}

    def prepare(self) -> None:
        """Bring the net to its device, ready for use; once."""
        with _PREPARING:
            if not self._ready:
                self.net.to(self.device).eval()
                self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                self._ready = True

    def pair(
        self,
        source: NDArray[Any],
        target: NDArray[Any],
        source_mask: NDArray[Any] | None = None,
        target_mask: NDArray[Any] | None = None,
    ) -> NDArray[np.float32]:
        """The field (2, y, x) in pixels of the images, on the target's grid, for two whole sections of one shape.

        Masks are ternary, of the same shape; without one, a section is taken to be whole.
        """
        inside = [np.zeros(source.shape, bool) if m is None else m == INSIDE for m in (source_mask, target_mask)]
        moving, fixed = (
            self.normalise(np.where(m, 0, s).astype(s.dtype)) for s, m in zip((source, target), inside, strict=True)
        )
        known = source_mask is not None or target_mask is not None
        tears = Tears(*(partial(np.pad, m) for m in inside)) if known else None
        coarse = torch.from_numpy(self.coarse(partial(np.pad, moving), partial(np.pad, fixed), tears))[None]
        finely = rescale_torn if known or self.refine.leaps else rescale
        return finely(coarse, self.fine_levels, (target.shape[0], target.shape[1]))[0].numpy()

    @torch.inference_mode()
    def coarse(self, source: Reader, target: Reader, tears: Tears | None = None) -> NDArray[np.float32]:
        """The field on the coarse grid of a tile. Readers give the normalised images, so many pixels larger on each side.

        Where the tile or its target holds no data at all there is nothing to learn, and the field is zero.
        """
        self.prepare()
        source, target = Wider(source), Wider(target)
        shape = target(0).shape
        if not (source(0).any() and target(0).any()):
            return np.zeros((2, *(-(-n // 2**self.fine_levels) for n in shape)), np.float32)
        seen = self._encoded(self._tensor(source(0))), self._encoded(self._tensor(target(0)))
        total, torn = self._way(source, target, seen, tears)
        if self.symmetric:
            back, _ = self._way(target, source, seen[::-1], None if tears is None else tears.turned())
            total = self._agreed(total, back, source, target)
            total = total if torn is None else carried_in(total, torn)
        return total[0].float().cpu().numpy()

    def _way(
        self, source: Reader, target: Reader, seen: tuple[Views, Views], tears: Tears | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The field that passes and steps find, and what is torn of it. ``seen`` are the encodings of both images as they are."""
        fixed = self._tensor(target(0))
        shape = (fixed.shape[-2], fixed.shape[-1])
        total = self._glance(self._tensor(source(0)), fixed) if self.halvings else self._between(*seen)
        for _ in range(self.passes if self.halvings else self.passes - 1):
            prior = self._prior(total, tears, shape)
            total = compose(prior, self._between(self._encoded(self._moved(source, prior, shape)), seen[1]))
        torn = None if tears is None else self._torn(self._smooth(total), tears, shape)
        total = total if torn is None else carried_in(total, torn)
        return (self._refined(total, source, fixed, torn) if self.refine.steps else total), torn

    def _tensor(self, image: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(image)[None, None].to(self.device)

    def _glance(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The field that the halved images show."""
        size = (-(-target.shape[-2] // 2**self.fine_levels), -(-target.shape[-1] // 2**self.fine_levels))
        for _ in range(self.halvings):
            source, target = halved(source), halved(target)
        return rescale(self._between(self._encoded(source), self._encoded(target)), self.halvings, size)

    def _encoded(self, image: torch.Tensor) -> Views:
        """The encodings of an image, and with ``flip`` of the image turned."""
        block = 2**self.fine_levels  # whole blocks, so that the turned pair has its coarse pixels in the same places
        image = F.pad(image, (0, -image.shape[-1] % block, 0, -image.shape[-2] % block), mode="replicate")
        return [self.net.encode(x) for x in ([image, image.flip((-2, -1))] if self.flip else [image])]

    def _between(self, source: Views, target: Views) -> torch.Tensor:
        """The net's field from the one image to the other."""
        fields = [self.net.align(a, b)[self.fine_levels] for a, b in zip(source, target, strict=True)]
        return (fields[0] + rotate180(fields[1])) / 2 if self.flip else fields[0]

    def _agreed(self, there: torch.Tensor, back: torch.Tensor, source: Reader, target: Reader) -> torch.Tensor:
        """What the fields of both ways have in common."""
        longest = max(float(field.abs().max()) for field in (there, back)) * 2**self.fine_levels
        margin = 2 * ((int(np.ceil(longest)) + 2 * CONTRAST + 2) // 2)
        images = self._tensor(source(margin)), self._tensor(target(0))
        return agreed(there.float(), back.float(), *images, self.fine_levels, margin)

    def _refined(
        self, field: torch.Tensor, read: Reader, target: torch.Tensor, torn: torch.Tensor | None
    ) -> torch.Tensor:
        """The field after steps on the images themselves, carried into what is torn."""
        longest = float(field.abs().max()) * 2**self.fine_levels
        margin = 4 * ((int(np.ceil(longest)) + reach(self.refine) + 3) // 4)
        source = self._tensor(read(margin)).to(target)
        field = refine(field.float(), source, target, self.fine_levels, self.refine, margin=margin, torn=torn)
        return field if torn is None else carried_in(field, torn)

    def _prior(self, field: torch.Tensor, tears: Tears | None, shape: tuple[int, ...]) -> torch.Tensor:
        """What the next pass begins from: the smoothed field, but not smoothed across what is torn."""
        smooth = self._smooth(field)
        torn = None if tears is None else self._torn(smooth, tears, shape)
        if torn is None or not torn.any():
            return smooth
        side = 2 * self._radius + 1
        return smooth_apart(field, torn, 2 * (side**2 - 1) / 12)  # the variance of the two averages of _smooth

    def _torn(self, field: torch.Tensor, tears: Tears, shape: tuple[int, ...]) -> torch.Tensor:
        """1 on coarse pixels that lie in narrow damage of the target, or of the source as ``field`` moves it; a pixel is added on each
        side, where the net has seen some of it."""
        fine = rescale(field, self.fine_levels, (shape[0], shape[1]))
        margin = int(np.ceil(float(fine.abs().max()))) + 1
        seen = torch.from_numpy(narrow(tears.source(margin), self.torn)).to(fine)[None, None]
        torn = (warp(seen, fine + margin) > 1e-3) | torch.from_numpy(narrow(tears.target(0), self.torn)).to(fine.device)
        size = 2**self.fine_levels
        return dilate(F.max_pool2d(torn.to(fine.dtype), size, ceil_mode=True), 1)

    def _smooth(self, field: torch.Tensor) -> torch.Tensor:
        """The field averaged twice over a square of ``_PRIOR`` pixels on each side."""
        return box_mean(box_mean(field, self._radius), self._radius)

    @property
    def _radius(self) -> int:
        """Coarse pixels on each side over which a prior is averaged."""
        return max(1, _PRIOR >> self.fine_levels)

    def _moved(self, read: Reader, field: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """The source warped by a coarse field."""
        fine = field
        for level in range(self.fine_levels - 1, -1, -1):
            fine = finer(fine, (-(-shape[0] // 2**level), -(-shape[1] // 2**level)))
        margin = int(np.ceil(float(fine.abs().max()))) + 1
        return warp(self._tensor(read(margin)), fine + margin)
