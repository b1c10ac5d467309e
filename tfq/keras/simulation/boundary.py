"""QUANTIZE and DEQUANTIZE: between real numbers and integers, and from one grid to another.

from float32    reference, built-in: x / scale, halves away from zero (AffineQuantize in
                lite/kernels/internal/reference/quantize.h)
                XNNPACK: x * (1 / scale), halves to even
from integers   reference, built-in: (x - z1) times the multiplier s1 / s, rounded twice
                (lite/kernels/internal/reference/requantize.h); the built-in kernel takes int8
                sixteen at a time, halves upward, and the rest of the tensor one by one
                XNNPACK: the factor s1 / s in 1/256ths, one rounding, halves upward (qs8-vcvt)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfq.graph.model import Op
from tfq.graph.numerics import LIMITS
from tfq.keras.simulation.grids import centred, scale, zero
from tfq.keras.simulation.rounding import (
    as_int64,
    saturate,
    shift_right,
    twice,
    twice_upward,
)


def quantize(op: Op, values: list[Any], kernels: str) -> list[Any]:
    x, out = op.input(0), op.outputs[0]
    low, high = LIMITS[out.dtype]
    if x.is_float:
        if kernels == "xnnpack":
            steps = tf.round(values[0] * (np.float32(1) / scale(out)))
        else:
            ratio = values[0] / scale(out)
            steps = tf.sign(ratio) * tf.floor(tf.abs(ratio) + np.float32(0.5))
        y = as_int64(tf.clip_by_value(steps, -(2.0**30), 2.0**30))
    elif kernels == "xnnpack":
        factor = int(np.rint(np.float32(256) * (scale(x) / scale(out))))
        y = shift_right(centred(values[0], x) * factor + 128, 8)
    else:
        y = _rescaled(op, centred(values[0], x), kernels)
    return [saturate(y + zero(out), low, high, out.dtype)]


def _rescaled(op: Op, x: Any, kernels: str) -> Any:
    source, out = op.input(0), op.outputs[0]
    real = np.float64(float(scale(source)) / float(scale(out)))
    if kernels == "reference" or source.dtype != "int8" or out.dtype != "int8":
        return twice(x, real)
    vector = np.arange(source.size) < source.size // 16 * 16
    return tf.where(vector.reshape(source.shape), twice_upward(x, real), twice(x, real))


def dequantize(op: Op, values: list[Any], kernels: str) -> list[Any]:
    x = op.input(0)
    return [tf.cast(centred(values[0], x), tf.float32) * scale(x)]
