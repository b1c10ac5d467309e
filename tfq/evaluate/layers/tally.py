"""What is counted of one tensor, sample by sample, so that counting can be split in any way.

Sums are integers: of whole samples in steps of 2^-80 LSB (or LSB squared), of channels in steps
of 2^-14 LSB. Adding them up gives the same in any order, so the number of workers and the
way samples are split into shards cannot change a bit of the result. Within a sample the order is
fixed: float32 differences, summed in rows of a few hundred values, and those in float64.

Costs about 7 ns a value for both readings and all figures; see `Tally.add`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from tfq.graph.numerics import LIMITS, Grid, dequantize
from tfq.observe.sketch import Sketch
from tfq.parts import channel_axis

# Values looked at together: two float32 buffers of so many stay in the cache of a core (2 MB).
_CHUNK = 1 << 18
_PAIRED = 1 << 17  # Values from which on counting pairs of bytes pays.
_ROW = 1 << 12  # Values summed in float32 at a time.
_ONES = np.ones(_ROW, np.float32)
_WIDE = 512  # Columns below which numpy reduces along rows slowly.
_FIXED = 80  # Fraction bits of the sums over samples.
_CHANNEL = 14  # Fraction bits of the channels' sums, in LSB.
# No sum over samples of an absurd error may overflow.
_CHANNEL_BOUND = 2.0**48
_LARGEST = 1e250


class Buffers:
    """Scratch memory of one thread."""

    def __init__(self) -> None:
        self._arrays = [np.empty(0, np.float32), np.empty(0, np.float32)]

    def take(self, i: int, shape: tuple[int, int]) -> np.ndarray:
        size = shape[0] * shape[1]
        if self._arrays[i].size < size:
            self._arrays[i] = np.empty(max(size, _CHUNK), np.float32)
        return self._arrays[i][:size].reshape(shape)


@dataclasses.dataclass
class Errors:
    """Sums of one reading of one tensor.

    Attributes:
      squares, magnitudes: of the error in LSB, in steps of 2^-80.
      largest: magnitude of an error, in LSB.
      channels: int64 [channels], sums of the signed error (quantized minus float) in steps of
        2^-14 LSB.
    """

    channels: np.ndarray
    squares: int = 0
    magnitudes: int = 0
    largest: float = 0.0

    def add(self, squares: float, magnitudes: float, largest: float, channels: np.ndarray) -> None:
        """Adds one run; everything in LSB, `channels` float64."""
        self.squares += _fixed(squares)
        self.magnitudes += _fixed(magnitudes)
        self.largest = max(self.largest, largest)
        steps = np.nan_to_num(np.rint(np.ldexp(channels, _CHANNEL)))
        self.channels += np.clip(steps, -_CHANNEL_BOUND, _CHANNEL_BOUND).astype(np.int64)

    def merge(self, other: Errors) -> None:
        self.squares += other.squares
        self.magnitudes += other.magnitudes
        self.largest = max(self.largest, other.largest)
        self.channels += other.channels

    def bias(self) -> np.ndarray:
        """The channels' sums in LSB, float64."""
        return np.ldexp(self.channels.astype(np.float64), -_CHANNEL)


def _fixed(x: float) -> int:
    return int(math.ldexp(min(x, _LARGEST), _FIXED))


def real(fixed: int) -> float:
    """A sum over samples as a number."""
    # The quotient of integers is rounded once, whatever their size.
    return fixed / (1 << _FIXED)


class _Sums:
    """The errors of one run, in real units, as they are added up."""

    def __init__(self, grid: Grid, channels: int, buffers: Buffers):
        self.scale, self.zero = np.float32(grid.scale[0]), np.float32(grid.zero_point[0])
        self.buffers = buffers
        self.squares = self.magnitudes = self.largest = 0.0
        self.channels = np.zeros(channels, np.float64)

    def add(self, y: np.ndarray, q: np.ndarray) -> None:
        """Adds float values and their integers, both [rows, channels]."""
        error = self.buffers.take(0, y.shape)
        # An integer of 16 bits less its zero point is exact in float32, so this is `dequantize`,
        # whose product is rounded once as well.
        np.copyto(error, q)
        if self.zero:
            error -= self.zero
        error *= self.scale
        error -= y
        absolute = self.buffers.take(1, error.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            self.channels += columns(np.add, error)
            self.squares += _sum_of_squares(error)
            np.abs(error, out=absolute)
            self.magnitudes += _sum_of_products(absolute.reshape(-1), _ONES)
        self.largest = max(self.largest, float(absolute.max()))

    def into(self, errors: Errors) -> None:
        step = float(self.scale)
        squares = self.squares / step / step
        errors.add(squares, self.magnitudes / step, self.largest / step, self.channels / step)


class Tally:
    """The counts of one pair of tensors.

    Args:
      grid: of the quantized tensor.
      shape: of both.

    Attributes:
      grid, shape: as given.
      sketch: of the float values.
      power: sum of the squares of the float values in LSB, in steps of 2^-80.
      beyond: how many float values lie beyond the grid by more than half a step.
      low, high: float32 [channels], the float values' extremes.
      part_low, part_high: the same along the axis whose slices can be parts (`tfq.parts`);
        empty where that is no other than the channels', or there is none.
      q_low, q_high: int32 [channels], the extremes of the integers as the model runs.
      counts: int64 [256 or 65536], how often each integer occurs as the model runs, from the
        lowest.
      isolated, accumulated: the two readings; None without values.
    """

    def __init__(self, grid: Grid, shape: tuple[int, ...]):
        self.grid, self.shape = grid, shape
        channels = shape[-1] if shape else 1
        lowest, highest = LIMITS[grid.dtype]
        self.sketch = Sketch()
        self.power = 0
        self.beyond = 0
        self.low = np.full(channels, np.inf, np.float32)
        self.high = np.full(channels, -np.inf, np.float32)
        self.q_low = np.full(channels, highest, np.int32)
        self.q_high = np.full(channels, lowest, np.int32)
        axis = channel_axis(shape)
        parts = 0 if axis is None or axis == len(shape) - 1 else shape[axis]
        self.part_low = np.full(parts, np.inf, np.float32)
        self.part_high = np.full(parts, -np.inf, np.float32)
        self.counts = np.zeros(highest - lowest + 1, np.int64)
        self.isolated: Errors | None = None
        self.accumulated: Errors | None = None

    def add(
        self,
        expected: np.ndarray,
        isolated: np.ndarray | None,
        accumulated: np.ndarray | None,
        buffers: Buffers,
    ) -> None:
        """Adds one run of the model.

        Args:
          expected: the float tensor, float32.
          isolated, accumulated: the quantized one in both readings, of the grid's dtype. Where both
            are the same array it is looked at once.
          buffers: scratch memory that no other thread uses.

        Raises:
          DataError: the float tensor holds NaN or infinite values; nothing is counted.
        """
        self.count_values(expected, accumulated)
        self.add_errors(expected, isolated, accumulated, buffers)

    def count_values(self, expected: np.ndarray, accumulated: np.ndarray | None) -> None:
        """The first half of `add`, histograms; another thread may do the second at the time."""
        self.sketch.update(expected)
        if accumulated is not None:
            # The unsigned view counts from zero up and then from the lowest up.
            lowest = LIMITS[self.grid.dtype][0]
            self.counts += np.roll(_occurrences(accumulated.reshape(-1)), -lowest)

    def add_errors(
        self,
        expected: np.ndarray,
        isolated: np.ndarray | None,
        accumulated: np.ndarray | None,
        buffers: Buffers,
    ) -> None:
        """The second half of `add`: errors and the channels' extremes."""
        channels = self.low.size
        if self.part_low.size:
            by_part = expected.reshape(-1, self.part_low.size, channels)
            np.minimum(self.part_low, by_part.min(axis=(0, 2)), out=self.part_low)
            np.maximum(self.part_high, by_part.max(axis=(0, 2)), out=self.part_high)
        y = expected.reshape(-1, channels)
        alone = None if isolated is None else isolated.reshape(-1, channels)
        running = None if accumulated is None else accumulated.reshape(-1, channels)
        squares = 0.0
        sums = _Sums(self.grid, channels, buffers)
        others = _Sums(self.grid, channels, buffers)
        rows = max(1, _CHUNK // channels)
        for start in range(0, len(y), rows):
            part = slice(start, start + rows)
            real = y[part]
            squares += _sum_of_squares(real)
            self._extremes(real)
            if alone is not None:
                sums.add(real, alone[part])
            if running is not None:
                if accumulated is not isolated:
                    others.add(real, running[part])
                np.minimum(self.q_low, columns(np.minimum, running[part]), out=self.q_low)
                np.maximum(self.q_high, columns(np.maximum, running[part]), out=self.q_high)
        step = self.grid.scale[0]
        self.power += _fixed(squares / step / step)
        if alone is not None:
            self.isolated = self.isolated or Errors(np.zeros(channels, np.int64))
            sums.into(self.isolated)
        if running is not None:
            self.accumulated = self.accumulated or Errors(np.zeros(channels, np.int64))
            (sums if accumulated is isolated else others).into(self.accumulated)

    def _extremes(self, y: np.ndarray) -> None:
        lo, hi = self.grid.range()
        half = self.grid.scale[0] / 2
        # In float64: the comparison is with the exact edge.
        lo, hi = lo - half, hi + half
        low, high = columns(np.minimum, y), columns(np.maximum, y)
        np.minimum(self.low, low, out=self.low)
        np.maximum(self.high, high, out=self.high)
        if float(low.min()) < lo or float(high.max()) > hi:
            x = y.astype(np.float64)
            self.beyond += int(np.count_nonzero((x < lo) | (x > hi)))

    def merge(self, other: Tally) -> None:
        """Adds what `other` counted of more samples; `other` does not change."""
        self.sketch = self.sketch.merge(other.sketch)
        self.power += other.power
        self.beyond += other.beyond
        np.minimum(self.low, other.low, out=self.low)
        np.maximum(self.high, other.high, out=self.high)
        np.minimum(self.part_low, other.part_low, out=self.part_low)
        np.maximum(self.part_high, other.part_high, out=self.part_high)
        np.minimum(self.q_low, other.q_low, out=self.q_low)
        np.maximum(self.q_high, other.q_high, out=self.q_high)
        self.counts += other.counts
        for reading in ("isolated", "accumulated"):
            mine, theirs = getattr(self, reading), getattr(other, reading)
            if mine is not None and theirs is not None:
                mine.merge(theirs)
            elif theirs is not None:
                setattr(self, reading, Errors(np.zeros_like(theirs.channels)))
                getattr(self, reading).merge(theirs)

    def values(self) -> np.ndarray:
        """The real values that `counts` counts, float64."""
        lo, hi = LIMITS[self.grid.dtype]
        return dequantize(np.arange(lo, hi + 1), self.grid).astype(np.float64)

    def __getstate__(self) -> dict[str, Any]:
        """Histograms as their non-empty bins: a tenth of the bytes to send."""
        state = dict(self.__dict__)
        state["sketch"] = self.sketch.state()
        index = np.flatnonzero(self.counts)
        state["counts"] = (self.counts.size, index.astype(np.uint16), self.counts[index])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        size, index, counts = state["counts"]
        self.__dict__.update(state)
        self.sketch = Sketch.from_state(state["sketch"])
        self.counts = np.zeros(size, np.int64)
        self.counts[index] = counts


def _sum_of_squares(values: np.ndarray) -> float:
    return _sum_of_products(values.reshape(-1), None)


def _sum_of_products(flat: np.ndarray, ones: np.ndarray | None) -> float:
    """Of float32 values with themselves or with `ones`; to 1e-6.

    Rows of `_ROW` are multiplied by BLAS, which uses threads, and with them an order that depends
    on their number, from 10,000 values on.
    """
    whole = flat.size - flat.size % _ROW
    rows = flat[:whole].reshape(-1, _ROW)
    other = rows if ones is None else ones[None]
    with np.errstate(over="ignore"):
        total = float(np.matmul(rows[:, None, :], other[:, :, None]).sum(dtype=np.float64))
    tail = flat[whole:].astype(np.float64)
    total += float(np.einsum("i,i->", tail, tail) if ones is None else tail.sum())
    if math.isfinite(total):
        return total
    wide = flat.astype(np.float64)
    return float(np.einsum("i,i->", wide, wide) if ones is None else wide.sum())


def _occurrences(flat: np.ndarray) -> np.ndarray:
    """How often each unsigned bit pattern occurs in 8 or 16 bit integers; int64 [256 or 65536]."""
    bits = flat.view(f"u{flat.dtype.itemsize}")
    if bits.itemsize == 2:
        return np.bincount(bits, minlength=1 << 16)
    if bits.size < _PAIRED:
        return np.bincount(bits, minlength=1 << 8)
    # Two at a time: a count of pairs takes as long as one of single bytes.
    even = bits.size - bits.size % 2
    pairs = np.bincount(bits[:even].view(np.uint16), minlength=1 << 16).reshape(1 << 8, 1 << 8)
    return pairs.sum(0) + pairs.sum(1) + np.bincount(bits[even:], minlength=1 << 8)


def columns(reduce: np.ufunc, values: np.ndarray) -> np.ndarray:
    """Reduces [rows, columns] to [columns]; a few columns are taken as wider rows first."""
    rows, width = values.shape
    group = _WIDE // width
    if group < 2 or rows < group:
        return reduce.reduce(values, axis=0)
    whole = rows - rows % group
    wide = reduce.reduce(values[:whole].reshape(-1, group * width), axis=0)
    result = reduce.reduce(wide.reshape(group, width), axis=0)
    if whole < rows:
        result = reduce(result, reduce.reduce(values[whole:], axis=0))
    return result
