"""The default range rule: exact extremes, unless a few samples are absurd or all say too little."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np

from tfq.calibrate.rules.base import RangeRule, quantile, require
from tfq.observe.sketch import Bins, Sketch


@dataclasses.dataclass(frozen=True)
class Robust(RangeRule):
    """Minimum and maximum over all samples but those whose extreme is an absurd outlier.

    On each side apart, let u be the samples' extremes in octaves (log2 of the magnitude; samples
    that do not reach beyond zero on this side do not count), n their number, IQR the distance
    between the quartiles of u. The k largest are rejected, for the largest k at which all hold:

        k <= max(1, share * n)
        u[k-th largest] - u[next] >= max(gap, spread * IQR) * max(1, enough / n)

    That is: they are few, and an empty stretch sets them apart, wide in itself and wide for how
    much samples differ anyway. Tails, even heavy ones, seldom leave such a stretch. With few
    samples it must be wider: with the defaults a factor of at least 32 among 10, of 5.7 among 20,
    of 1.4 from 100 on. Nothing rejected gives the exact minimum and maximum; otherwise the range
    ends at the upper edge of the bin of the largest extreme kept (at most 0.8 % beyond it).

    A tensor of few values (`small`, in the mean of its samples) has not shown its range on a few
    samples: an output of three values and 40 samples are cut off on every tenth sample that comes
    later. Its range reaches to where `expected` samples would be expected to take it. The extremes
    of n samples taken as Gumbel-distributed (the limit for extremes of many kinds), the largest of
    all moves outwards by the Gumbel scale, sqrt(6)/pi of their deviation, times ln(expected / n),
    at most a share of the range (`most`), since extremes that differ by orders of magnitude are no
    sign of more to come. Extremes that are all alike, at a bound such as a ReLU's zero, do not
    move. Not below `fewest` samples, which say nothing of a deviation, and not on a side where any
    was rejected.

    The rule looks at whole samples, not at values, because a rare peak of every sample is what the
    network's decisions hang on, while a broken sample is broken everywhere.
    """

    name: ClassVar[str] = "robust"
    needs_histogram: ClassVar[bool] = False
    share: float = 0.02
    gap: float = 0.5
    spread: float = 2.0
    enough: int = 100
    small: int = 64
    expected: int = 200
    fewest: int = 8
    most: float = 0.25

    def __post_init__(self) -> None:
        require(0 <= self.share < 0.5, self.name, "share", "in [0, 0.5)", self.share)
        require(self.gap > 0, self.name, "gap", "positive (octaves)", self.gap)
        require(self.spread >= 0, self.name, "spread", "at least 0", self.spread)
        require(self.enough > 0, self.name, "enough", "positive", self.enough)
        require(self.small >= 0, self.name, "small", "at least 0", self.small)
        require(self.expected > 0, self.name, "expected", "positive", self.expected)
        require(self.most >= 0, self.name, "most", "at least 0", self.most)
        require(self.fewest > 1, self.name, "fewest", "at least 2", self.fewest)

    def choose(self, sketch: Sketch, bits: int, symmetric: bool) -> tuple[float, float]:
        low = self._reach(sketch.sample_minima(), -1.0)
        high = self._reach(sketch.sample_maxima(), 1.0)
        least, most = self.limits(sketch)
        return (least if low is None else -low, most if high is None else high)

    def limits(self, sketch: Sketch) -> tuple[float, float]:
        if sketch.count > self.small * sketch.samples:
            return sketch.min, sketch.max
        most = self.most * (sketch.max - sketch.min)
        return (
            sketch.min - min(self._unseen(sketch.sample_minima()), most),
            sketch.max + min(self._unseen(sketch.sample_maxima()), most),
        )

    def _unseen(self, extremes: Bins) -> float:
        """How much further than on these samples `expected` ones are likely to reach."""
        n = int(extremes.counts.sum())
        if not self.fewest <= n < self.expected:
            return 0.0
        mean = float(extremes.centers @ extremes.counts) / n
        variance = float((extremes.centers - mean) ** 2 @ extremes.counts) / n
        return math.sqrt(6 * variance) / math.pi * math.log(self.expected / n)

    def _reach(self, extremes: Bins, sign: float) -> float | None:
        """The magnitude up to which samples are kept on one side; None to keep all."""
        beyond = sign * extremes.centers > 0
        if not beyond.any():
            return None
        bins = Bins(
            extremes.lower[beyond],
            extremes.upper[beyond],
            extremes.centers[beyond],
            extremes.counts[beyond],
        ).absolute()
        octaves, counts = np.log2(bins.centers), bins.counts
        n = int(counts.sum())
        quartile = [quantile(octaves, octaves, counts, q) for q in (0.25, 0.75)]
        stretch = max(self.gap, self.spread * (quartile[1] - quartile[0]))
        stretch *= max(1.0, self.enough / n)
        rejected = 0
        kept = None
        for i in range(octaves.size - 1, 0, -1):
            rejected += int(counts[i])
            if rejected > max(1, self.share * n):
                break
            if octaves[i] - octaves[i - 1] >= stretch:
                kept = float(bins.upper[i - 1])
        return kept
