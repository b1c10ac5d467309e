"""SOFTMAX of the reference and the built-in kernels; XNNPACK leaves integers to the latter.

built-in, int8    tables of float32 (lite/kernels/internal/optimized/optimized_ops.h, x86):
                  t[d] = expf(-scale beta d), y = rint(t[max - x] * (1 / (sum t * scale_out)))
                  - 128.
                  ARM processors have another table (of 16 bits): there it may differ by one step.
reference, int8   gemmlowp fixed point (lite/kernels/internal/reference/softmax.h): exp in Q0.31 of
                  the difference in Q5.26, the sum in Q12.19, one Newton reciprocal a row.
int16             both: exp and 1 / (1 + x) interpolated in tables of 513 entries (SoftmaxInt16).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfq.graph.model import Op
from tfq.graph.numerics import LIMITS
from tfq.keras.simulation.grids import scale, zero
from tfq.keras.simulation.rounding import (
    as_int64,
    divide_by_power,
    doubling_high_multiply,
    fixed_multiplier,
    saturate,
    scaled_twice,
    shift_right,
)


def softmax(op: Op, values: list[Any], kernels: str) -> list[Any]:
    if op.input(0).dtype == "int16":
        return [_int16(op, values[0])]
    return [_fixed_point(op, values[0]) if kernels == "reference" else _float_table(op, values[0])]


def _differences(x: Any) -> Any:
    """max - x along the last dimension, never negative."""
    wide = as_int64(x)
    return tf.reduce_max(wide, -1, keepdims=True) - wide


def _sum_in_order(x: Any) -> Any:
    """float32 sums along the last dimension, one term after the other as a loop adds them."""
    terms = tf.transpose(x, [len(x.shape) - 1, *range(len(x.shape) - 1)])
    return tf.foldl(lambda a, b: a + b, terms, initializer=tf.zeros_like(terms[0]))[..., None]


def _float_table(op: Op, x: Any) -> Any:
    step = -scale(op.input(0)) * np.float32(op.options.beta)
    exponents = (np.arange(256, dtype=np.float32) * step).astype(np.float64)
    table = np.exp(exponents).astype(np.float32)
    terms = tf.gather(tf.constant(table), _differences(x))
    inverse = tf.constant(1.0, tf.float32) / (_sum_in_order(terms) * scale(op.outputs[0]))
    y = as_int64(tf.round(terms * inverse)) + zero(op.outputs[0])
    return saturate(y, *LIMITS[op.outputs[0].dtype], op.outputs[0].dtype)


def _high(a: int, b: int) -> int:
    return (a * b + (1 << 30)) >> 31


def _near(a: int, bits: int) -> int:
    """a / 2^bits to nearest, halves away from zero."""
    size = (abs(a) + (1 << bits >> 1)) >> bits
    return size if a >= 0 else -size


_LIMIT = 2**31 - 1


def _exp_between_negative_quarter_and_zero(a: int) -> int:
    """exp of a in (-1/4, 0], Q0.31: a Taylor polynomial of degree 4 about -1/8 (gemmlowp)."""
    x = a + (1 << 28)
    x2 = _high(x, x)
    x3, x4 = _high(x2, x), _high(x2, x2)
    inner = _near(_high(_near(x4, 2) + x3, 715827883) + x2, 1)
    return 1895147668 + _high(1895147668, x + inner)


def exp_on_negative_values(a: int) -> int:
    """exp of a <= 0 in Q5.26 as Q0.31 (gemmlowp/fixedpoint/fixedpoint.h).

    The part below 1/4 by the polynomial, then one factor exp(-2^k) for each bit above.
    """
    if a == 0:
        return _LIMIT
    quarter = 1 << 24
    part = (a & (quarter - 1)) - quarter
    rest = part - a
    result = _exp_between_negative_quarter_and_zero(part << 5)
    for exponent in range(-2, 5):
        if rest & (1 << (26 + exponent)):
            result = _high(result, math.floor(math.exp(-(2.0**exponent)) * 2.0**31 + 0.5))
    return result


def _fixed_point(op: Op, x: Any) -> Any:
    # PreprocessSoftmaxScaling and CalculateInputRadius: the input in Q5.26.
    real = float(op.options.beta) * float(scale(op.input(0))) * (1 << 26)
    m, e = fixed_multiplier(min(real, float(_LIMIT)))
    lowest = -math.floor(31.0 * (1 << 26) / float(1 << e))
    table = np.zeros(256, np.int64)
    for d in range(min(256, -lowest + 1)):
        table[d] = exp_on_negative_values(_high(-d * (1 << e), m))
    terms = tf.gather(tf.constant(table), _differences(x))
    sums = tf.reduce_sum(divide_by_power(terms, 12), -1, keepdims=True)
    above_unit, reciprocal = _reciprocal(sums)
    product = doubling_high_multiply(reciprocal, terms)
    bits = above_unit + 31 - 8
    half = tf.bitwise.left_shift(tf.ones_like(bits), bits - 1)
    y = tf.bitwise.right_shift(product + half, bits + tf.zeros_like(product)) - 128
    return saturate(tf.where(terms > 0, y, -128), -128, 127, op.outputs[0].dtype)


def _leading_zeros(x: Any) -> Any:
    """Of positive 32-bit integers."""
    bits = tf.math.log(tf.cast(x, tf.float64)) / math.log(2.0)
    guess = as_int64(tf.floor(bits))
    one = tf.ones_like(guess)
    guess = tf.where(tf.bitwise.left_shift(one, guess) > x, guess - 1, guess)
    guess = tf.where(tf.bitwise.left_shift(one, guess + 1) <= x, guess + 1, guess)
    return 31 - guess


def _reciprocal(sums: Any) -> tuple[Any, Any]:
    """GetReciprocal of lite/kernels/internal/common.h: (bits above the unit, 1 / sum in Q0.31)."""
    headroom = _leading_zeros(sums)
    shifted = tf.bitwise.left_shift(sums, headroom) - (1 << 31)
    # one_over_one_plus_x_for_x_in_0_1: Newton's iteration for 2 / (1 + x) in Q2.29.
    half_denominator = shift_right(shifted + _LIMIT + 1, 1)
    x = 1515870810 + doubling_high_multiply(half_denominator, -1010580540)
    for _ in range(3):
        product = doubling_high_multiply(half_denominator, x)
        x = x + tf.clip_by_value(
            doubling_high_multiply(x, (1 << 29) - product) * 4, -(2**31), _LIMIT
        )
    return 12 - headroom, tf.clip_by_value(x * 2, -(2**31), _LIMIT)


def _to_nearest(v: float) -> float:
    """Halves away from zero."""
    return math.copysign(math.floor(abs(v) + 0.5), v)


def _lut(function: Callable[[float], float], low: float, high: float) -> np.ndarray:
    """513 points of a function onto [-1, 1), for interpolation (gen_lut in internal/common.h).

    Each is shifted by half of what linear interpolation errs by in the middle of its interval.
    """
    step = (high - low) / 512
    table = []
    for i in range(512):
        here, after = function(low + i * step) * 32768, function(low + (i + 1) * step) * 32768
        middle = _to_nearest(function(low + i * step + step / 2) * 32768)
        interpolated = _to_nearest((after + _to_nearest(here)) / 2)
        table.append(_to_nearest(here) - _to_nearest((interpolated - middle) / 2))
    table.append(_to_nearest(function(high) * 32768))
    return np.clip(np.array(table), -32768, 32767).astype(np.int64)


def _look_up(table: np.ndarray, v: Any) -> Any:
    """Linear interpolation with 7 fractional bits (lut_lookup of int16)."""
    at = shift_right(v, 7) + 256
    base, after = tf.gather(table, at), tf.gather(table, at + 1)
    return base + shift_right((after - base) * tf.bitwise.bitwise_and(v, as_int64(0x7F)) + 64, 7)


def _int16(op: Op, x: Any) -> Any:
    real = float(scale(op.input(0))) * float(op.options.beta) / (10.0 / 65535.0)
    scaled = scaled_twice(-_differences(x), *fixed_multiplier(real))
    exps = _look_up(_lut(math.exp, -10.0, 0.0), tf.clip_by_value(scaled + 32767, -32768, 32767))
    sums = tf.reduce_sum(exps, -1, keepdims=True)
    zeros = _leading_zeros(sums)
    shifted = shift_right(tf.bitwise.left_shift(sums, zeros - 1) + (1 << 13), 14)
    at = tf.clip_by_value(shifted - ((1 << 15) + (1 << 16)), -32768, 32767)
    reciprocal = _look_up(_lut(lambda v: 1.0 / (1.0 + v), 0.0, 1.0), at)
    bits = 31 - zeros
    half = tf.bitwise.left_shift(tf.ones_like(bits), bits - 1)
    y = tf.bitwise.right_shift(exps * reciprocal + half, bits + tf.zeros_like(exps))
    return saturate(y, 0, 32767, "int16")
