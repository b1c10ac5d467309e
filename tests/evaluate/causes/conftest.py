"""Figures of a tensor from plain arrays, by the definitions in `tfq.evaluate.figures`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfq.evaluate.figures import Channels, Histogram, Reading, TensorFigures
from tfq.graph.numerics import LIMITS, Grid, activation_grid


def quantized(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Real values after rounding to a grid."""
    low, high = LIMITS[grid.dtype]
    q = np.clip(np.rint(values / grid.scale[0]) + grid.zero_point[0], low, high)
    return (q - grid.zero_point[0]) * grid.scale[0]


def reading(values: np.ndarray, got: np.ndarray, scale: float) -> Reading:
    error = (got - values) / scale
    noise = np.square(got - values).sum()
    return Reading(
        float(10 * np.log10(np.square(values).sum() / noise)) if noise else float("inf"),
        float(np.abs(error).mean()),
        float(np.abs(error).max()),
        float(abs(error.mean())),
        float(np.abs(error.mean(axis=0)).max()),
    )


def figures_of(
    values: np.ndarray,
    name: str = "t",
    *,
    ends: tuple[float, float] | None = None,
    dtype: str = "int8",
    grid: Grid | None = None,
    got: np.ndarray | None = None,
    accumulated: np.ndarray | None = None,
    op: str = "ADD",
    bins: int = 128,
    **more: Any,
) -> TensorFigures:
    """A tensor of shape [samples, channels].

    Args:
      values: of the float model.
      name: of the tensor.
      ends: of its grid; by default all values.
      dtype: of its grid.
      grid: the grid itself.
      got: values when only this tensor is quantized; by default what rounding gives.
      accumulated: values as the model runs; by default `got`.
      op: that computes it.
      bins: of the histogram.
      more: other attributes.
    """
    lo, hi = ends or (float(values.min()), float(values.max()))
    grid = grid or activation_grid(lo, hi, dtype)
    scale = grid.scale[0]
    got = quantized(values, grid) if got is None else got
    accumulated = got if accumulated is None else accumulated
    low, high = float(values.min()), float(values.max())
    if grid.range()[1] - grid.range()[0] <= 2 * (high - low):
        low, high = min(low, grid.range()[0]), max(high, grid.range()[1])
    size = np.abs(values).max(axis=0)
    live = size[size > 0]
    beyond = (values < grid.range()[0] - scale / 2) | (values > grid.range()[1] + scale / 2)
    return TensorFigures(
        **{
            "name": name,
            "layer": "",
            "op": op,
            "dtype": grid.dtype,
            "shape": (1, values.shape[1]),
            "scale": scale,
            "zero_point": grid.zero_point[0],
            "inputs": (),
            "isolated": reading(values, got, scale),
            "accumulated": reading(values, accumulated, scale),
            "saturation": float(beyond.mean()),
            "used": float((values.max() - values.min()) / (255 * scale)),
            "observed": (float(values.min()), float(values.max())),
            "grid": grid.range(),
            "percentile_range": tuple(float(v) for v in np.quantile(values, [5e-5, 1 - 5e-5])),
            "channels": Channels(
                values.shape[1],
                float(live.max() / np.median(live)),
                int((size == 0).sum()),
                int(((np.ptp(accumulated, axis=0) == 0) & (np.ptp(values, axis=0) > 0)).sum()),
            ),
            "histogram": Histogram(
                low,
                high,
                tuple(int(n) for n in np.histogram(values, bins, (low, high))[0]),
            ),
            **more,
        }
    )


@pytest.fixture(name="figures_of")
def _figures_of() -> Any:
    return figures_of
