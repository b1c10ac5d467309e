"""The smallest and the largest value of a tensor, which cost next to nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfq.observe.observer import Observer, Read


class ExtremesObserver(Observer):
    """Finds both.

    Args:
      tensor: to look at.
      in_passing: LiteRT's own extremes will do, which it finds faster while it runs, but not for
        models whose outputs hold NaN, which are refused. Else NaN is passed over.

    Attributes:
      low, high: over all samples; inf and -inf before the first.
    """

    def __init__(self, tensor: Read, *, in_passing: bool = True):
        self.tensors = (tensor,)
        self.extremes_only = in_passing
        self.low, self.high = np.inf, -np.inf

    def update(self, number: int, values: Sequence[np.ndarray]) -> None:
        (value,) = values
        if value.size:
            self.update_extremes(number, float(value.min()), float(value.max()), value.size)

    def update_extremes(self, number: int, low: float, high: float, size: int) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)

    def merge(self, other: Observer) -> None:
        assert isinstance(other, ExtremesObserver)
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
