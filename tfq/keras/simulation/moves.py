"""Ops that move, select or compare integers without rescaling them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfq.graph.model import Op
from tfq.keras.simulation.grids import zero
from tfq.keras.simulation.rounding import as_int64

Values = list[Any]


def _const(op: Op, i: int) -> np.ndarray:
    return op.input(i).values()


def _free(op: Op, sizes: Any) -> list[int]:
    """A constant shape, with the batch left open where the file has 1."""
    wanted = [int(n) for n in np.reshape(sizes, -1)]
    shape = op.input(0).shape
    if wanted and wanted[0] == 1 and shape[:1] == (1,) and -1 not in wanted:
        wanted[0] = -1
    return wanted


def reshape(op: Op, values: Values, kernels: str) -> Values:
    return [tf.reshape(values[0], _free(op, op.outputs[0].shape))]


def transpose(op: Op, values: Values, kernels: str) -> Values:
    return [tf.transpose(values[0], _const(op, 1))]


def concatenation(op: Op, values: Values, kernels: str) -> Values:
    return [tf.concat(values, op.options.axis)]


def pack(op: Op, values: Values, kernels: str) -> Values:
    return [tf.stack(values, op.options.axis)]


def unpack(op: Op, values: Values, kernels: str) -> Values:
    return tf.unstack(values[0], op.options.num, op.options.axis)


def split(op: Op, values: Values, kernels: str) -> Values:
    return tf.split(values[1], op.options.numSplits, int(_const(op, 0).reshape(-1)[0]))


def split_v(op: Op, values: Values, kernels: str) -> Values:
    return tf.split(values[0], _const(op, 1).tolist(), int(_const(op, 2).reshape(-1)[0]))


def slice_(op: Op, values: Values, kernels: str) -> Values:
    begin, size = _const(op, 1).tolist(), _const(op, 2).tolist()
    if begin[:1] == [0] and size[:1] == [op.input(0).shape[0]]:
        size[0] = -1
    return [tf.slice(values[0], begin, size)]


def strided_slice(op: Op, values: Values, kernels: str) -> Values:
    o = op.options
    begin, end, strides = (_const(op, i).copy() for i in (1, 2, 3))
    end_mask = o.endMask
    whole = begin.size and (begin[0] == 0 or o.beginMask & 1) and strides[0] == 1
    if whole and not o.shrinkAxisMask & 1 and end[0] >= op.input(0).shape[0]:
        end_mask |= 1
    return [
        tf.strided_slice(
            values[0],
            begin,
            end,
            strides,
            o.beginMask,
            end_mask,
            o.ellipsisMask,
            o.newAxisMask,
            o.shrinkAxisMask,
        )
    ]


def pad(op: Op, values: Values, kernels: str) -> Values:
    """With the zero point, or for PADV2 the value given."""
    fill = _const(op, 2).reshape(-1)[0] if len(op.inputs) > 2 else zero(op.input(0))
    x = tf.pad(as_int64(values[0]), _const(op, 1), constant_values=np.int64(fill))
    return [tf.cast(x, op.outputs[0].dtype)]


def mirror_pad(op: Op, values: Values, kernels: str) -> Values:
    mode = "SYMMETRIC" if op.options.mode else "REFLECT"
    return [tf.cast(tf.pad(as_int64(values[0]), _const(op, 1), mode), op.outputs[0].dtype)]


def gather(op: Op, values: Values, kernels: str) -> Values:
    o = op.options
    batch = getattr(o, "batchDims", 0) or 0
    return [tf.gather(values[0], values[1], axis=o.axis, batch_dims=batch)]


def gather_nd(op: Op, values: Values, kernels: str) -> Values:
    return [tf.gather_nd(values[0], values[1])]


def embedding_lookup(op: Op, values: Values, kernels: str) -> Values:
    return [tf.gather(values[1], values[0])]


def tile(op: Op, values: Values, kernels: str) -> Values:
    return [tf.tile(values[0], _const(op, 1))]


def broadcast_to(op: Op, values: Values, kernels: str) -> Values:
    y = as_int64(values[0]) + tf.zeros(_const(op, 1).tolist(), tf.int64)
    return [tf.cast(y, op.outputs[0].dtype)]


def depth_to_space(op: Op, values: Values, kernels: str) -> Values:
    y = tf.nn.depth_to_space(tf.cast(values[0], tf.float32), op.options.blockSize)
    return [tf.cast(y, op.outputs[0].dtype)]


def space_to_depth(op: Op, values: Values, kernels: str) -> Values:
    y = tf.nn.space_to_depth(tf.cast(values[0], tf.float32), op.options.blockSize)
    return [tf.cast(y, op.outputs[0].dtype)]


def reverse_v2(op: Op, values: Values, kernels: str) -> Values:
    return [tf.reverse(values[0], _const(op, 1))]


def reduce_max(op: Op, values: Values, kernels: str) -> Values:
    axes = _const(op, 1).reshape(-1).tolist()
    y = tf.reduce_max(as_int64(values[0]), axes, keepdims=op.options.keepDims)
    return [tf.cast(y, op.outputs[0].dtype)]


def reduce_min(op: Op, values: Values, kernels: str) -> Values:
    axes = _const(op, 1).reshape(-1).tolist()
    y = tf.reduce_min(as_int64(values[0]), axes, keepdims=op.options.keepDims)
    return [tf.cast(y, op.outputs[0].dtype)]


def maximum(op: Op, values: Values, kernels: str) -> Values:
    return [_as_output(op, tf.maximum(as_int64(values[0]), as_int64(values[1])))]


def minimum(op: Op, values: Values, kernels: str) -> Values:
    return [_as_output(op, tf.minimum(as_int64(values[0]), as_int64(values[1])))]


def _as_output(op: Op, y: Any) -> Any:
    return tf.cast(y, op.outputs[0].dtype)


def arg_max(op: Op, values: Values, kernels: str) -> Values:
    axis = int(_const(op, 1).reshape(-1)[0])
    return [_as_output(op, tf.argmax(as_int64(values[0]), axis))]


def arg_min(op: Op, values: Values, kernels: str) -> Values:
    axis = int(_const(op, 1).reshape(-1)[0])
    return [_as_output(op, tf.argmin(as_int64(values[0]), axis))]


def select(op: Op, values: Values, kernels: str) -> Values:
    return [tf.where(values[0], values[1], values[2])]


def right_shift(op: Op, values: Values, kernels: str) -> Values:
    x, bits = as_int64(values[0]), as_int64(values[1])
    return [_as_output(op, tf.bitwise.right_shift(x, bits + tf.zeros_like(x)))]


def cast(op: Op, values: Values, kernels: str) -> Values:
    return [tf.cast(values[0], op.outputs[0].dtype)]


def expand_dims(op: Op, values: Values, kernels: str) -> Values:
    return [tf.expand_dims(values[0], int(_const(op, 1).reshape(-1)[0]))]


def squeeze(op: Op, values: Values, kernels: str) -> Values:
    return [tf.reshape(values[0], _free(op, op.outputs[0].shape))]


def space_to_batch_nd(op: Op, values: Values, kernels: str) -> Values:
    """Padded with the zero point."""
    x = as_int64(values[0])
    paddings = [(0, 0), *_const(op, 2).tolist(), *[(0, 0)] * (len(x.shape) - 3)]
    x = tf.pad(x, paddings[: len(x.shape)], constant_values=np.int64(zero(op.input(0))))
    y = tf.space_to_batch(x, _const(op, 1), np.zeros((len(_const(op, 1)), 2), np.int32))
    return [_as_output(op, y)]


def batch_to_space_nd(op: Op, values: Values, kernels: str) -> Values:
    return [tf.batch_to_space(values[0], _const(op, 1), _const(op, 2))]


def logical_and(op: Op, values: Values, kernels: str) -> Values:
    return [tf.logical_and(values[0], values[1])]


def logical_or(op: Op, values: Values, kernels: str) -> Values:
    return [tf.logical_or(values[0], values[1])]


def logical_not(op: Op, values: Values, kernels: str) -> Values:
    return [tf.logical_not(values[0])]


def dynamic_update_slice(op: Op, values: Values, kernels: str) -> Values:
    """The update is moved inside where it would reach out."""
    x, update = values[0], values[1]
    room = np.array(op.input(0).shape) - np.array(op.input(1).shape)
    start = tf.clip_by_value(as_int64(values[2]), np.int64(0), room.astype(np.int64))
    at = tf.constant(np.moveaxis(np.indices(op.input(1).shape, np.int64), 0, -1))
    return [tf.tensor_scatter_nd_update(x, at + start, update)]
