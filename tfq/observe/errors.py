"""How far a tensor is from the same one in another model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfq.graph.numerics import Grid, dequantize
from tfq.observe.observer import Observer, Read
from tfq.observe.sums import OrderedSums


class ErrorObserver(Observer):
    """Adds up y^2 and (y - y_q)^2.

    Args:
      expected: the tensor y, of real values.
      got: its counterpart y_q.
      grid: of the counterpart; None where it holds real values.
    """

    def __init__(self, expected: Read, got: Read, grid: Grid | None):
        self.tensors = (expected, got)
        self._grid = grid
        self._sums = OrderedSums()

    def begin(self, number: int) -> None:
        self._sums.begin(number)

    def update(self, number: int, values: Sequence[np.ndarray]) -> None:
        expected = values[0].astype(np.float64)
        got = values[1] if self._grid is None else dequantize(values[1], self._grid)
        off = expected - got
        self._sums.add(number, np.sum(expected * expected), np.sum(off * off))

    def merge(self, other: Observer) -> None:
        assert isinstance(other, ErrorObserver)
        self._sums.merge(other._sums)

    def result(self) -> tuple[float, float]:
        """The sums over all samples: power, error."""
        power, error = self._sums.totals() or (0.0, 0.0)
        return float(power), float(error)
