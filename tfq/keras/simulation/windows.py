"""Sums over sliding windows in exact arithmetic: convolutions and pooling.

Products of integers are summed in float64, which is exact up to 2^53 (an int8 sum reaches 2^31, an
int16 one 2^23 times its number of terms) and uses the fast matrix product.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from tfq.keras.simulation.rounding import as_int64


@dataclasses.dataclass(frozen=True)
class Window:
    """Kernel size, stride and dilation by (height, width), and SAME or VALID padding."""

    size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    same: bool = False

    @staticmethod
    def of(size: tuple[int, ...], options: Any) -> Window:
        """From the options of a CONV_2D, DEPTHWISE_CONV_2D or pooling op."""
        dilation = (getattr(options, "dilationHFactor", 1), getattr(options, "dilationWFactor", 1))
        return Window(
            (int(size[0]), int(size[1])),
            (options.strideH, options.strideW),
            dilation,
            options.padding == schema.Padding.SAME,
        )

    def spans(self) -> tuple[int, int]:
        """How many input rows and columns one window covers."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.size, self.dilation, strict=True))  # type: ignore[return-value]

    def padding(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """(before, after) by dimension, as SAME has it: the larger half behind."""
        if not self.same:
            return (0, 0), (0, 0)
        pads = []
        for n, span, step in zip((height, width), self.spans(), self.stride, strict=True):
            total = max((-(-n // step) - 1) * step + span - n, 0)
            pads.append((total // 2, total - total // 2))
        return pads[0], pads[1]


def taps(x: Any, window: Window, fill: float = 0) -> Iterator[tuple[int, int, Any]]:
    """For each (row, column) of the kernel the values that it meets: [n, out_h, out_w, c].

    Args:
      x: [n, h, w, c] with static h and w.
      window: the window.
      fill: what stands in the padding.
    """
    height, width = int(x.shape[1]), int(x.shape[2])
    rows, columns = window.padding(height, width)
    x = tf.pad(x, [(0, 0), rows, columns, (0, 0)], constant_values=tf.cast(fill, x.dtype))
    outs = [
        (n + sum(pad) - span) // step + 1
        for n, pad, span, step in zip(
            (height, width), (rows, columns), window.spans(), window.stride, strict=True
        )
    ]
    for i in range(window.size[0]):
        for j in range(window.size[1]):
            top, left = i * window.dilation[0], j * window.dilation[1]
            bottom = top + (outs[0] - 1) * window.stride[0] + 1
            right = left + (outs[1] - 1) * window.stride[1] + 1
            yield i, j, x[:, top : bottom : window.stride[0], left : right : window.stride[1]]


def convolve(x: Any, w: np.ndarray, window: Window) -> Any:
    """Convolution in groups: x [n, h, w, groups * c] and w [out, kh, kw, c] give int64."""
    groups = int(x.shape[3]) // w.shape[3]
    x = tf.cast(x, tf.float64)
    total: Any = 0
    for i, j, part in taps(x, window):
        kernel = w[:, i, j].astype(np.float64)
        if groups == 1:
            total = total + tf.tensordot(part, kernel.T, 1)
            continue
        shape = tf.shape(part)
        split = tf.reshape(part, tf.concat([shape[:3], [groups, w.shape[3]]], 0))
        product = tf.einsum(
            "nhwgc,goc->nhwgo", split, kernel.reshape(groups, w.shape[0] // groups, w.shape[3])
        )
        total = total + tf.reshape(product, tf.concat([shape[:3], [w.shape[0]]], 0))
    return as_int64(total)


def convolve_depthwise(x: Any, w: np.ndarray, window: Window) -> Any:
    """Depthwise convolution: x [n, h, w, c] and w [1, kh, kw, c * multiplier] give int64."""
    x = tf.repeat(as_int64(x), w.shape[3] // int(x.shape[3]), axis=3)
    total: Any = 0
    for i, j, part in taps(x, window):
        total = total + part * w[0, i, j].astype(np.int64)
    return total


def convolve_transposed(
    x: Any, w: np.ndarray, out_hw: tuple[int, int], stride: tuple[int, int], same: bool
) -> Any:
    """Transposed convolution: x [n, h, w, c] and w [out, kh, kw, c] give int64 [n, *out_hw, out].

    Every input value is spread over the outputs that it reaches; what falls outside is cut off.
    Padding is that of the forward convolution from the output's size (ComputePaddingHeightWidth
    in lite/kernels/transpose_conv.cc).
    """
    forward = Window((w.shape[1], w.shape[2]), stride, (1, 1), same)
    (top, _), (left, _) = forward.padding(*out_hw)
    height, width = int(x.shape[1]), int(x.shape[2])
    full = [(n - 1) * s + k for n, s, k in zip((height, width), stride, w.shape[1:3], strict=True)]
    spread = _spread(tf.cast(x, tf.float64), stride)
    total: Any = 0
    for i in range(w.shape[1]):
        for j in range(w.shape[2]):
            part = tf.tensordot(spread, w[:, i, j].T.astype(np.float64), 1)
            below, behind = w.shape[1] - 1 - i, w.shape[2] - 1 - j
            total = total + tf.pad(part, [(0, 0), (i, below), (j, behind), (0, 0)])
    # The output may be cut short, or reach further than any input does.
    more = [max(0, o + p - f) for o, p, f in zip(out_hw, (top, left), full, strict=True)]
    total = tf.pad(total, [(0, 0), (0, more[0]), (0, more[1]), (0, 0)])
    return as_int64(total[:, top : top + out_hw[0], left : left + out_hw[1]])


def _spread(x: Any, stride: tuple[int, int]) -> Any:
    """Puts stride - 1 zeros between neighbours."""
    for axis, step in ((1, stride[0]), (2, stride[1])):
        if step == 1:
            continue
        n = int(x.shape[axis])
        pads = [(0, 0)] * 5
        pads[axis + 1] = (0, step - 1)
        wide = tf.pad(tf.expand_dims(x, axis + 1), pads)
        shape = tf.concat([tf.shape(x)[:axis], [n * step], tf.shape(x)[axis + 1 :]], 0)
        wide = tf.reshape(wide, shape)
        x = wide[:, : (n - 1) * step + 1] if axis == 1 else wide[:, :, : (n - 1) * step + 1]
    return tf.ensure_shape(x, x.shape)
