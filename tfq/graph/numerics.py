"""Grids and the arithmetic on them: the only place where a real number becomes an integer.

A grid is affine, real = (q - zero_point) * scale, as the LiteRT 8-bit specification defines it.
Scales are kept as the exact float32 that the file will hold, so that a plan survives JSON and the
emitted integers can be recomputed bit for bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tfq.graph.model import Quant

LIMITS: dict[str, tuple[int, int]] = {
    "int2": (-2, 1),
    "int4": (-8, 7),
    "int8": (-128, 127),
    "uint4": (0, 15),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}

# Between these scales the kernels' arithmetic holds, in products of two scales too: XNNPACK refuses
# or aborts over numbers below 2^-126, ADD over a scale of which 2^20 times is no float any more.
MIN_SCALE = 1e-18
MAX_SCALE = 1e30

# Constants and values beyond stand for infinity: no range is made to hold them.
INFINITE = 1e29

# The smallest scale that training chooses.
MIN_TRAINED_SCALE = 1e-9


@dataclasses.dataclass(frozen=True)
class Grid:
    """What integers of `dtype` stand for.

    Attributes:
      dtype: "int8", "int16", "uint8", "int4", "int2", "int32", "int64"; or "float32"/"float16",
        which have no scale.
      scale: one value, or one per channel along `axis`; each exactly a float32.
      zero_point: as many as scales.
      axis: the quantized dimension, or None per tensor.
      bits: how many of the type's bits the integers use, where that is fewer than all: 4-bit
        weights of an op whose kernel reads int8 only.
    """

    dtype: str
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    axis: int | None = None
    bits: int | None = None

    @property
    def is_integer(self) -> bool:
        return not self.dtype.startswith("float")

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and highest integer."""
        return LIMITS[self.dtype if self.bits is None else f"int{self.bits}"]

    def quant(self) -> Quant | None:
        """The same as the file's quantization parameters."""
        if not self.scale:
            return None
        return Quant(
            np.array(self.scale, np.float32), np.array(self.zero_point, np.int64), self.axis or 0
        )

    @staticmethod
    def of(dtype: str, quant: Quant) -> Grid:
        return Grid(
            dtype,
            tuple(float(s) for s in quant.scale),
            tuple(int(z) for z in quant.zero_point),
            quant.axis if quant.per_axis else None,
        )

    def range(self) -> tuple[float, float]:
        """The lowest and highest real value of a per-tensor grid."""
        lo, hi = self.limits
        z, s = self.zero_point[0], self.scale[0]
        return (lo - z) * s, (hi - z) * s


FLOAT = Grid("float32")


def _float32(value: float) -> float:
    return float(np.float32(value))


def _within(scale: float) -> float:
    return _float32(min(max(scale, MIN_SCALE), MAX_SCALE))


def asymmetric_grid(lo: float, hi: float, dtype: str = "int8") -> Grid:
    """The grid over [lo, hi], widened to contain 0, whose zero point is the nearest integer.

    The scale is (hi - lo) / (2^b - 1); the zero point is rounded from the side that errs least.
    """
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    q_min, q_max = LIMITS[dtype]
    scale = _within((hi - lo) / (q_max - q_min))
    zero = int(np.clip(np.rint(q_min - lo / scale), q_min, q_max))
    return Grid(dtype, (scale,), (zero,))


def symmetric_grid(bound: float, dtype: str) -> Grid:
    """The grid over [-bound, bound] with zero point 0 (int16 activations, int8 weights)."""
    scale = _within(abs(bound) / LIMITS[dtype][1])
    return Grid(dtype, (scale,), (0,))


def activation_grid(lo: float, hi: float, dtype: str) -> Grid:
    """The grid the runtime expects of activations: int8 and uint8 asymmetric, int16 symmetric."""
    if dtype in ("int8", "uint8"):
        return asymmetric_grid(lo, hi, dtype)
    return symmetric_grid(max(abs(lo), abs(hi)), dtype)


def weight_grid(scales: np.ndarray, dtype: str, axis: int | None, bits: int | None = None) -> Grid:
    """A symmetric weight grid from float32 scales (one, or one per channel along `axis`).

    `bits`: how many of the type's bits are used; None for all.
    """
    flat = np.asarray(scales, np.float32).reshape(-1)
    return Grid(
        dtype,
        tuple(float(s) for s in flat),
        (0,) * flat.size,
        axis if flat.size > 1 else None,
        None if bits is None or LIMITS[f"int{bits}"] == LIMITS[dtype] else bits,
    )


def _along_axis(
    values: tuple[float, ...] | tuple[int, ...], axis: int | None, ndim: int
) -> np.ndarray | np.float64:
    array = np.asarray(values, np.float64)
    if axis is None or array.size == 1:
        return np.float64(array.reshape(-1)[0])
    shape = [1] * ndim
    shape[axis] = array.size
    return array.reshape(shape)


# A value this close to a step, in steps, is on it: thresholds are not exact to the last bit.
_ON_GRID = 1e-4

_ROUNDING: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nearest": np.rint,
    "down": lambda q: np.floor(q + _ON_GRID),
    "up": lambda q: np.ceil(q - _ON_GRID),
}


def storage_type(dtype: str) -> str:
    """The numpy type that holds integers of `dtype`: whole bytes for the narrow ones."""
    return {"int4": "int8", "int2": "int8", "uint4": "uint8"}.get(dtype, dtype)


def quantize(
    values: np.ndarray, grid: Grid, *, narrow: bool = False, rounding: str = "nearest"
) -> np.ndarray:
    """Rounds real values to the grid (half to even, saturating).

    Args:
      values: any shape, real.
      grid: where to; an integer dtype.
      narrow: leave out the lowest integer (weights: [-127, 127]; in 2 bits -1, 0 and 1).
      rounding: "nearest", or "down" or "up" for thresholds.

    Returns:
      Integers of the grid's dtype (int4 and int2 as int8), the shape of `values`.
    """
    q_min, q_max = grid.limits
    storage = storage_type(grid.dtype)
    # The largest int64 is no float64: rounded up it would wrap around.
    top = min(float(q_max), float(np.nextafter(2.0**63, 0.0)))
    bottom = q_min + int(narrow)
    whole = np.asarray(values)
    if len(grid.scale) == 1 and whole.size > _CHUNK and rounding == "nearest":
        return _quantize_chunks(whole, grid, bottom, top, storage)
    scale = _along_axis(grid.scale, grid.axis, whole.ndim)
    zero = _along_axis(grid.zero_point, grid.axis, whole.ndim)
    q = _ROUNDING[rounding](np.asarray(whole, np.float64) / scale) + zero
    return np.clip(q, bottom, top).astype(storage)


_CHUNK = 1 << 15  # Values worked on at a time: their float64 copies stay in the cache.


def _quantize_chunks(
    values: np.ndarray, grid: Grid, bottom: float, top: float, storage: str
) -> np.ndarray:
    """`quantize` on one scale, the same to the bit, several times faster on large arrays."""
    flat = np.ascontiguousarray(values).reshape(-1)
    result = np.empty(flat.size, storage)
    scratch = np.empty(_CHUNK, np.float64)
    scale, zero = grid.scale[0], grid.zero_point[0]
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        q = scratch[: part.size]
        np.divide(part, scale, out=q, dtype=np.float64)
        np.rint(q, out=q)
        q += zero
        np.clip(q, bottom, top, out=q)
        result[start : start + _CHUNK] = q
    return result.reshape(values.shape)


def dequantize(q: np.ndarray, grid: Grid) -> np.ndarray:
    """The real values of integers on a grid, float32, the shape of `q`."""
    scale = _along_axis(grid.scale, grid.axis, q.ndim)
    zero = _along_axis(grid.zero_point, grid.axis, q.ndim)
    return ((q.astype(np.float64) - zero) * scale).astype(np.float32)
