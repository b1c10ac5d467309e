"""What calibration remembers of one tensor: extremes and a histogram, never the values.

The histogram's bins are the upper 16 bits of a float32: sign, exponent and 7 bits of mantissa, so
each bin is 1/128 of an octave's lower end wide, whatever the tensor's range. Because the bins are
fixed, merging is integer addition: the order of samples and the number of workers cannot change a
bit of the result. Two more histograms with the same bins hold the smallest and the largest value
of each sample, which is what rules about samples (rather than values) need.

Counting costs about 1 ns a value here; see `_tally`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import struct
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from tfq.errors import DataError

MODES = ("full", "minmax")

_BINS = 1 << 16
_NEGATIVE_ZERO = 0x8000
# A tensor without negative values needs the bins of +0 up to the largest float, and that of -0.
_NONNEGATIVE_BINS = _NEGATIVE_ZERO + 1

_CHUNK = 1 << 17  # Values counted at a time: 1 MB of scratch.
_PROBE = 1 << 14  # Values looked at for a known bound before looking at all.
_SMALL = 1 << 13  # Below this, zeroing and adding whole histograms would dominate.


@dataclasses.dataclass(frozen=True, eq=False)
class Bins:
    """The non-empty bins of a histogram in ascending order; all arrays have shape [n].

    Attributes:
      lower: float64, smallest value a bin's members may have, clipped to the observed range.
      upper: float64, the same for the largest; `lower == upper` where the value is known exactly.
      centers: float64, the middle of both. Zero (and numbers below 1e-40) is a bin of its own.
      counts: int64, how many values fell into each.
    """

    lower: np.ndarray
    upper: np.ndarray
    centers: np.ndarray
    counts: np.ndarray

    def absolute(self) -> Bins:
        """The bins of the magnitudes. Bins of opposite sign stay apart (values may repeat)."""
        negative = self.centers < 0
        lower = np.where(negative, -self.upper, self.lower)
        upper = np.where(negative, -self.lower, self.upper)
        order = np.argsort(np.abs(self.centers), kind="stable")
        return Bins(lower[order], upper[order], np.abs(self.centers)[order], self.counts[order])


class Sketch:
    """Extremes, count and histogram of one tensor over all samples seen.

    Args:
      mode: "full", or "minmax" to leave the histogram of values out.

    Attributes:
      count: how many values were seen.
      samples: how many samples were seen.
      min, max: the exact extremes (inf and -inf before the first value).
      mode: as given.
    """

    def __init__(self, mode: str = "full"):
        self.mode = mode
        self.count = 0
        self.min = float("inf")
        self.max = float("-inf")
        self._minima: dict[int, int] = {}
        self._maxima: dict[int, int] = {}
        # uint32 until the count could overflow it; half the bins until a negative value comes.
        self._counts = np.zeros(_NONNEGATIVE_BINS if mode == "full" else 0, np.uint32)

    @property
    def samples(self) -> int:
        return sum(self._minima.values())

    def update(self, values: np.ndarray, bounds: tuple[float, float] = (-np.inf, np.inf)) -> None:
        """Adds one sample's values.

        Args:
          values: float32 of any shape; an empty array changes nothing.
          bounds: what no value can lie beyond, as after RELU6 (0, 6). Where it is reached early,
            the rest need not be looked at for an extreme; the result is the same.

        Raises:
          DataError: a value is NaN or infinite. The sketch is left as it was.
        """
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        if not flat.size:
            return
        # NaN wins every comparison in numpy's reductions.
        low, high = _extreme(flat, np.min, bounds[0]), _extreme(flat, np.max, bounds[1])
        if self.mode == "full" and np.isfinite(low) and np.isfinite(high):
            self._grow(flat.size, negative=low < 0)
            _tally(flat, self._counts, nonnegative=low >= 0)
        self._add_extremes(low, high, flat.size)

    def update_extremes(self, low: float, high: float, size: int) -> None:
        """Adds one sample of which only the extremes are known; for mode "minmax".

        Args:
          low, high: the smallest and the largest value.
          size: how many values there are.

        Raises:
          DataError: the sketch keeps a histogram, or an extreme is NaN or infinite.
        """
        if self.mode != "minmax":
            raise DataError(f"A sketch of mode {self.mode!r} needs all values, not extremes alone.")
        self._add_extremes(low, high, size)

    def _add_extremes(self, low: float, high: float, size: int) -> None:
        if not (math.isfinite(low) and math.isfinite(high)):
            nan = math.isnan(low) or math.isnan(high)
            raise DataError(f"holds {'NaN' if nan else 'infinite values'}")
        low, high = low + 0.0, high + 0.0  # Turns -0 into 0.
        for extremes, value in ((self._minima, low), (self._maxima, high)):
            index = _bin_of(value)
            extremes[index] = extremes.get(index, 0) + 1
        self.count += size
        self.min, self.max = min(self.min, low), max(self.max, high)

    def merge(self, other: Sketch) -> Sketch:
        """The sketch of both sets of samples; neither argument changes.

        Raises:
          DataError: one is "full" and the other "minmax".
        """
        if self.mode != other.mode:
            raise DataError(
                f"Statistics of mode {self.mode!r} and {other.mode!r} cannot be merged. "
                "Calibrate both with the same mode."
            )
        result = Sketch(self.mode)
        result.count = self.count + other.count
        result.min, result.max = min(self.min, other.min), max(self.max, other.max)
        result._minima = _add(self._minima, other._minima)
        result._maxima = _add(self._maxima, other._maxima)
        if self.mode == "full":
            wide = max(self._counts.size, other._counts.size)
            result._counts = np.zeros(wide, np.int64 if result.count >> 32 else np.uint32)
            for part in (self._counts, other._counts):
                result._counts[: part.size] += part.astype(result._counts.dtype)
        return result

    def within(self, bound: float) -> Sketch:
        """What was seen of the values from -bound to bound; this sketch where all are.

        Their extremes are known to a bin's edge where others lie beyond, and in mode "minmax" from
        samples without any beyond.
        """
        if not self.count or (-bound <= self.min and self.max <= bound):
            return self
        lower, upper = _edges()
        result = Sketch(self.mode)
        for mine, theirs in ((self._minima, result._minima), (self._maxima, result._maxima)):
            theirs.update((b, n) for b, n in mine.items() if abs(lower[b]) <= bound)
        inside = np.flatnonzero(np.abs(lower[: self._counts.size]) <= bound)
        if self.mode == "full":
            result._counts = np.zeros_like(self._counts)
            result._counts[inside] = self._counts[inside]
            result.count = int(result._counts.sum(dtype=np.int64))
            seen = inside[self._counts[inside] > 0]
        else:
            seen = np.array([*result._minima, *result._maxima], np.int64)
            result.count = self.count if seen.size else 0
        if result.count:
            result.min = max(self.min, float(lower[seen].min()))
            result.max = min(self.max, float(upper[seen].max()))
            for extremes, value in ((result._minima, result.min), (result._maxima, result.max)):
                if not extremes:
                    extremes[_bin_of(value)] = self.samples
        return result

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sketch):
            return NotImplemented
        mine, theirs = self.state(), other.state()
        return mine.keys() == theirs.keys() and all(
            np.array_equal(mine[key], theirs[key]) for key in mine
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"<Sketch {self.mode}: {self.count} values of {self.samples} samples "
            f"in [{self.min:g}, {self.max:g}]>"
        )

    def bins(self) -> Bins:
        """The histogram of all values.

        Raises:
          DataError: the sketch was filled in "minmax" mode.
        """
        if self.mode != "full":
            raise DataError(
                "These statistics hold extremes only (mode 'minmax'), no histogram. "
                "Calibrate again with mode 'full'."
            )
        index = np.flatnonzero(self._counts)
        return self._bins(index, self._counts[index].astype(np.int64))

    def sample_minima(self) -> Bins:
        """The histogram of each sample's smallest value; counts sum to `samples`."""
        return self._bins(*_as_arrays(self._minima))

    def sample_maxima(self) -> Bins:
        """The histogram of each sample's largest value; counts sum to `samples`."""
        return self._bins(*_as_arrays(self._maxima))

    def state(self) -> dict[str, Any]:
        """Everything as arrays: sorted bin numbers (uint16) with counts (int64), and extremes."""
        index = np.flatnonzero(self._counts)
        minima, maxima = _as_arrays(self._minima), _as_arrays(self._maxima)
        return {
            "mode": self.mode,
            "count": self.count,
            "extremes": np.array([self.min, self.max], np.float64),
            "bins": index.astype(np.uint16),
            "counts": self._counts[index].astype(np.int64),
            "minima_bins": minima[0].astype(np.uint16),
            "minima_counts": minima[1],
            "maxima_bins": maxima[0].astype(np.uint16),
            "maxima_counts": maxima[1],
        }

    @staticmethod
    def from_state(state: dict[str, Any]) -> Sketch:
        """The sketch that `state` described.

        Raises:
          ValueError: no sketch has such a state.
        """
        _check_state(state)
        sketch = Sketch(str(state["mode"]))
        sketch.count = int(state["count"])
        sketch.min, sketch.max = (float(v) for v in state["extremes"])
        if sketch.mode == "full":
            sketch._grow(0, negative=sketch.min < 0)
            sketch._counts[state["bins"]] = state["counts"]
        for name in ("minima", "maxima"):
            pairs = zip(state[f"{name}_bins"], state[f"{name}_counts"], strict=True)
            setattr(sketch, f"_{name}", {int(b): int(c) for b, c in pairs})
        return sketch

    def __reduce__(self) -> tuple[Callable[[dict[str, Any]], Sketch], tuple[dict[str, Any]]]:
        # Most bins are empty: what is sent between processes leaves them out.
        return Sketch.from_state, (self.state(),)

    def _grow(self, more: int, *, negative: bool) -> None:
        size = _BINS if negative else self._counts.size
        dtype = np.int64 if (self.count + more) >> 32 else self._counts.dtype
        if size > self._counts.size or dtype != self._counts.dtype:
            counts = np.zeros(max(size, self._counts.size), dtype)
            counts[: self._counts.size] = self._counts
            self._counts = counts

    def _bins(self, index: np.ndarray, counts: np.ndarray) -> Bins:
        lower, upper = _edges()
        order = np.argsort(lower[index], kind="stable")
        index, counts = index[order], counts[order]
        low = np.clip(lower[index], self.min, self.max)
        high = np.clip(upper[index], self.min, self.max)
        return Bins(low, high, (low + high) / 2, counts)


# The bins of infinity and beyond, without and with the sign: no value of a sketch is in one.
_FIRST_INFINITE = 0x7F80


def _check_state(state: dict[str, Any]) -> None:
    """Raises ValueError for a state from a file that no samples can have led to."""
    low, high = (float(v) for v in state["extremes"])
    count = int(state["count"])
    kinds = ("minima", "maxima") if state["mode"] == "minmax" else ("", "minima", "maxima")
    totals = []
    for kind in kinds:
        bins, counts = (state[f"{kind}_{n}" if kind else n] for n in ("bins", "counts"))
        if bins.dtype.kind not in "iu" or counts.dtype.kind not in "iu":
            raise ValueError("a histogram is not of whole numbers")
        if bins.shape != counts.shape or bins.ndim != 1 or np.any(counts <= 0):
            raise ValueError("a histogram has bins without counts")
        if np.any(bins % _NEGATIVE_ZERO >= _FIRST_INFINITE) or np.unique(bins).size != bins.size:
            raise ValueError("a histogram has bins that do not exist")
        totals.append(sum(counts.tolist()))
    if kinds[0] == "" and totals.pop(0) != count:
        raise ValueError("a histogram does not hold as many values as were counted")
    if totals[0] != totals[1] or totals[0] > count or (count > 0) != (totals[0] > 0):
        raise ValueError("the numbers of values and of samples contradict each other")
    if count and not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"the extremes {low:g} and {high:g} are none")


def _extreme(flat: np.ndarray, reduce: Callable[[np.ndarray], Any], bound: float) -> float:
    if np.isfinite(bound) and flat.size > _PROBE and reduce(flat[:_PROBE]) == bound:
        return bound
    return float(reduce(flat))


_FLOAT32 = struct.Struct("<f")
_UINT32 = struct.Struct("<I")


def _bin_of(value: float) -> int:
    # A tenth of what a numpy scalar costs; there are two for every tensor and sample.
    return int(_UINT32.unpack(_FLOAT32.pack(value))[0]) >> 16


def _add(a: dict[int, int], b: dict[int, int]) -> dict[int, int]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in a.keys() | b.keys()}


def _as_arrays(counts: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    keys = sorted(counts)
    return np.array(keys, np.int64), np.array([counts[k] for k in keys], np.int64)


@functools.cache
def _edges() -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper edge of each of the 65,536 bins, float64."""
    with np.errstate(invalid="ignore"):
        toward_zero = (np.arange(_BINS, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
        following = (np.arange(_BINS, dtype=np.uint32) + 1) << 16
        away = following.astype(np.uint32).view(np.float32).astype(np.float64)
    negative = np.arange(_BINS) >= _NEGATIVE_ZERO
    away[_NEGATIVE_ZERO - 1] = np.nan
    away[-1] = np.nan
    lower = np.where(negative, away, toward_zero)
    upper = np.where(negative, toward_zero, away)
    for zero in (0, _NEGATIVE_ZERO):
        lower[zero] = upper[zero] = 0.0
    return lower, upper


class _Scratch(threading.local):
    """Per thread: an index buffer, and a one-row scipy CSR matrix for each histogram size.

    `np.bincount` casts its input to int64 and looks for its extremes first; writing a sparse row of
    ones out as a dense one does the same addition from int32 in half the time.
    """

    def __init__(self) -> None:
        from scipy.sparse import csr_array

        self.index = np.zeros(_CHUNK, np.int32)
        self.ones = np.ones(_CHUNK, np.int32)
        self.rows = {
            size: (csr_array((1, size), dtype=np.int32), np.zeros((1, size), np.int32))
            for size in (_NONNEGATIVE_BINS, _BINS)
        }


@functools.cache
def _scratch() -> _Scratch:
    return _Scratch()


def _tally(flat: np.ndarray, counts: np.ndarray, *, nonnegative: bool) -> None:
    """Adds the histogram of `flat` (float32, finite, [n]) to `counts` in place.

    Values of magnitude below 2^-133 share the bin of zero.
    """
    if flat.size <= _SMALL:
        np.add.at(counts, flat.view(np.uint32) >> 16, counts.dtype.type(1))
    else:
        scratch = _scratch()
        # -0 alone may have its sign bit set in a tensor without negative values.
        matrix, dense = scratch.rows[_NONNEGATIVE_BINS if nonnegative else _BINS]
        target = counts[: dense.size]
        bits = flat.view(np.uint32)
        for start in range(0, flat.size, _CHUNK):
            chunk = bits[start : start + _CHUNK]
            index = scratch.index[: chunk.size]
            np.right_shift(chunk, 16, out=index.view(np.uint32))
            matrix.indices, matrix.data = index, scratch.ones[: chunk.size]
            matrix.indptr[1] = chunk.size
            matrix.toarray(out=dense)
            np.add(target, dense[0].view(np.uint32), out=target)
    if counts[_NEGATIVE_ZERO]:
        counts[0] += counts[_NEGATIVE_ZERO]
        counts[_NEGATIVE_ZERO] = 0
