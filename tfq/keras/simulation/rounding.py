"""How LiteRT's kernels multiply an integer accumulator by a real number, and round.

A kernel holds the real multiplier M (input scale times weight scale, over output scale) as
M = m * 2^(e - 31), m a 31-bit integer (`fixed_multiplier`), and rounds acc * M in one of five ways:

    twice            high = (acc * m + 2^30) >> 31, then high / 2^-e to nearest, halves away from 0.
                     gemmlowp's SaturatingRoundingDoublingHighMul and RoundingDivideByPOT
                     (gemmlowp/fixedpoint/fixedpoint.h): the reference kernels, scalar code.
    twice_upward     the same with the second halves upward, as the vector instructions of the
                     built-in kernels (vqrdmulh, vrshl) have it.
    once             (acc * m + 2^(30 - e)) >> (31 - e): one rounding, halves upward
                     (TFLITE_SINGLE_ROUNDING in lite/kernels/internal/common.h).
    once_reduced     the same with m cut down to 16 bits: int64 accumulators, as int16 activations
                     have (the int64 overload of MultiplyByQuantizedMultiplier, ibid.).
    in_float32       float32(acc) * float32(M), to nearest, halves to even: XNNPACK's "fp32"
                     requantization (XNNPACK/src/qs8-requantization, requantize_fp32).

All of them take int64 tensors and are exact; which kernel uses which was found by running it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

# (an int64 tensor, a real multiplier or one per channel) -> int64
Multiply = Callable[[Any, Any], Any]


def fixed_multiplier(real: float) -> tuple[int, int]:
    """`real` as (m, e): m * 2^(e - 31) with m in [2^30, 2^31), as QuantizeMultiplier rounds it.

    Source: lite/kernels/internal/quantization_util.cc. Multipliers below 2^-32 become zero.
    """
    if real == 0.0:
        return 0, 0
    mantissa, exponent = math.frexp(real)
    # TfLiteRound: halves away from zero; a multiplier is never negative here.
    fixed = math.floor(mantissa * 2**31 + 0.5)
    if fixed == 2**31:
        fixed, exponent = fixed // 2, exponent + 1
    return (0, 0) if exponent < -31 else (fixed, exponent)


def fixed_multipliers(real: Any) -> tuple[np.ndarray, np.ndarray]:
    """`fixed_multiplier` of each value; two int64 arrays of the same shape."""
    values = np.asarray(real, np.float64)
    pairs = [fixed_multiplier(float(v)) for v in values.reshape(-1)]
    m, e = np.array(pairs, np.int64).reshape(-1, 2).T
    return m.reshape(values.shape), e.reshape(values.shape)


def as_int64(x: Any) -> Any:
    return tf.cast(x, tf.int64)


def shift_right(x: Any, bits: Any) -> Any:
    """x >> bits, rounding down; `bits` broadcasts."""
    return tf.bitwise.right_shift(*_same_shape(as_int64(x), bits))


def _same_shape(x: Any, bits: Any) -> tuple[Any, Any]:
    bits = tf.constant(np.asarray(bits, np.int64))
    return x + tf.zeros_like(bits), tf.zeros_like(x) + bits


def doubling_high_multiply(x: Any, m: Any) -> Any:
    """(x * m + 2^30) >> 31.

    gemmlowp writes it with a nudge of either sign and a division towards zero, which is the same.
    """
    return shift_right(as_int64(x) * m + 2**30, 31)


def divide_by_power(x: Any, bits: Any) -> Any:
    """x / 2^bits to nearest, halves away from zero (gemmlowp's RoundingDivideByPOT)."""
    x, bits = as_int64(x), np.asarray(bits, np.int64)
    mask = (np.int64(1) << bits) - 1
    threshold = (mask >> 1) + tf.cast(x < 0, tf.int64)
    rest = tf.bitwise.bitwise_and(*_same_shape(x, mask))
    return shift_right(x, bits) + tf.cast(rest > threshold, tf.int64)


def divide_by_power_upward(x: Any, bits: Any) -> Any:
    """x / 2^bits to nearest, halves upward (vrshl)."""
    bits = np.asarray(bits, np.int64)
    half = np.where(bits > 0, np.int64(1) << np.maximum(bits - 1, 0), 0)
    return shift_right(as_int64(x) + half, bits)


def twice(acc: Any, real: Any) -> Any:
    """acc * real as in the module's table; `real` broadcasts over the last dimension."""
    m, e = fixed_multipliers(real)
    return scaled_twice(acc, m, e)


def scaled_twice(acc: Any, m: Any, e: Any) -> Any:
    """`twice` for a multiplier that is already (m, e)."""
    left, right = np.maximum(e, 0), np.maximum(-np.asarray(e), 0)
    high = doubling_high_multiply(as_int64(acc) * (np.int64(1) << left), m)
    return divide_by_power(high, right)


def twice_upward(acc: Any, real: Any) -> Any:
    """acc * real as in the module's table."""
    m, e = fixed_multipliers(real)
    high = doubling_high_multiply(as_int64(acc) * (np.int64(1) << np.maximum(e, 0)), m)
    return divide_by_power_upward(high, np.maximum(-e, 0))


def once(acc: Any, real: Any) -> Any:
    """acc * real as in the module's table."""
    m, e = fixed_multipliers(real)
    return divide_by_power_upward(as_int64(acc) * m, 31 - e)


def once_reduced(acc: Any, real: Any) -> Any:
    """acc * real as in the module's table."""
    m, e = fixed_multipliers(real)
    short = np.where(m < 0x7FFF0000, (m + (1 << 15)) >> 16, 0x7FFF)
    return divide_by_power_upward(as_int64(acc) * short, 15 - e)


def in_float32(acc: Any, real: Any) -> Any:
    """acc * real as in the module's table; `real` must be the float32 that XNNPACK computes."""
    product = tf.cast(as_int64(acc), tf.float32) * np.asarray(real, np.float32)
    return as_int64(tf.round(tf.clip_by_value(product, -(2.0**30), 2.0**30)))


def saturate(x: Any, low: int, high: int, dtype: str) -> Any:
    """Clamps int64 to [low, high] and gives it the type of the output."""
    return tf.cast(tf.clip_by_value(x, np.int64(low), np.int64(high)), dtype)
