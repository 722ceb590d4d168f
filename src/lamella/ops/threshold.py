"""Thresholds between specimen and background, and masks from them. Images are (y, x) of any integer or float type.

- Otsu (1979): between two populations of intensities; scikit-image's, on a scale from the 1 to the 99 percentile, times 1.1.
- unimodal (Rosin 2001, *Pattern Recognition* 34): where background is one large peak with a long tail. A line runs from the peak of
  the histogram to its end; the threshold is where the histogram lies farthest below it.

A threshold may be that of one image, or of values pooled from many (a whole data set), so that an empty image gets an empty mask.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import disk

Method = Literal["otsu", "unimodal"]

_BINS = 256


def smoothed(image: NDArray[Any]) -> NDArray[np.float32]:
    """Means over 3 x 3 pixels, which thresholds are measured on and applied to."""
    return ndimage.uniform_filter(image.astype(np.float32), 3, mode="nearest")


def otsu_threshold(values: NDArray[Any], factor: float = 1.1) -> float:
    """``factor`` times Otsu's threshold, both counted from the 1 percentile, above which all is specimen.

    Where the values are all but equal, that value: nothing lies above it.
    """
    low, high = np.percentile(values, (1, 99))
    if high <= low:
        return float(values.max())
    levels = np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return float(low + factor * threshold_otsu(levels) / 255 * (high - low))


def unimodal_threshold(values: NDArray[Any]) -> float:
    """Rosin's threshold, from a histogram of 256 bins up to the 99.5 percentile."""
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    if high <= low:
        return float(values.max())
    counts, edges = np.histogram(values, _BINS, (low, high))
    peak = int(counts.argmax())
    if peak == _BINS - 1:
        return high
    bins = np.arange(peak, _BINS)
    fall = (counts[-1] - counts[peak]) / (bins[-1] - peak)
    below = counts[peak] + fall * (bins - peak) - counts[bins]  # distance to the line, but for a common factor
    corner = int(bins[below.argmax()])
    return float((edges[corner] + edges[corner + 1]) / 2)


def threshold(values: NDArray[Any], method: Method) -> float:
    """The threshold of ``values`` by a method's name."""
    return otsu_threshold(values) if method == "otsu" else unimodal_threshold(values)


def opened(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """``mask`` without parts that a disk of ``radius`` does not fit into; the mask goes on beyond the image's edge."""
    if not radius:
        return mask
    kept = ndimage.binary_erosion(mask, disk(radius), border_value=1)
    return np.asarray(ndimage.binary_dilation(kept, disk(radius)))


def foreground_mask(
    image: NDArray[Any], method: Method = "otsu", radius: int = 5, level: float | None = None
) -> NDArray[np.bool_]:
    """Where the specimen is: above ``level`` (the image's own threshold if None), opened with a disk, holes filled if unimodal."""
    blurred = smoothed(image)
    mask = opened(blurred > (threshold(blurred, method) if level is None else level), radius)
    return np.asarray(ndimage.binary_fill_holes(mask)) if method == "unimodal" else mask
