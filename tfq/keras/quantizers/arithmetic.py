"""Ranges, scales and fake quantization in TensorFlow.

Values are float32. Scales, few numbers, are computed in float64 and rounded once: TensorFlow's
graph optimizer and XLA turn divisions by constants into multiplications by their inverse, which in
float32 shows in the last bit. So eager execution, graphs and post-training quantization agree.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfq.calibrate.weight_rules import RELATIVE_FLOOR, SCALE_FLOOR
from tfq.graph.numerics import LIMITS, MIN_SCALE

Tensor = Any


def grid_of_range(lo: Tensor, hi: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The grid over a range, as `tfq.graph.numerics.activation_grid` makes it.

    Args:
      lo, hi: float32 scalars, lo <= 0 <= hi.
      bits: 8 (asymmetric) or 16 (symmetric).

    Returns:
      Scale and zero point, float32 scalars.
    """
    q_min, q_max = LIMITS[f"int{bits}"]
    floor = tf.constant(MIN_SCALE, tf.float32)
    lo, hi = tf.cast(lo, tf.float64), tf.cast(hi, tf.float64)
    if bits == 16:
        scale = tf.maximum(tf.cast(tf.maximum(-lo, hi) / q_max, tf.float32), floor)
        return scale, tf.zeros_like(scale)
    scale = tf.maximum(tf.cast((hi - lo) / (q_max - q_min), tf.float32), floor)
    zero = tf.round(float(q_min) - lo / tf.cast(scale, tf.float64))
    return scale, tf.cast(tf.clip_by_value(zero, float(q_min), float(q_max)), tf.float32)


def ends(scale: Tensor, zero: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The lowest and highest real value of a grid."""
    q_min, q_max = LIMITS[f"int{bits}"]
    return (q_min - zero) * scale, (q_max - zero) * scale


def fake_quantize_fast(x: Tensor, lo: Tensor, hi: Tensor, skip: Tensor, bits: int) -> Tensor:
    """Rounds and clips to the grid between `lo` and `hi`; gradients pass inside, and stop outside.

    TensorFlow's fused kernel takes a quarter of the time of division, rounding, clipping and
    multiplication one by one (2.1 ms against 8.7 ms on [128, 28, 28, 32], forward and backward, on
    two cores; XLA makes both equally fast). It rounds halves up, where the file's kernels and
    `tfq.keras.fake_quantize` round them to even; but for these ties the integers are the same.

    Args:
      x: float32.
      lo, hi: float32 scalars, the ends of a grid.
      skip: boolean scalar: pass `x` on.
      bits: 8 or 16.
    """

    @tf.custom_gradient
    def quantize(x: Tensor, lo: Tensor, hi: Tensor) -> Any:
        def gradient(g: Tensor) -> Any:
            def inside() -> Tensor:
                return fused_gradients(g, x, lo, hi, bits)[0]

            return tf.cond(skip, lambda: g, inside), None, None

        return fused(x, lo, hi, skip, bits), gradient

    return quantize(x, tf.stop_gradient(lo), tf.stop_gradient(hi))


def fused(x: Tensor, lo: Tensor, hi: Tensor, skip: Tensor, bits: int) -> Tensor:
    """The forward pass alone, to be used where the gradient is given."""

    # A branch: a select would read all values once more, and take longer than the quantization. It
    # has no gradient of its own, which would keep copies.
    def quantized() -> Tensor:
        return tf.quantization.fake_quant_with_min_max_vars(x, lo, hi, num_bits=bits)

    return tf.cond(skip, lambda: x, quantized)


def fused_gradients(g: Tensor, x: Tensor, lo: Tensor, hi: Tensor, bits: int) -> Any:
    """Gradients of TensorFlow's fake quantization.

    Returns:
      g where x is inside, else 0; the sum of g where x is below; the sum of g where it is above.
    """
    return tf.raw_ops.FakeQuantWithMinMaxVarsGradient(
        gradients=g, inputs=x, min=lo, max=hi, num_bits=bits
    )


def leading_axes(w: Tensor, per_channel: bool) -> list[int]:
    """The dimensions that share one scale."""
    return list(range(w.shape.rank - int(per_channel)))


def largest(w: Tensor, per_channel: bool) -> Tensor:
    """max |w| per channel: float64 [C] or [1]."""
    axes = leading_axes(w, per_channel)
    # Not max |w|: the converter would have to store a second copy of the weights.
    result = tf.maximum(tf.reduce_max(w, axes), -tf.reduce_min(w, axes))
    return tf.cast(tf.reshape(result, [-1]), tf.float64)


def sums(values: Tensor, per_channel: bool) -> Tensor:
    """Sums per channel, float64 [C] or [1].

    In float64 the order of the addition does not show after rounding to float32: eager execution,
    graphs, XLA and numpy agree.
    """
    total = tf.reduce_sum(tf.cast(values, tf.float64), leading_axes(values, per_channel))
    return tf.reshape(total, [-1])


def count(w: Tensor, per_channel: bool) -> float:
    """How many weights share one scale."""
    return float(w.shape.num_elements() // (w.shape[-1] if per_channel else 1))


def floored(scale: Tensor) -> Tensor:
    """Scales above the floors of `tfq.calibrate.weight_rules`, rounded to float32."""
    scale = tf.cast(scale, tf.float32)
    lowest = tf.maximum(RELATIVE_FLOOR * tf.reduce_max(scale), tf.constant(SCALE_FLOOR))
    return tf.maximum(scale, lowest)
