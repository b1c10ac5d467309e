"""The statistics behind the tables: ratios of medians, paired bootstrap, McNemar's test."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Difference:
    """A paired difference `a - b` of one metric with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def significantly_below(self) -> bool:
        return self.high < 0


def bootstrap_difference(
    a: np.ndarray,
    b: np.ndarray,
    metric: Callable[[np.ndarray], np.ndarray],
    *,
    rounds: int = 10_000,
    seed: int = 0,
) -> Difference:
    """The 95 % percentile interval of metric(a) - metric(b) over resampled test cases.

    The same cases are drawn for both, so that what is hard for both cancels (Efron and Tibshirani
    1993, ch. 13).

    Args:
      a, b: [cases, figures], one row per test case, rows paired.
      metric: from summed rows [..., figures] and nothing else to the metric [...].
      rounds: bootstrap resamples.
      seed: of the resampling.
    """
    if a.shape != b.shape:
        raise ValueError(f"The rows must be paired. Received: shapes {a.shape} and {b.shape}.")
    rng = np.random.default_rng(seed)
    cases = len(a)
    # How often each case is drawn, instead of the cases themselves: sums become one product.
    differences = []
    for start in range(0, rounds, 500):
        size = min(500, rounds - start)
        weights = rng.multinomial(cases, np.full(cases, 1 / cases), size=size).astype(np.float64)
        differences.append(metric(weights @ a) - metric(weights @ b))
    low, high = np.percentile(np.concatenate(differences), [2.5, 97.5])
    return Difference(float(metric(a.sum(0)) - metric(b.sum(0))), float(low), float(high))


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Exact two-sided p of McNemar's test on paired right/wrong vectors (bool [cases]).

    Under the hypothesis of equal accuracy the cases that only one gets right are fair coin tosses.
    """
    only_a = int(np.sum(a & ~b))
    only_b = int(np.sum(b & ~a))
    n, k = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, i) for i in range(k + 1))
    return min(1.0, 2 * tail / 2**n) if n else 1.0


def ratio_of_medians(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """median(ours) / median(theirs)."""
    return float(np.median(ours) / np.median(theirs))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table with aligned columns."""
    cells = [[str(c) for c in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
             for row in cells]  # fmt: skip
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)
