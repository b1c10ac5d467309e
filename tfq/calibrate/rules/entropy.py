"""The clipping magnitude that loses the least information (Kullback-Leibler divergence).

Migacz, "8-bit inference with TensorRT", GTC 2017. Magnitudes are put into `bins` even bins. For
each number i of bins to keep, P is the first i bins with everything beyond added to the last one;
Q is the same bins without what is beyond, summed to the grid's levels on one side of zero and
spread evenly over those of their bins that are not empty. The i of least KL(P || Q) wins, among
those that clip no more than a tenth of the values: where almost all is clipped, P and Q agree that
all is in the last bin, and the divergence says nothing.

Exact zeros are left out: they lie on every grid, and the spike that ReLU makes of them would
otherwise decide alone. With no more bins than levels the divergence is zero everywhere, and the
range is the observed one.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfq.calibrate.rules.base import RangeRule, require
from tfq.observe.sketch import Bins, Sketch

_STEP = 16  # Bins between two candidates, of `bins`: thresholds 0.4 % of the largest apart.
_CLIPPED = 0.1  # Share of values that may be clipped at most.
_SMOOTH = 1e-4  # Share of an average bin that Q gets where only P has something.


@dataclasses.dataclass(frozen=True)
class Entropy(RangeRule):
    """One clipping magnitude for both sides, of least divergence (see the module)."""

    name: ClassVar[str] = "entropy"
    bins: int = 4096

    def __post_init__(self) -> None:
        require(256 <= self.bins <= 1 << 16, self.name, "bins", "in [256, 65536]", self.bins)

    def choose(self, sketch: Sketch, bits: int, symmetric: bool) -> tuple[float, float]:
        one_sided = not symmetric and (sketch.min >= 0 or sketch.max <= 0)
        levels = 2**bits if one_sided else 2 ** (bits - 1)
        magnitudes = sketch.bins().absolute()
        if levels >= self.bins or magnitudes.upper[-1] == 0:
            return sketch.min, sketch.max
        histogram = even_histogram(magnitudes, self.bins)
        enough = np.searchsorted(np.cumsum(histogram), (1 - _CLIPPED) * histogram.sum()) + 1
        best = min(
            range(self.bins, max(levels, int(enough)) - 1, -_STEP),
            key=lambda i: divergence(histogram, i, levels),
        )
        s = float(magnitudes.upper[-1]) * best / self.bins
        return -s, s


def even_histogram(bins: Bins, n: int) -> np.ndarray:
    """Counts of non-zero magnitudes in `n` even bins up to the largest, float64 [n].

    A bin that spans several even ones is shared out among them by length.
    """
    nonzero = bins.upper > 0
    lower, upper = bins.lower[nonzero], bins.upper[nonzero]
    counts = bins.counts[nonzero].astype(np.float64)
    edges = np.linspace(0.0, float(bins.upper.max()), n + 1)
    point = lower == upper
    histogram = np.histogram(lower[point], edges, weights=counts[point])[0].astype(np.float64)
    lower, upper, counts = lower[~point], upper[~point], counts[~point]
    if lower.size:
        # Bins of both signs overlap. The density changes at every edge of any; summed twice, the
        # changes are the cumulative count.
        at = np.concatenate([lower, upper])
        change = np.concatenate([counts / (upper - lower), -counts / (upper - lower)])
        order = np.argsort(at, kind="stable")
        at, density = at[order], np.cumsum(change[order])
        cumulative = np.concatenate([[0.0], np.cumsum(density[:-1] * np.diff(at))])
        histogram += np.diff(np.interp(edges, at, cumulative))
    return np.maximum(histogram, 0.0)


def divergence(histogram: np.ndarray, i: int, levels: int) -> float:
    """KL(P || Q) when the first `i` bins are kept and merged to `levels` (see the module)."""
    kept = histogram[:i]
    p = kept.copy()
    p[-1] += histogram[i:].sum()
    group = np.arange(i) * levels // i
    occupied = kept > 0
    mass = np.bincount(group, weights=kept, minlength=levels)
    share = np.bincount(group, weights=occupied, minlength=levels)
    q = np.where(occupied, (mass / np.maximum(share, 1))[group], 0.0)
    some = p > 0
    q = np.where(some & (q == 0), _SMOOTH * kept.sum() / i + 1e-300, q)[some]
    p = p[some] / p.sum()
    return float(np.sum(p * np.log(p / (q / q.sum()))))
