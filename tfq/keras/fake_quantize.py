"""Fake quantization that TensorFlow's converter can see: how trained grids reach the file.

With scale s, zero point z and the integers q_min .. q_max of the grid:

    mark(x) = (clip(rint(x / s) + z, q_min, q_max) - z) * s
    d mark / dx = 1 where (q_min - z) s <= x <= (q_max - z) s, else 0

rint rounds halves to even, in float32, so that numpy computes the same integers.

In a graph the computation is a function that "implements" TfqQuantize. Everywhere it runs as any
function does (gradients, XLA, strategies, SavedModel); TensorFlow's converter leaves it as one
custom op with the inputs (x, s, z) and the attributes below, which `tfq.sources` reads. A marker of
an integer grid is used and not TensorFlow's FakeQuant, because that cannot say 16 bits, 2 bits,
or per-channel scales along any axis, and computes its scale from a range again.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from tfq.errors import UsageError

# What `tfq.sources` looks for in the converted file.
NAME = "TfqQuantize"

_BITS = (2, 4, 8, 16)


def limits(bits: int, narrow: bool) -> tuple[int, int]:
    """The lowest and highest integer, -2^(bits-1) and 2^(bits-1) - 1; `narrow`: one above it."""
    top = 2 ** (bits - 1)
    return -top + int(narrow), top - 1


def fake_quantize(
    x: Any,
    scale: Any,
    zero_point: Any = 0.0,
    bits: int = 8,
    axis: int = -1,
    narrow: bool | None = None,
) -> Any:
    """What `mark` computes, unmarked: plain ops, for training steps and for eager use.

    Arguments and result are those of `mark`.
    """
    narrow = _check(bits, axis, narrow)
    x = tf.convert_to_tensor(x)
    y = _compute(_float32(x), *_grid(x, scale, zero_point, axis), bits, axis, narrow)
    return tf.cast(y, x.dtype)


def mark(
    x: Any,
    scale: Any,
    zero_point: Any = 0.0,
    bits: int = 8,
    axis: int = -1,
    narrow: bool | None = None,
) -> Any:
    """Puts `x` on a grid, and in a graph says so to the converter.

    Args:
      x: a tensor or variable of floats, any shape. Weights must not depend on the model's input.
      scale: the grid's step, float32, shape [] or [C] with C = x.shape[axis]; positive. For the
        conversion it must not depend on the model's input either. NaN in a graph: there is no grid
        (yet); `x` passes as it is, and the conversion stops.
      zero_point: the integer of the real value 0, float32, the shape of `scale`, on the signed grid
        (int8: -128 .. 127).
      bits: 16, 8, 4 or 2.
      axis: -1 for one scale, else the dimension of `x` that `scale` runs along.
      narrow: without the lowest integer: weights are in [-127, 127], [-7, 7], [-1, 1]. By default
        so for a scale per channel and below 8 bits. Give True for 8-bit weights with one scale.

    Returns:
      The value on the grid, shape and dtype of `x`; computed in float32.

    Raises:
      UsageError: `bits` or `axis` is none of these, or the scale is not float32 (Keras casts a
        layer's weights to float16 under mixed_float16, unless they are added with autocast=False).
    """
    if tf.executing_eagerly():  # No file comes from here: without the price of a function call.
        return fake_quantize(x, scale, zero_point, bits, axis, narrow)
    narrow = _check(bits, axis, narrow)
    x = tf.convert_to_tensor(x)
    y = _marked(bits, axis, narrow)(_float32(x), *_grid(x, scale, zero_point, axis))
    y.set_shape(x.shape)
    return tf.cast(y, x.dtype)


def _check(bits: int, axis: int, narrow: bool | None) -> bool:
    if bits not in _BITS:
        raise UsageError(f"bits must be one of 2, 4, 8 and 16. Received: {bits!r}.")
    if axis < -1:
        raise UsageError(f"axis must be -1 (one scale) or a dimension. Received: {axis!r}.")
    return (axis != -1 or bits < 8) if narrow is None else narrow


def _float32(value: Any) -> Any:
    return tf.cast(tf.convert_to_tensor(value), tf.float32)


def _grid(x: Any, scale: Any, zero_point: Any, axis: int) -> tuple[Any, Any]:
    """Scale and zero point in float32: shape [] for one scale, else [C]."""
    scale = tf.convert_to_tensor(scale)
    if scale.dtype not in (tf.float32, tf.float64):
        raise UsageError(
            "scale must be float32: no other type holds the grid that the file will have. Add the "
            f"weight with autocast=False. Received: {scale.dtype.name}."
        )
    if axis >= x.shape.rank:
        raise UsageError(f"axis must be below the rank of x, {x.shape.rank}. Received: {axis}.")
    scale, zero_point = _float32(scale), _float32(zero_point)
    if axis == -1:
        return tf.reshape(scale, []), tf.reshape(zero_point, [])
    channels = [x.shape[axis]]
    return tf.broadcast_to(scale, channels), tf.broadcast_to(zero_point, channels)


def _compute(x: Any, scale: Any, zero_point: Any, bits: int, axis: int, narrow: bool) -> Any:
    q_min, q_max = limits(bits, narrow)
    if axis != -1:
        # By rank, not by shape: dimensions may be unknown.
        along = [1] * axis + [-1] + [1] * (x.shape.rank - axis - 1)
        scale, zero_point = tf.reshape(scale, along), tf.reshape(zero_point, along)
    scale, zero_point = tf.stop_gradient(scale), tf.stop_gradient(zero_point)
    q = tf.clip_by_value(tf.round(x / scale) + zero_point, float(q_min), float(q_max))
    inside = tf.clip_by_value(x, (q_min - zero_point) * scale, (q_max - zero_point) * scale)
    # The difference is exactly 0 and brings the gradient of the clipping; a sum of the rounding
    # error and x would not be on the grid to the last bit.
    return tf.stop_gradient((q - zero_point) * scale) + (inside - tf.stop_gradient(inside))


@functools.cache
def _marked(bits: int, axis: int, narrow: bool) -> Any:
    attributes = {"bits": bits, "axis": axis, "narrow": int(narrow)}
    listed = " ".join(f'attr {{ key: "{k}" value {{ i: {v} }} }}' for k, v in attributes.items())
    implements = f'name: "{NAME}" {listed} attr {{ key: "tfl_fusable_op" value {{ b: true }} }}'

    @tf.function(experimental_implements=implements, autograph=False)
    def quantize(x: Any, scale: Any, zero_point: Any) -> Any:
        none = tf.math.is_nan(scale)
        # Both sides computed: XLA does not differentiate a branch, and this one costs less.
        y = _compute(x, tf.where(none, 1.0, scale), zero_point, bits, axis, narrow)
        return tf.where(tf.reduce_any(none), x, y)

    return quantize
