"""Statistics of more values than fit in memory: tallies that are made piece by piece and added up.

A tally holds count, sum, sum of squares, extremes and a histogram. Mean and variance are exact; percentiles are interpolated
within a bin and so are right to a bin's width.

Laws: ``tally(a) + tally(b) == tally(a and b)`` in any order; values that are not finite are counted as dropped and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CORRELATION_BINS = np.linspace(-1, 1, 2001)
PIXEL_BINS = np.concatenate([np.arange(6400) / 100, 64 * 2 ** (np.arange(161) / 10)])  # 0.01 px, from 64 px on 7 %


@dataclass(frozen=True)
class Tally:
    """Counts of values between ``bins`` (outliers in the first and last), and what exact moments need."""

    bins: NDArray[np.float64]
    counts: NDArray[np.int64]
    dropped: int = 0
    total: float = 0.0
    squares: float = 0.0
    low: float = np.inf
    high: float = -np.inf

    @classmethod
    def of(cls, values: NDArray[Any], bins: NDArray[np.float64]) -> Tally:
        """The tally of ``values``, of any shape.

        >>> t = Tally.of(np.array([0.0, 0.5, np.nan]), CORRELATION_BINS)
        >>> t.count, t.dropped, t.mean
        (2, 1, 0.25)
        """
        values = np.asarray(values, np.float64).ravel()
        known = values[np.isfinite(values)]
        counts, _ = np.histogram(np.clip(known, bins[0], bins[-1]), bins)
        low, high = known.min(initial=np.inf), known.max(initial=-np.inf)
        total, squares = float(known.sum()), float((known**2).sum())
        return cls(bins, counts.astype(np.int64), values.size - known.size, total, squares, float(low), float(high))

    @classmethod
    def empty(cls, bins: NDArray[np.float64]) -> Tally:
        return cls(bins, np.zeros(len(bins) - 1, np.int64))

    def __add__(self, other: Tally) -> Tally:
        assert np.array_equal(self.bins, other.bins)
        return Tally(
            self.bins,
            self.counts + other.counts,
            self.dropped + other.dropped,
            self.total + other.total,
            self.squares + other.squares,
            min(self.low, other.low),
            max(self.high, other.high),
        )

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else float("nan")

    @property
    def variance(self) -> float:
        return max(self.squares / self.count - self.mean**2, 0.0) if self.count else float("nan")

    def percentile(self, q: int | float) -> float:
        """The value that ``q`` per cent of the values lie below; NaN without values."""
        if not self.count:
            return float("nan")
        reached = np.concatenate([[0], np.cumsum(self.counts)]) / self.count
        value = np.interp(q / 100, reached, self.bins)
        return float(np.clip(value, self.low, self.high))

    def summary(self) -> dict[str, float]:
        """Mean, variance and percentiles 1, 5, 50, 95, 99, with the counts they rest on."""
        percentiles = {f"p{q}": self.percentile(q) for q in (1, 5, 50, 95, 99)}
        return {
            "mean": self.mean,
            "variance": self.variance,
            **percentiles,
            "count": self.count,
            "dropped": self.dropped,
        }

    def pack(self) -> NDArray[np.float64]:
        """All but the bins as one array, for a file."""
        return np.concatenate([[self.dropped, self.total, self.squares, self.low, self.high], self.counts])

    @classmethod
    def unpack(cls, packed: NDArray[np.float64], bins: NDArray[np.float64]) -> Tally:
        """What ``pack`` packed."""
        dropped, total, squares, low, high = (float(v) for v in packed[:5])
        return cls(bins, packed[5:].astype(np.int64), int(dropped), total, squares, low, high)
