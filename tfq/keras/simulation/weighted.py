"""CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV, FULLY_CONNECTED and BATCH_MATMUL.

    y = clamp(zero_out + round(M * (sum (x - zero_in) * w + bias)))

The sum is an int32 (int64 for int16 activations) and exact. M and its rounding, by kernel:

    reference, built-in   M = scale_in * scale_w / scale_out in float64
                          (PopulateConvolutionQuantizationParams in lite/kernels/kernel_util.cc)
    XNNPACK               the same, left to right, in float32 (XNNPACK/src/operators)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfq.graph.model import Op, Tensor
from tfq.keras.simulation.grids import centred, finish, quant, scale
from tfq.keras.simulation.rounding import (
    Multiply,
    as_int64,
    in_float32,
    once,
    once_reduced,
    twice,
    twice_upward,
)
from tfq.keras.simulation.windows import (
    Window,
    convolve,
    convolve_depthwise,
    convolve_transposed,
)


def real_multiplier(x: Tensor, w: Tensor, y: Tensor, kernels: str) -> np.ndarray:
    """scale_x * scale_w / scale_y in the precision of the kernel; one, or one per channel."""
    if kernels == "xnnpack":
        return scale(x) * quant(w).scale.astype(np.float32) / scale(y)
    return np.float64(scale(x)) * quant(w).scale.astype(np.float64) / np.float64(scale(y))


def _biased(acc: Any, op: Op, index: int) -> Any:
    bias = op.inputs[index] if len(op.inputs) > index else None
    return acc if bias is None else acc + bias.values().astype(np.int64)


def _requantized(op: Op, acc: Any, data: int, weights: int, kernels: str, by: Multiply) -> Any:
    real = real_multiplier(op.input(data), op.input(weights), op.outputs[0], kernels)
    return [finish(op, by(acc, real), kernels)]


def _conv_rounding(op: Op, data: int, kernels: str) -> Multiply:
    if op.input(data).dtype == "int16":
        return once_reduced
    return {"xnnpack": in_float32, "builtin": twice_upward, "reference": twice}[kernels]


def conv_2d(op: Op, values: list[Any], kernels: str) -> list[Any]:
    w = op.input(1).values()
    window = Window.of(w.shape[1:3], op.options)
    acc = _biased(convolve(centred(values[0], op.input(0)), w, window), op, 2)
    grouped = w.shape[3] != op.input(0).shape[3]
    # In groups the built-in kernel is the reference one.
    as_ = "reference" if grouped and kernels == "builtin" else kernels
    return _requantized(op, acc, 0, 1, kernels, _conv_rounding(op, 0, as_))


def depthwise_conv_2d(op: Op, values: list[Any], kernels: str) -> list[Any]:
    w = op.input(1).values()
    window = Window.of(w.shape[1:3], op.options)
    acc = _biased(convolve_depthwise(centred(values[0], op.input(0)), w, window), op, 2)
    by = _conv_rounding(op, 0, kernels)
    if by is twice_upward:
        by = _upward_in_eights
    return _requantized(op, acc, 0, 1, kernels, by)


def _upward_in_eights(acc: Any, real: Any) -> Any:
    """The built-in kernels that sum first take eight channels at once, and the rest one by one.

    Source: Quantize in lite/kernels/internal/optimized/optimized_ops.h.
    """
    channels = int(acc.shape[-1])
    vector = np.arange(channels) < channels // 8 * 8
    return tf.where(vector, twice_upward(acc, real), twice(acc, real))


def transpose_conv(op: Op, values: list[Any], kernels: str) -> list[Any]:
    shape, w, options = op.input(0).values(), op.input(1).values(), op.options
    acc = convolve_transposed(
        centred(values[2], op.input(2)),
        w,
        (int(shape[1]), int(shape[2])),
        (options.strideH, options.strideW),
        options.padding == 0,
    )
    by = _conv_rounding(op, 2, kernels)
    if by is twice_upward:
        by = _upward_in_eights
    return _requantized(op, _biased(acc, op, 3), 2, 1, kernels, by)


def fully_connected(op: Op, values: list[Any], kernels: str) -> list[Any]:
    x, w = op.input(0), op.input(1)
    weights = centred(w.values() if w.is_const else values[1], w)
    rows = tf.cast(tf.reshape(centred(values[0], x), [-1, w.shape[1]]), tf.float64)
    acc = as_int64(tf.matmul(rows, tf.cast(weights, tf.float64), transpose_b=True))
    if op.options.keepNumDims and len(x.shape) > 1:
        acc = tf.reshape(acc, tf.concat([tf.shape(values[0])[:-1], [w.shape[0]]], 0))
    by: Multiply = {"xnnpack": in_float32, "builtin": twice_upward, "reference": once}[kernels]
    if x.dtype == "int16":
        by = _int16_rounding(op, kernels)
    return _requantized(op, _biased(acc, op, 2), 0, 1, kernels, by)


def _int16_rounding(op: Op, kernels: str) -> Multiply:
    if op.input(1).dtype == "int16":
        return once_reduced
    biased = len(op.inputs) > 2 and op.inputs[2] is not None
    return once if biased or kernels == "reference" else twice_upward


def batch_matmul(op: Op, values: list[Any], kernels: str) -> list[Any]:
    a, b = (tf.cast(centred(values[i], op.input(i)), tf.float64) for i in (0, 1))
    acc = as_int64(tf.matmul(a, b, transpose_a=op.options.adjX, transpose_b=op.options.adjY))
    real = np.float64(scale(op.input(0)) * scale(op.input(1))) / np.float64(scale(op.outputs[0]))
    by: Multiply = once_reduced if op.input(0).dtype == "int16" else twice
    return [finish(op, by(acc, real), kernels)]
