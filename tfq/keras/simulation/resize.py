"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR.

Both come down to two rows (and columns) of the input and their weights for every one of the output.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfq.graph.model import Op
from tfq.keras.simulation.rounding import as_int64, shift_right

_Ends = tuple[np.ndarray, np.ndarray, np.ndarray]


def resize_nearest_neighbor(op: Op, values: list[Any], kernels: str) -> list[Any]:
    """The row that GetNearestNeighbor picks (lite/kernels/internal/reference/).

    floor((i + offset) * scale) in float32, or rounded where corners are aligned.
    """
    o, x = op.options, values[0]
    for axis, n_out in zip((1, 2), (int(n) for n in op.input(1).values()), strict=True):
        n = op.input(0).shape[axis]
        aligned = o.alignCorners and n_out > 1
        factor = np.float32((n - 1) / (n_out - 1) if aligned else n / n_out)
        offset = np.float32(0.5 if o.halfPixelCenters else 0.0)
        at = (np.arange(n_out, dtype=np.float32) + offset) * factor
        rows = np.floor(at + np.float32(0.5)) if o.alignCorners else np.floor(at)
        x = tf.gather(x, np.clip(rows, 0, n - 1).astype(np.int64), axis=axis)
    return [x]


def resize_bilinear(op: Op, values: list[Any], kernels: str) -> list[Any]:
    """Weights in 1/1024ths (reference, built-in) or 1/2048ths (XNNPACK).

    TFLite (ResizeBilinearInteger in lite/kernels/internal/reference/resize_bilinear.h) divides the
    sum by 2^20, halves away from zero; XNNPACK (s8-ibilinear) shifts by 22, halves upward.
    """
    sizes = [int(n) for n in op.input(1).values()]
    ends = _ends_xnnpack if kernels == "xnnpack" else _ends
    unit = 11 if kernels == "xnnpack" else 10
    x = as_int64(values[0])
    for axis, n_out in zip((2, 1), reversed(sizes), strict=True):
        low, high, weight = ends(op.input(0).shape[axis], n_out, op.options)
        shape = [1, -1, 1, 1] if axis == 1 else [1, 1, -1, 1]
        w = weight.reshape(shape)
        x = tf.gather(x, low, axis=axis) * ((1 << unit) - w) + tf.gather(x, high, axis=axis) * w
    half = 1 << (2 * unit - 1)
    if kernels == "xnnpack":
        y = shift_right(x + half, 2 * unit)
    else:
        y = tf.sign(x) * shift_right(tf.abs(x) + half, 2 * unit)
    return [tf.cast(y, op.outputs[0].dtype)]


def _ends(n: int, n_out: int, options: Any) -> _Ends:
    """ComputeInterpolationValuesInteger: positions in 1/1024ths of a row."""
    aligned = options.alignCorners and n_out > 1
    over, under = (n - 1, n_out - 1) if aligned else (n, n_out)
    step = ((over << 10) + under // 2) // under
    at = np.arange(n_out, dtype=np.int64) * step
    if options.halfPixelCenters:
        at = at + step // 2 - (1 << 9)
    # Divisions towards zero, as in C.
    low = np.maximum(np.trunc(at / 1024).astype(np.int64), 0)
    high = np.minimum(np.trunc((at + 1023) / 1024).astype(np.int64), n - 1)
    return low, high, at - (low << 10)


def _ends_xnnpack(n: int, n_out: int, options: Any) -> _Ends:
    """xnn_indirection_init_resize_bilinear2d_hwc_q11: positions in float32."""
    aligned = options.alignCorners and n_out > 1
    factor = np.float32(n - 1) / np.float32(n_out - 1) if aligned else np.float32(n / n_out)
    at = np.arange(n_out, dtype=np.float32) * factor
    if options.halfPixelCenters:
        at = at + (np.float32(0.5) * factor - np.float32(0.5))
    at = np.clip(at, np.float32(0), np.float32(n - 1))
    low = np.floor(at).astype(np.int64)
    weight = np.rint((at - low.astype(np.float32)) * np.float32(2048)).astype(np.int64)
    return low, np.minimum(low + 1, n - 1), weight
