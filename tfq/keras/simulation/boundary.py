"""QUANTIZE and DEQUANTIZE: between real numbers and integers, and from one grid to another.

from float32    reference  x / scale, halves away from zero (AffineQuantize in
                           lite/kernels/internal/reference/quantize.h)
                built-in   x * (1 / scale), halves to even; what fills no vector of eight at
                           the tensor's end: x / scale in float64
                XNNPACK    x * (1 / scale), halves to even (qs8-f32-vcvt)
from integers   reference  (x - z1) times the multiplier s1 / s, rounded twice
                           (lite/kernels/internal/reference/requantize.h)
                built-in   the same, upward in vectors of sixteen of 8-bit types
                XNNPACK    the factor s1 / s in 1/256ths, rounded once, upward (qs8-vcvt)
to float32      reference  (x - z) * scale, as XNNPACK
                built-in   x * scale - z * scale in vectors of eight, each product rounded
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfq.graph.model import Op, Tensor
from tfq.graph.numerics import LIMITS
from tfq.keras.simulation.grids import centred, scale, zero
from tfq.keras.simulation.rounding import as_int64, saturate, shift_right, twice, twice_upward

_BYTES = ("int8", "uint8")


def in_vectors(tensor: Tensor, lanes: int) -> np.ndarray:
    """Which elements a kernel does that takes `lanes` at once, bool, of the tensor's shape."""
    return (np.arange(tensor.size) < tensor.size // lanes * lanes).reshape(tensor.shape)


def quantize(op: Op, values: list[Any], kernels: str) -> list[Any]:
    x, out = op.input(0), op.outputs[0]
    y = _steps(op, values[0], kernels) if x.is_float else _rescaled(op, values[0], kernels)
    return [saturate(y + zero(out), *LIMITS[out.dtype], out.dtype)]


def _steps(op: Op, x: Any, kernels: str) -> Any:
    s = scale(op.outputs[0])
    if kernels == "reference":
        return _bounded(_away(x / s))
    vector = _bounded(tf.round(x * (np.float32(1) / s)))
    if kernels == "xnnpack":
        return vector
    one_by_one = _bounded(_away(tf.cast(x, tf.float64) / np.float64(s)))
    return tf.where(in_vectors(op.input(0), 8), vector, one_by_one)


def _away(x: Any) -> Any:
    """To nearest, halves away from zero."""
    return tf.sign(x) * tf.floor(tf.abs(x) + tf.constant(0.5, x.dtype))


def _bounded(steps: Any) -> Any:
    return as_int64(tf.clip_by_value(steps, -(2.0**30), 2.0**30))


def _rescaled(op: Op, value: Any, kernels: str) -> Any:
    source, out = op.input(0), op.outputs[0]
    x = centred(value, source)
    if kernels == "xnnpack":
        factor = int(np.rint(np.float32(256) * (scale(source) / scale(out))))
        return shift_right(x * factor + 128, 8)
    real = np.float64(float(scale(source)) / float(scale(out)))
    if kernels == "reference" or source.dtype not in _BYTES or out.dtype not in _BYTES:
        return twice(x, real)
    return tf.where(in_vectors(source, 16), twice_upward(x, real), twice(x, real))


def dequantize(op: Op, values: list[Any], kernels: str) -> list[Any]:
    x = op.input(0)
    s, z = scale(x), zero(x)
    y = tf.cast(centred(values[0], x), tf.float32) * s
    if kernels != "builtin":
        return [y]
    vector = tf.cast(values[0], tf.float32) * s + np.float32(-z) * s
    return [tf.where(in_vectors(x, 8), vector, y)]
