"""Whether a classifier is right as often as it says.

The expected calibration error bins samples by confidence, the probability of the chosen class, into
equal bins (low, high] and averages |accuracy - mean confidence| over the bins, weighted by their
samples: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017,
equation 3. Linear in the samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tfq.evaluate.metrics.core import (
    Better,
    Kept,
    Metric,
    Outputs,
    require_labels,
    require_numbers,
)

BINS = 15


@dataclasses.dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram.

    Attributes:
      low, high: confidences in (low, high]; the first bin has 0 too.
      count: samples.
      confidence: their mean, or None of no sample.
      accuracy: share of right answers, or None of no sample.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def reliability(confidence: np.ndarray, hits: np.ndarray, bins: int = BINS) -> tuple[Bin, ...]:
    """The bars of a reliability diagram.

    Args:
      confidence: probability of the chosen class, [n], finite.
      hits: whether the chosen class is right, [n].
      bins: how many, of equal width.
    """
    places = _places(confidence, bins)
    counts, confident, right = (
        np.bincount(places, weights, bins) for weights in (None, confidence, hits)
    )
    return tuple(
        Bin(
            i / bins,
            (i + 1) / bins,
            int(counts[i]),
            float(confident[i] / counts[i]) if counts[i] else None,
            float(right[i] / counts[i]) if counts[i] else None,
        )
        for i in range(bins)
    )


def ece_of_bins(bins: Sequence[Bin]) -> float | None:
    """The expected calibration error, 0 to 1, of a reliability diagram; None of no sample."""
    gaps = [
        b.count * abs(b.accuracy - b.confidence)
        for b in bins
        if b.accuracy is not None and b.confidence is not None
    ]
    return sum(gaps) / sum(b.count for b in bins) if gaps else None


def expected_calibration_error(confidence: np.ndarray, hits: np.ndarray, bins: int = BINS) -> float:
    """The mean of |accuracy - confidence| over the bins, 0 to 1; arguments as `reliability`."""
    gap = np.asarray(hits, np.float64) - np.asarray(confidence, np.float64)
    return float(np.abs(np.bincount(_places(confidence, bins), gap, bins)).sum() / len(gap))


def _places(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each confidence: (low, high]."""
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    return np.searchsorted(edges, np.asarray(confidence, np.float64), side="left")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ece(Metric):
    """Expected calibration error; keeps 5 bytes a sample."""

    name: str = "ece"
    title: str = "expected calibration error"
    unit: str = ""
    better: Better = "lower"
    bounds: tuple[float, float] = (0, 1)
    confidences: Callable[[Outputs], np.ndarray]
    answers: Callable[[Outputs], np.ndarray]

    def keep(
        self, outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None
    ) -> dict[str, np.ndarray]:
        chosen = self.answers(outputs)
        labels = require_labels(labels, len(chosen), self.title.capitalize())
        return {"confidence": self.confidences(outputs), "hit": chosen == labels}

    def compute(self, kept: Kept) -> float:
        require_numbers(kept["confidence"])
        return expected_calibration_error(kept["confidence"], kept["hit"])

    def statistic(self, kept: Kept) -> Callable[[np.ndarray], float]:
        gap = np.asarray(kept["hit"], np.float64) - kept["confidence"]
        places = _places(kept["confidence"], BINS)
        return lambda i: float(np.abs(np.bincount(places[i], gap[i], BINS)).sum() / len(i))
