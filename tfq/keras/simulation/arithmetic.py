"""ADD, SUB, MUL, SQUARED_DIFFERENCE, PRELU, MEAN, SUM and AVERAGE_POOL_2D.

The formulas stand with the functions; s1, s2, s are the scales of the inputs and the output, x1, x2
the integers without their zero points, and "*" the multiplication of `rounding`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfq.graph.model import Op
from tfq.graph.numerics import LIMITS
from tfq.keras.simulation.grids import centred, finish, scale, zero
from tfq.keras.simulation.rounding import (
    as_int64,
    fixed_multiplier,
    in_float32,
    saturate,
    scaled_twice,
    shift_right,
    twice,
)
from tfq.keras.simulation.windows import Window, patches


def _plain_integers(op: Op) -> bool:
    return op.outputs[0].dtype in ("int32", "int64")


def _pair(op: Op, values: list[Any]) -> tuple[Any, Any]:
    return centred(values[0], op.input(0)), centred(values[1], op.input(1))


def add(op: Op, values: list[Any], kernels: str) -> list[Any]:
    return _sum_of_two(op, values, kernels, 1)


def sub(op: Op, values: list[Any], kernels: str) -> list[Any]:
    return _sum_of_two(op, values, kernels, -1)


def _sum_of_two(op: Op, values: list[Any], kernels: str, sign: int) -> list[Any]:
    """x1 s1/s + x2 s2/s over a common finer grid.

    TFLite (lite/kernels/add.cc): twice = 2 max(s1, s2), shift 20 (15 for int16); each input is
    (x << shift) * (s_i / twice), their sum * (twice / (2^shift s)).
    XNNPACK (xnn_init_qs8_add_minmax_params): both factors s_i / s as integers of 21 bits over one
    power of two, the sum rounded once, halves upward.
    """
    if _plain_integers(op):
        total = as_int64(values[0]) + sign * as_int64(values[1])
        return [saturate(total, *LIMITS[op.outputs[0].dtype], op.outputs[0].dtype)]
    x1, x2 = _pair(op, values)
    s1, s2, s = scale(op.input(0)), scale(op.input(1)), scale(op.outputs[0])
    if kernels == "xnnpack":
        r1, r2 = s1 / s, s2 / s
        shift = 20 - (math.frexp(float(max(r1, r2)))[1] - 1)
        m1, m2 = (int(np.rint(np.float64(r) * 2.0**shift)) for r in (r1, r2))
        total = shift_right(x1 * m1 + x2 * (sign * m2) + (1 << (shift - 1)), shift)
        return [finish(op, total, kernels)]
    left = 15 if op.outputs[0].dtype == "int16" else 20
    top = 2.0 * float(max(s1, s2))
    parts = [
        scaled_twice(x * (1 << left), *fixed_multiplier(float(r) / top))
        for x, r in ((x1, s1), (x2, s2))
    ]
    total = parts[0] + sign * parts[1]
    y = scaled_twice(total, *fixed_multiplier(top / ((1 << left) * float(s))))
    return [finish(op, y, kernels)]


def mul(op: Op, values: list[Any], kernels: str) -> list[Any]:
    """x1 x2 * (s1 s2 / s); the factor is computed in float32 (lite/kernels/mul.cc)."""
    if _plain_integers(op):
        total = as_int64(values[0]) * as_int64(values[1])
        return [saturate(total, *LIMITS[op.outputs[0].dtype], op.outputs[0].dtype)]
    x1, x2 = _pair(op, values)
    real = scale(op.input(0)) * scale(op.input(1)) / scale(op.outputs[0])
    by = in_float32 if kernels == "xnnpack" else twice
    return [finish(op, by(x1 * x2, real), kernels)]


def squared_difference(op: Op, values: list[Any], kernels: str) -> list[Any]:
    """(x1 s1 - x2 s2)^2 / s with 7 more bits (lite/kernels/squared_difference.cc)."""
    x1, x2 = _pair(op, values)
    s1, s2 = float(scale(op.input(0))), float(scale(op.input(1)))
    left = 7 if op.outputs[0].dtype == "int8" else 0
    top = 2.0 * max(s1, s2)
    parts = [
        scaled_twice(x * (1 << left), *fixed_multiplier(s / top)) for x, s in ((x1, s1), (x2, s2))
    ]
    difference = parts[0] - parts[1]
    real = top * top / ((1 << (2 * left)) * float(scale(op.outputs[0])))
    y = scaled_twice(difference * difference, *fixed_multiplier(real))
    return [finish(op, y, kernels)]


def prelu(op: Op, values: list[Any], kernels: str) -> list[Any]:
    """x * (s1 / s) where x >= 0, else x alpha * (s1 s2 / s) (lite/kernels/activations.cc)."""
    x, alpha = _pair(op, values)
    s1, s2, s = (float(scale(t)) for t in (op.input(0), op.input(1), op.outputs[0]))
    above = twice(x, np.float64(s1 / s))
    below = twice(x * alpha, np.float64(s1 * s2 / s))
    return [finish(op, tf.where(x >= 0, above, below), kernels)]


def _axes(op: Op) -> list[int]:
    rank = len(op.input(0).shape)
    return sorted({int(a) % rank for a in op.input(1).values().reshape(-1)})


def mean(op: Op, values: list[Any], kernels: str) -> list[Any]:
    """sum x * (s1 / s / n), n the number of terms.

    TFLite (QuantizedMeanOrSum in lite/kernels/reduce.cc) divides the integer multiplier by n, after
    giving it as many more bits as n has.
    """
    axes = _axes(op)
    n = math.prod(op.input(0).shape[a] for a in axes)
    x = as_int64(values[0])
    total = tf.reduce_sum(x, axes, keepdims=op.options.keepDims) - n * zero(op.input(0))
    s1, s = scale(op.input(0)), scale(op.outputs[0])
    if kernels == "xnnpack":
        y = in_float32(total, np.float32(s1 / s) / np.float32(n))
        return [finish(op, y, kernels)]
    whole_planes = len(op.input(0).shape) == 4 and axes == [1, 2] and op.options.keepDims
    if kernels == "builtin" and whole_planes and op.input(0).dtype == "int8":
        # optimized_integer_ops::Mean: the zero point's share is cut off to an integer beforehand.
        z1 = zero(op.input(0))
        share = int(np.float32(z1) * s1 / s)
        y = twice(total + n * z1, np.float64(s1 / (np.float32(n) * s)))
        return [finish(op, y - share, kernels)]
    m, e = fixed_multiplier(float(s1) / float(s))
    shift = min(n.bit_length() - 1, 32, 31 + e)
    return [finish(op, scaled_twice(total, (m << shift) // n, e - shift), kernels)]


def sum_(op: Op, values: list[Any], kernels: str) -> list[Any]:
    """sum x * (s1 / s) in floating point, to nearest (ReduceSum in lite/kernels/reduce.cc)."""
    axes = _axes(op)
    n = math.prod(op.input(0).shape[a] for a in axes)
    x = as_int64(values[0])
    total = tf.reduce_sum(x, axes, keepdims=op.options.keepDims) - n * zero(op.input(0))
    s1, s = scale(op.input(0)), scale(op.outputs[0])
    if kernels == "xnnpack":
        return [finish(op, in_float32(total, s1 / s), kernels)]
    y = tf.cast(total, tf.float64) * (float(s1) / float(s))
    return [finish(op, as_int64(tf.sign(y) * tf.floor(tf.abs(y) + 0.5)), kernels)]


def average_pool_2d(op: Op, values: list[Any], kernels: str) -> list[Any]:
    """sum / count, halves away from zero, of the raw integers; padding does not count.

    Source: AveragePool in lite/kernels/internal/reference/integer_ops/pooling.h.
    """
    size = (op.options.filterHeight, op.options.filterWidth)
    window = Window.of(size, op.options)
    x = as_int64(values[0])
    total = tf.reduce_sum(patches(x, window), 3)
    count = tf.reduce_sum(patches(tf.ones([1, *x.shape[1:3], 1], tf.int64), window), 3)
    half = count // 2
    y = tf.where(
        total > 0, tf.math.floordiv(total + half, count), -tf.math.floordiv(half - total, count)
    )
    return [finish(op, y - zero(op.outputs[0]), kernels)]


def max_pool_2d(op: Op, values: list[Any], kernels: str) -> list[Any]:
    size = (op.options.filterHeight, op.options.filterWidth)
    parts = patches(as_int64(values[0]), Window.of(size, op.options), -(2**31))
    return [finish(op, tf.reduce_max(parts, 3) - zero(op.outputs[0]), kernels)]
