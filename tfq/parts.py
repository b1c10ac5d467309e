"""Parts of an output: slices of one axis whose values differ so much in range that figures of the
whole say nothing of the smaller ones.

Boxes in pixels and scores of 0 to 1 in one tensor [1, 64, 10] are parts [..., 0:4] and [..., 4:10]:
the error of the scores is a millionth of the boxes' power. A part is a run of neighbouring channels
of like spread (largest less smallest value), or every n-th channel where kinds take turns.

The axis is the last one, or where that has more than 1,024 values the one before it, as in
predictions [1, 84, 8400]. Sums are kept per channel, so memory does not grow with samples or
positions.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np

# Spreads that differ by no more than this many bits are alike.
_ALIKE = 3.0
# So many bits below the widest channel everything is equally small, also for 16 bits.
_REACH = 12.0
_MOST_CHANNELS = 1024
_MOST_PARTS = 8
# A spread below this share of a channel's size, or of the widest spread, is float rounding: the
# channel is constant.
_ROUNDING, _NOTHING = 1e-5, 2.0**-20


@dataclasses.dataclass(frozen=True)
class Slice:
    """`start:stop:step` of one axis of a tensor with `rank` axes; prints as "[..., 4:10]"."""

    axis: int
    rank: int
    start: int
    stop: int
    step: int = 1

    def __str__(self) -> str:
        stride = f":{self.step}" if self.step > 1 else ""
        behind = ", :" * (self.rank - 1 - self.axis)
        return f"[..., {self.start}:{self.stop}{stride}{behind}]"

    def of(self, values: np.ndarray) -> np.ndarray:
        """The part of `values`, a view."""
        at: list[slice] = [slice(None)] * values.ndim
        at[self.axis] = self.channels
        return values[tuple(at)]

    @property
    def channels(self) -> slice:
        return slice(self.start, self.stop, self.step)


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """The axis whose slices can be parts, or None."""
    for axis in (len(shape) - 1, len(shape) - 2):
        if axis >= 1 and shape[axis] <= _MOST_CHANNELS:
            return axis if shape[axis] > 1 else None
    return None


def find_slices(spread: np.ndarray, axis: int, rank: int) -> tuple[Slice, ...]:
    """The parts that channels of these spreads make up.

    Args:
      spread: [channels], largest less smallest value; 0 for a constant channel.
      axis, rank: of the tensor.

    Returns:
      At least two parts that cover all channels, or none where all are alike or where they are in
      no order that a few slices can name.
    """
    live = spread > _NOTHING * spread.max(initial=0.0)
    if live.sum() < 2:
        return ()
    bits = np.log2(spread, out=np.full(spread.shape, -np.inf), where=live)
    bits = np.maximum(bits, bits.max() - _REACH)
    # A constant channel goes with its neighbour.
    near = np.maximum.accumulate(np.where(live, np.arange(spread.size), -1))
    near[near < 0] = int(np.argmax(live))
    bits = bits[near]
    ordered = np.sort(bits)
    gaps = np.diff(ordered)
    cuts = sorted(
        ((gaps[i], (ordered[i] + ordered[i + 1]) / 2) for i in np.flatnonzero(gaps > _ALIKE)),
        reverse=True,
    )
    for count in range(len(cuts), 0, -1):
        level = np.searchsorted(sorted(c for _, c in cuts[:count]), bits)
        found = _named(level, axis, rank)
        if found:
            return found
    return ()


def _named(level: np.ndarray, axis: int, rank: int) -> tuple[Slice, ...]:
    """Runs of one level, or every n-th channel."""
    edges = [0, *(np.flatnonzero(np.diff(level)) + 1).tolist(), level.size]
    if len(edges) - 1 <= _MOST_PARTS:
        return tuple(Slice(axis, rank, a, b) for a, b in itertools.pairwise(edges))
    for period in range(2, _MOST_PARTS + 1):
        first = level[:period]
        if np.array_equal(np.resize(first, level.size), level):
            return tuple(Slice(axis, rank, i, level.size, period) for i in range(period))
    return ()


@dataclasses.dataclass(frozen=True)
class PartFigures:
    """How one part of an output does.

    Attributes:
      part: the slice.
      low, high: of the float values.
      sqnr_db: 10 log10(sum y^2 / sum (y - y_q)^2); inf where exact.
      spread_db: the same of the signal less its channels' means: what tells one value from another.
      max_abs: largest distance in real units.
    """

    part: Slice
    low: float
    high: float
    sqnr_db: float
    spread_db: float
    max_abs: float


class ChannelSums:
    """Sums of one output by channel; those of several blocks of samples add up.

    Args:
      shape: of the output with its batch axis, whose size does not matter.
    """

    def __init__(self, shape: tuple[int, ...]):
        self.axis = channel_axis(shape)
        self.rank = len(shape)
        channels = 1 if self.axis is None else shape[self.axis]
        self.count = 0  # Values of a channel.
        self.low = np.full(channels, np.inf)
        self.high = np.full(channels, -np.inf)
        self.sum, self.power, self.error, self.largest = (np.zeros(channels) for _ in range(4))

    def by_channel(self, values: np.ndarray) -> np.ndarray:
        """`values` as [outer, channels, inner]."""
        if self.axis is None:
            return values.reshape(1, 1, -1)
        inner = math.prod(values.shape[self.axis + 1 :])
        return values.reshape(-1, values.shape[self.axis], inner)

    def add(self, expected: np.ndarray, got: np.ndarray) -> None:
        """Adds real values of the output's shape, of one sample or several."""
        e = self.by_channel(expected).astype(np.float64)
        if not e.size:
            return
        off = np.abs(self.by_channel(got) - e)
        self.count += e.size // self.low.size
        np.minimum(self.low, e.min(axis=(0, 2)), out=self.low)
        np.maximum(self.high, e.max(axis=(0, 2)), out=self.high)
        np.maximum(self.largest, off.max(axis=(0, 2)), out=self.largest)
        self.sum += e.sum(axis=(0, 2))
        self.power += np.einsum("acb,acb->c", e, e)
        self.error += np.einsum("acb,acb->c", off, off)

    def merge(self, other: ChannelSums) -> None:
        self.count += other.count
        np.minimum(self.low, other.low, out=self.low)
        np.maximum(self.high, other.high, out=self.high)
        np.maximum(self.largest, other.largest, out=self.largest)
        for name in ("sum", "power", "error"):
            getattr(self, name).__iadd__(getattr(other, name))

    def slices(self) -> tuple[Slice, ...]:
        """The parts, at least two, or none."""
        if self.axis is None or not self.count:
            return ()
        return find_slices(spreads(self.low, self.high), self.axis, self.rank)

    def parts(self) -> tuple[PartFigures, ...]:
        """The figures of every part, at least two, or none."""
        return tuple(self._figures(s) for s in self.slices())

    def whole(self) -> PartFigures:
        """The same of all channels together."""
        return self._figures(Slice(self.axis or 0, self.rank, 0, self.low.size))

    def _figures(self, part: Slice) -> PartFigures:
        at = part.channels
        error, power = float(self.error[at].sum()), float(self.power[at].sum())
        means = float(np.sum(self.sum[at] ** 2)) / max(self.count, 1)
        return PartFigures(
            part,
            float(self.low[at].min()),
            float(self.high[at].max()),
            decibel(power, error),
            decibel(max(power - means, 0.0), error),
            float(self.largest[at].max()),
        )


def spreads(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Largest less smallest value of each channel; 0 where that is float rounding."""
    spread = high - low
    size = np.maximum(np.abs(low), np.abs(high))
    return np.where(np.isfinite(spread) & (spread > _ROUNDING * size), spread, 0.0)


def decibel(power: float, error: float) -> float:
    """10 log10(power / error); inf without an error, -inf where it has no bound."""
    if error == 0:
        return math.inf
    ratio = max(power, 1e-30) / error
    return -math.inf if ratio == 0 else 10 * math.log10(ratio)
