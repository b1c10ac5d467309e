"""Expected noise of a grid on values that are known by their histogram.

Noise and signal are powers per value in real units. Values count as even within a bin; the bins
are cut at the percentiles, which are known better than the bins are fine: where a few values
stretch the range, all others may lie in one bin.
"""

from __future__ import annotations

import math

import numpy as np

from tfq.calibrate.rules.mse import squared_error
from tfq.evaluate.figures import Histogram, TensorFigures
from tfq.observe.sketch import Bins

# Share of the values beyond each end of `TensorFigures.percentile_range`.
_TAIL = 0.5e-4

# The search for the best range: fractions of an end, and rounds over both ends.
_FRACTIONS = np.geomspace(1.0, 0.004, 41)
_ROUNDS = 2


def bins_of(t: TensorFigures) -> Bins | None:
    """The float values of a tensor in bins, or None without a histogram."""
    if t.histogram is None:
        return None
    return _bins(t.histogram, t.observed, t.percentile_range)


def bins_of_weights(histogram: Histogram) -> Bins | None:
    return _bins(histogram, (histogram.low, histogram.high), None)


def _bins(
    histogram: Histogram, observed: tuple[float, float], middle: tuple[float, float] | None
) -> Bins | None:
    counts = np.asarray(histogram.float_counts, np.float64)
    if not counts.sum() > 0:
        return None
    edges = np.linspace(histogram.low, histogram.high, counts.size + 1)
    lower, upper = edges[:-1].copy(), edges[1:].copy()
    # What lies outside the histogram was counted in its first and last bin.
    lower[0], upper[-1] = min(lower[0], observed[0]), max(upper[-1], observed[1])
    full = counts > 0
    lower = np.clip(lower[full], observed[0], observed[1])
    upper = np.clip(upper[full], observed[0], observed[1])
    counts = counts[full]
    if middle is not None:
        lower, upper, counts = _cut(lower, upper, counts, middle[1])
        # The lower end is the upper one of the mirror image.
        a, b, c = _cut(-upper[::-1], -lower[::-1], counts[::-1], -middle[0])
        lower, upper, counts = -b[::-1], -a[::-1], c[::-1]
    return Bins(lower, upper, (lower + upper) / 2, counts)


def _cut(
    lower: np.ndarray, upper: np.ndarray, counts: np.ndarray, at: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits the bin around `at`, above which `_TAIL` of all values lie."""
    found = np.flatnonzero((lower < at) & (at < upper))
    if not found.size:
        return lower, upper, counts
    i = int(found[0])
    above = min(max(_TAIL * counts.sum() - counts[i + 1 :].sum(), 0.0), counts[i])
    return (
        np.insert(lower, i + 1, at),
        np.insert(upper, i, at),
        np.concatenate([counts[:i], [counts[i] - above, above], counts[i + 1 :]]),
    )


def power(bins: Bins) -> float:
    """Mean square: within a bin (a^2 + ab + b^2) / 3."""
    a, b = bins.lower, bins.upper
    return float(np.dot(a * a + a * b + b * b, bins.counts) / 3 / bins.counts.sum())


def mean(bins: Bins) -> float:
    return float(np.dot(bins.centers, bins.counts) / bins.counts.sum())


def clipping(bins: Bins, lo: float, hi: float) -> float:
    """Mean square of what lies beyond [lo, hi]."""
    return _beyond(bins.lower, bins.upper, bins.counts, hi) + _beyond(
        -bins.upper, -bins.lower, bins.counts, -lo
    )


def _beyond(lower: np.ndarray, upper: np.ndarray, counts: np.ndarray, end: float) -> float:
    a, b = np.maximum(lower - end, 0.0), np.maximum(upper - end, 0.0)
    # Share of the bin beyond the end; the mean over that part is (a^2 + ab + b^2) / 3.
    width = upper - lower
    share = np.where(width > 0, (b - a) / np.where(width > 0, width, 1.0), 1.0)
    return float(np.dot((a * a + a * b + b * b) / 3 * share, counts) / counts.sum())


def on_grid(bins: Bins, lo: float, hi: float, bits: int, symmetric: bool = False) -> float:
    """Rounding and clipping on the grid of (lo, hi), which is widened to hold zero."""
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    if symmetric:
        hi = max(-lo, hi)
        lo = -hi
    if lo == hi:
        return power(bins)
    return squared_error(bins, lo, hi, bits, symmetric) / float(bins.counts.sum())


def best_range(bins: Bins, lo: float, hi: float, bits: int) -> tuple[float, float]:
    """A range within (lo, hi) of nearly the least noise: each end in turn, over fractions."""
    ends = [min(lo, 0.0), max(hi, 0.0)]
    for _ in range(_ROUNDS):
        for side in (0, 1):
            tries = []
            for fraction in _FRACTIONS if ends[side] else ():
                pair = list(ends)
                pair[side] *= float(fraction)
                tries.append((on_grid(bins, pair[0], pair[1], bits), -abs(pair[side]), pair))
            if tries:
                ends = min(tries)[2]
    return ends[0], ends[1]


def decibel(noise: float) -> float:
    """Signal to noise ratio of a noise power relative to the signal's."""
    return -10 * math.log10(noise) if noise > 0 else math.inf


def relative(sqnr_db: float) -> float:
    """The inverse of `decibel`."""
    return float(10 ** (-sqnr_db / 10))
