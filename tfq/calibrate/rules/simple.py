"""Range rules that are one formula: extremes, their average, quantiles, moments."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfq.calibrate.rules.base import RangeRule, quantile, require
from tfq.observe.sketch import Sketch


@dataclasses.dataclass(frozen=True)
class MinMax(RangeRule):
    """The exact smallest and largest value of all samples."""

    name: ClassVar[str] = "minmax"
    needs_histogram: ClassVar[bool] = False

    def choose(self, sketch: Sketch, bits: int, symmetric: bool) -> tuple[float, float]:
        return sketch.min, sketch.max


@dataclasses.dataclass(frozen=True)
class MovingAverage(RangeRule):
    """The average over samples of each sample's minimum, and of its maximum.

    An exponential moving average gives the last samples the most weight, so it depends on the
    order of samples; this is its value for samples in random order. Extremes are known to a bin's
    middle, within 0.4 %.
    """

    name: ClassVar[str] = "moving_average"
    needs_histogram: ClassVar[bool] = False

    def choose(self, sketch: Sketch, bits: int, symmetric: bool) -> tuple[float, float]:
        low, high = sketch.sample_minima(), sketch.sample_maxima()
        return (
            float(np.average(low.centers, weights=low.counts)),
            float(np.average(high.centers, weights=high.counts)),
        )


@dataclasses.dataclass(frozen=True)
class Percentile(RangeRule):
    """The middle `percent` of all values: (100 - percent)/2 per cent are cut on each side.

    Symmetric grids keep `percent` of the magnitudes instead. 99.9 clips the peaks that logits and
    box coordinates live on; 99.99 to 99.999 suit most tensors.
    """

    name: ClassVar[str] = "percentile"
    percent: float = 99.99

    def __post_init__(self) -> None:
        require(0 < self.percent <= 100, self.name, "percent", "in (0, 100]", self.percent)

    def choose(self, sketch: Sketch, bits: int, symmetric: bool) -> tuple[float, float]:
        bins = sketch.bins()
        if symmetric:
            bins = bins.absolute()
            hi = quantile(bins.lower, bins.upper, bins.counts, self.percent / 100)
            return -hi, hi
        cut = (100 - self.percent) / 200
        return (
            quantile(bins.lower, bins.upper, bins.counts, cut),
            quantile(bins.lower, bins.upper, bins.counts, 1 - cut),
        )


@dataclasses.dataclass(frozen=True)
class MeanStd(RangeRule):
    """mu - k sigma to mu + k sigma, with k = `deviations`.

    This is the affine grid of mean and deviation, Q(x) = clip((x - mu) / sigma * L + b, a, b'),
    with scale sigma / L: 2**bits levels over 2 k sigma make L = (2**bits - 1) / (2 k). Mean and
    deviation come from the bins' middles, so they do not depend on the order of samples.
    """

    name: ClassVar[str] = "mean_std"
    deviations: float = 6.0

    def __post_init__(self) -> None:
        require(self.deviations > 0, self.name, "deviations", "positive", self.deviations)

    def choose(self, sketch: Sketch, bits: int, symmetric: bool) -> tuple[float, float]:
        bins = sketch.bins()
        mean = float(np.average(bins.centers, weights=bins.counts))
        variance = float(np.average((bins.centers - mean) ** 2, weights=bins.counts))
        reach = self.deviations * float(np.sqrt(variance))
        if reach == 0.0:  # A constant.
            return sketch.min, sketch.max
        return mean - reach, mean + reach
