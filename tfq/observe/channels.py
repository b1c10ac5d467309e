"""What the channels of a tensor are: extremes, mean, mean square, and how often they are 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfq.observe.observer import Observer, Read
from tfq.observe.sums import OrderedSums


@dataclasses.dataclass(frozen=True)
class ChannelStatistics:
    """Of the values as the tensor holds them; float64 [channels].

    Attributes:
      low, high: the extremes.
      mean, square: the means of x and of x^2, each sample counting alike.
      nonzero: the share of values other than 0.
    """

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    nonzero: np.ndarray


class ChannelObserver(Observer):
    """Collects `ChannelStatistics` along the last axis.

    Args:
      tensor: to look at.
      channels: how many of its last values in memory are one row: the last axis, or what is
        flattened of several.
    """

    def __init__(self, tensor: Read, channels: int):
        self.tensors = (tensor,)
        self._low = np.full(channels, np.inf)
        self._high = np.full(channels, -np.inf)
        self._sums = OrderedSums()

    def begin(self, number: int) -> None:
        self._sums.begin(number)

    def update(self, number: int, values: Sequence[np.ndarray]) -> None:
        rows = values[0].reshape(-1, self._low.size)
        if rows.dtype.kind != "f":
            rows = rows.astype(np.float64)
        np.minimum(self._low, rows.min(axis=0), out=self._low)
        np.maximum(self._high, rows.max(axis=0), out=self._high)
        self._sums.add(
            number,
            np.mean(rows, axis=0, dtype=np.float64),
            np.mean(rows * rows, axis=0, dtype=np.float64),
            np.mean(rows != 0, axis=0),
        )

    def merge(self, other: Observer) -> None:
        assert isinstance(other, ChannelObserver)
        np.minimum(self._low, other._low, out=self._low)
        np.maximum(self._high, other._high, out=self._high)
        self._sums.merge(other._sums)

    def result(self) -> ChannelStatistics:
        """Of the samples so far, of which there is at least one."""
        mean, square, nonzero = (s / self._sums.samples for s in self._sums.totals())
        return ChannelStatistics(self._low.copy(), self._high.copy(), mean, square, nonzero)
