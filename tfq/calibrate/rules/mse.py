"""The range of least squared error on the grid it makes, searched coarse to fine.

The error of (lo, hi) is  sum over bins of  count * mean over the bin of (x - Q(x))^2,  with Q
rounding to the nearest level and clipping, on the grid nudged so that zero is a level. Values are
taken as even within their bin, and the mean over a bin is exact: with u = x / scale,

    integral of (u - round u)^2 du = G(u) = round(u) / 12 + (u - round u)^3 / 3.

The middle of a bin would not do: near the largest values a bin is wider than a step of 8 bits.
Costs about 10 ms a tensor; two-sided tensors on asymmetric grids about ten times that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from tfq.calibrate.rules.base import RangeRule
from tfq.observe.sketch import Bins, Sketch

_SMALLEST = 0.02  # Fraction of the observed extreme below which the search does not go.


@dataclasses.dataclass(frozen=True)
class MSE(RangeRule):
    """The range of least mean squared error (see the module).

    Fails where rare, large values matter more than their number: they are clipped.
    """

    name: ClassVar[str] = "mse"

    def choose(self, sketch: Sketch, bits: int, symmetric: bool) -> tuple[float, float]:
        low, high = min(sketch.min, 0.0), max(sketch.max, 0.0)
        if low == high:
            return low, high
        bins = _coarsen(sketch.bins(), max(-low, high) / 2 ** (bits + 2))
        if symmetric:
            m = max(-low, high)
            (best,) = _search(lambda f: squared_error(bins, -m * f[0], m * f[0], bits, True), 1)
            return -m * best, m * best
        if low == 0.0:
            (best,) = _search(lambda f: squared_error(bins, 0.0, high * f[0], bits, False), 1)
            return 0.0, high * best
        if high == 0.0:
            (best,) = _search(lambda f: squared_error(bins, low * f[0], 0.0, bits, False), 1)
            return low * best, 0.0
        a, b = _search(lambda f: squared_error(bins, low * f[0], high * f[1], bits, False), 2)
        return low * a, high * b


def squared_error(bins: Bins, lo: float, hi: float, bits: int, symmetric: bool) -> float:
    """The sum of squared errors on the grid of (lo, hi), lo <= 0 <= hi and lo < hi."""
    if symmetric:
        top = 2 ** (bits - 1) - 1
        scale, bottom = hi / top, -top
    else:
        steps = 2**bits - 1
        scale = (hi - lo) / steps
        bottom = round(lo / scale)
        top = bottom + steps
    width = bins.upper - bins.lower
    wide = width > 0
    a, b = bins.lower[wide] / scale, bins.upper[wide] / scale
    mean = (_integral(b, bottom, top) - _integral(a, bottom, top)) / (b - a)
    point = bins.centers[~wide] / scale
    rounded = np.clip(np.round(point), bottom, top)
    error = float(np.dot(mean, bins.counts[wide]))
    error += float(np.dot((point - rounded) ** 2, bins.counts[~wide]))
    return error * scale**2


def _integral(u: np.ndarray, bottom: int, top: int) -> np.ndarray:
    """From 0 to u, the integral of the squared distance to the nearest integer in the grid."""
    nearest = np.clip(np.round(u), bottom, top)
    return nearest / 12 + (u - nearest) ** 3 / 3


def _search(error: Callable[[tuple[float, ...]], float], dimensions: int) -> tuple[float, ...]:
    """Fractions in (0, 1], one for each dimension, of least `error`; the whole range if equal."""
    count, reach = (33, 8) if dimensions == 1 else (11, 2)
    axis = np.linspace(1.0, _SMALLEST, count)
    step = axis[0] - axis[1]
    best = min(_grid([axis] * dimensions), key=error)
    for _ in range(3):
        step /= reach if dimensions == 1 else reach + 1
        offsets = step * np.arange(-reach, reach + 1)
        axes = [np.clip(center + offsets, _SMALLEST, 1.0) for center in best]
        best = min([best, *_grid(axes)], key=error)
    return best


def _grid(axes: list[np.ndarray]) -> list[tuple[float, ...]]:
    mesh = np.meshgrid(*axes, indexing="ij")
    return [tuple(float(v) for v in point) for point in np.stack(mesh, -1).reshape(-1, len(axes))]


def _coarsen(bins: Bins, fine: float) -> Bins:
    """Merges bins of magnitude below `fine`, sixteen to one, where they are far below a step."""
    exponent = np.floor(np.log2(np.maximum(np.abs(bins.centers), 1e-45)) * 8)
    small = (np.abs(bins.centers) < fine) & (bins.centers != 0)
    key = np.where(small, np.sign(bins.centers) * (exponent + 1e4), np.inf)
    new = np.ones(key.size, bool)
    new[1:] = (key[1:] != key[:-1]) | ~small[1:]
    start = np.flatnonzero(new)
    end = np.append(start[1:], key.size) - 1
    lower, upper = bins.lower[start], bins.upper[end]
    return Bins(lower, upper, (lower + upper) / 2, np.add.reduceat(bins.counts, start))
