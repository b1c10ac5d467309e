"""Parts of an output: slices of one axis whose values differ so much in range that figures of the
whole say nothing of the smaller ones.

Boxes in pixels and scores of 0 to 1 in one tensor [1, 64, 10] are parts [..., 0:4] and [..., 4:10]:
the error of the scores is a millionth of the boxes' power. A part is a run of neighbouring channels
of like spread (largest less smallest value); every n-th channel, or the same runs of every n, where
kinds take turns; or the channels on one side of a gap, wherever they are.

The axis is the last one, or where that has more than 1,024 values the one before it, as in
predictions [1, 84, 8400], if that has fewer. Sums are kept per channel, so memory does not grow
with samples or positions.
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
# So many bits below the widest channel eight steps are left of 8 bits.
_FEW = 5.0
_MOST_CHANNELS = 1024
_MOST_PARTS = 8
_MOST_NAMED = 3
# So many runs are named before a period is looked for.
_FEW_RUNS = 3
# A spread below this share of a channel's size, or of the widest spread, is float rounding: the
# channel is constant.
_ROUNDING, _NOTHING = 1e-5, 2.0**-20

# Indexes an axis: a slice, or the numbers of channels.
Channels = slice | np.ndarray


@dataclasses.dataclass(frozen=True)
class Slice:
    """Channels of one axis of a tensor with `rank` axes.

    `start:stop:step`, or `start:stop` of every `period` channels ("[..., 4:25 of every 25]"), or
    those `picked` ("[..., 3, 7, 12 and 9 more]").
    """

    axis: int
    rank: int
    start: int
    stop: int
    step: int = 1
    period: int = 0
    size: int = 0
    picked: tuple[int, ...] = ()

    def __str__(self) -> str:
        behind = ", :" * (self.rank - 1 - self.axis)
        if self.picked:
            named = ", ".join(str(i) for i in self.picked[:_MOST_NAMED])
            more = len(self.picked) - _MOST_NAMED
            return f"[..., {named}{f' and {more} more' if more > 0 else ''}{behind}]"
        stride = f":{self.step}" if self.step > 1 else ""
        every = f" of every {self.period}" if self.period else ""
        return f"[..., {self.start}:{self.stop}{stride}{every}{behind}]"

    def of(self, values: np.ndarray) -> np.ndarray:
        """The part of `values`."""
        at: list[slice | np.ndarray] = [slice(None)] * values.ndim
        at[self.axis] = self.channels
        return values[tuple(at)]

    @property
    def channels(self) -> Channels:
        if self.picked:
            return np.array(self.picked)
        if self.period:
            every = np.arange(self.size)
            return np.flatnonzero(
                (every % self.period >= self.start) & (every % self.period < self.stop)
            )
        return slice(self.start, self.stop, self.step)


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """The axis whose slices can be parts, or None. Of several axes the first is the batch's."""
    last = len(shape) - 1
    if last < 0:
        return None
    if shape[last] > _MOST_CHANNELS and last > 1 and 1 < shape[last - 1] <= _MOST_CHANNELS:
        return last - 1
    return last if shape[last] > 1 else None


def find_slices(spread: np.ndarray, axis: int, rank: int) -> tuple[Slice, ...]:
    """The parts that channels of these spreads make up.

    Args:
      spread: [channels], largest less smallest value; 0 for a constant channel.
      axis, rank: of the tensor.

    Returns:
      At least two parts that cover all channels, or none where all are alike.
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
    wide = len(cuts)
    few = int(np.searchsorted(ordered, ordered[-1] - _FEW))
    if few > 0 and gaps[few - 1] <= _ALIKE:
        # No gap, but the last of a chain have as little left.
        cuts.append((gaps[few - 1], (ordered[few - 1] + ordered[few]) / 2))
    for count in range(len(cuts), 0, -1):
        level = np.searchsorted(sorted(c for _, c in cuts[:count]), bits)
        found = _named(level, axis, rank)
        if found:
            return found
    if not wide:
        return ()
    small = bits < cuts[0][1]
    return tuple(
        Slice(axis, rank, 0, spread.size, picked=tuple(np.flatnonzero(at).tolist()))
        for at in (~small, small)
    )


def _named(level: np.ndarray, axis: int, rank: int) -> tuple[Slice, ...]:
    """Runs of one level, every n-th channel, or the same runs of every n channels."""
    runs = _runs(level)
    if len(runs) > _FEW_RUNS:
        for period in range(2, _MOST_PARTS + 1):
            if np.array_equal(np.resize(level[:period], level.size), level):
                return tuple(Slice(axis, rank, i, level.size, period) for i in range(period))
        for period in range(_MOST_PARTS + 1, min(level.size // 2, _MOST_CHANNELS) + 1):
            if level.size % period or np.any(level.reshape(-1, period) != level[:period]):
                continue
            every = _runs(level[:period])
            if len(every) <= _MOST_PARTS:
                return tuple(
                    Slice(axis, rank, a, b, period=period, size=level.size) for a, b in every
                )
    if len(runs) <= _MOST_PARTS:
        return tuple(Slice(axis, rank, a, b) for a, b in runs)
    return ()


def _runs(level: np.ndarray) -> list[tuple[int, int]]:
    edges = [0, *(np.flatnonzero(np.diff(level)) + 1).tolist(), level.size]
    return list(itertools.pairwise(edges))


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
        self._inner = 1 if self.axis is None else math.prod(shape[self.axis + 1 :])
        channels = 1 if self.axis is None else shape[self.axis]
        self.count = 0  # Values of a channel.
        self.low = np.full(channels, np.inf)
        self.high = np.full(channels, -np.inf)
        self.sum, self.power, self.error, self.largest = (np.zeros(channels) for _ in range(4))

    def by_channel(self, values: np.ndarray) -> np.ndarray:
        """`values` as [outer, channels, inner]."""
        if self.axis is None:
            return values.reshape(1, 1, -1)
        return values.reshape(-1, self.low.size, self._inner)

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
