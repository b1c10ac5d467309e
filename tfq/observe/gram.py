"""The Gram matrix of a tensor's features, E[x x^T]: what the error of rounded weights is made of.

Products of matrices come from BLAS, whose order of summation depends on its threads. So that no
order can show, values are first rounded to 20 bits of the sample's largest (integers are what they
are): products have 40 bits, and 2^13 of them add up exactly in float64.

Cost: one product [features, rows] x [rows, features] in float64 for each sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tfq.observe.observer import Observer, Read
from tfq.observe.sums import OrderedSums

_BITS = 20
_ROWS = 1 << (53 - 2 * _BITS)


class GramObserver(Observer):
    """Adds up x x^T over rows of features, the last axis, as the tensor holds them.

    Args:
      tensor: to look at.
      features: size of its last axis.
    """

    def __init__(self, tensor: Read, features: int):
        self.tensors = (tensor,)
        self.features = features
        self._sums = OrderedSums()

    def begin(self, number: int) -> None:
        self._sums.begin(number)

    def update(self, number: int, values: Sequence[np.ndarray]) -> None:
        rows = _rounded(values[0].reshape(-1, self.features))
        gram = np.zeros((self.features, self.features))
        for start in range(0, len(rows), _ROWS):
            block = rows[start : start + _ROWS]
            gram += block.T @ block
        self._sums.add(number, gram, rows.sum(axis=0), len(rows))

    def merge(self, other: Observer) -> None:
        assert isinstance(other, GramObserver)
        self._sums.merge(other._sums)

    def result(self, *, centered: bool = False) -> np.ndarray:
        """float64 [features, features]: E[x x^T] over all rows, or E[(x - mean) (x - mean)^T]."""
        gram, total, rows = self._sums.totals()
        gram, mean = gram / rows, total / rows
        return gram - np.outer(mean, mean) if centered else gram

    def mean(self) -> np.ndarray:
        """float64 [features]: E[x]."""
        _, total, rows = self._sums.totals()
        return np.asarray(total / rows)


def _rounded(rows: np.ndarray) -> np.ndarray:
    """float64; of floating-point values the `_BITS` bits below the largest."""
    wide = rows.astype(np.float64)
    largest = float(np.max(np.abs(wide), initial=0.0))
    if rows.dtype.kind != "f" or not largest or not math.isfinite(largest):
        return wide
    step = math.ldexp(1.0, math.frexp(largest)[1] - _BITS)
    return np.rint(wide / step) * step
