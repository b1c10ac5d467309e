"""Sums over sliding windows in exact arithmetic: convolutions and pooling.

Products of integers are summed in float64, which is exact up to 2^53 (an int8 sum reaches 2^31, an
int16 one 2^23 times its number of terms) and uses the fast matrix product.
"""

from __future__ import annotations

import dataclasses
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


def padded(x: Any, window: Window, fill: float = 0) -> Any:
    """x [n, h, w, c] with what SAME puts around it; nothing is left to pad after."""
    rows, columns = window.padding(int(x.shape[1]), int(x.shape[2]))
    return tf.pad(x, [(0, 0), rows, columns, (0, 0)], constant_values=tf.constant(fill, x.dtype))


def patches(x: Any, window: Window, fill: float = 0) -> Any:
    """What each window covers: [n, out_h, out_w, kh * kw, c].

    Args:
      x: [n, h, w, c] with static h, w and c.
      window: the window.
      fill: what stands in the padding.
    """
    sizes, strides = (1, *window.size, 1), (1, *window.stride, 1)
    found = tf.image.extract_patches(
        padded(x, window, fill), sizes, strides, (1, *window.dilation, 1), "VALID"
    )
    shape = [-1, int(found.shape[1]), int(found.shape[2])]
    return tf.reshape(found, [*shape, window.size[0] * window.size[1], int(x.shape[3])])


def convolve(x: Any, w: np.ndarray, window: Window) -> Any:
    """Convolution in groups: x [n, h, w, groups * c] and w [out, kh, kw, c] give int64."""
    out, kh, kw, c = w.shape
    groups = int(x.shape[3]) // c
    x = tf.cast(x, tf.float64)
    kernel = w.astype(np.float64)
    if groups == 1:
        forward = kernel.transpose(1, 2, 3, 0)
        return as_int64(
            tf.nn.conv2d(
                padded(x, window), forward, window.stride, "VALID", "NHWC", window.dilation
            )
        )
    parts = patches(x, window)
    shape = [-1, *(int(n) for n in parts.shape[1:3])]
    split = tf.reshape(parts, [*shape, kh * kw, groups, c])
    kernel = kernel.reshape(groups, out // groups, kh * kw, c)
    return as_int64(tf.reshape(tf.einsum("nhwkgc,gokc->nhwgo", split, kernel), [*shape, out]))


def convolve_depthwise(x: Any, w: np.ndarray, window: Window) -> Any:
    """Depthwise convolution: x [n, h, w, c] and w [1, kh, kw, c * multiplier] give int64."""
    x = tf.cast(x, tf.float64)
    kernel = w[0].astype(np.float64)
    c = int(x.shape[3])
    if window.stride[0] == window.stride[1] and window.dilation == (1, 1):
        kernel = kernel.reshape(*kernel.shape[:2], c, -1)
        strides = (1, *window.stride, 1)
        return as_int64(tf.nn.depthwise_conv2d(padded(x, window), kernel, strides, "VALID"))
    parts = tf.repeat(patches(x, window), w.shape[3] // c, axis=4)
    return as_int64(tf.reduce_sum(parts * kernel.reshape(-1, w.shape[3]), 3))


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
    # Values apart by the stride meet the kernel turned around.
    spread = _spread(tf.cast(x, tf.float64), stride)
    around = [(0, 0), (w.shape[1] - 1,) * 2, (w.shape[2] - 1,) * 2, (0, 0)]
    kernel = w[:, ::-1, ::-1].transpose(1, 2, 3, 0).astype(np.float64)
    total = tf.nn.conv2d(tf.pad(spread, around), kernel, 1, "VALID")
    # The output may be cut short, or reach further than any input does.
    more = [max(0, o + p - f) for o, p, f in zip(out_hw, (top, left), full, strict=True)]
    total = tf.pad(total, [(0, 0), (0, more[0]), (0, more[1]), (0, 0)])
    return as_int64(total[:, top : top + out_hw[0], left : left + out_hw[1]])


def _spread(x: Any, stride: tuple[int, int]) -> Any:
    """Puts stride - 1 zeros between neighbours, and none behind the last."""
    h, w, c = (int(n) for n in x.shape[1:])
    wide = tf.reshape(x, [-1, h, 1, w, 1, c])
    wide = tf.pad(wide, [(0, 0), (0, 0), (0, stride[0] - 1), (0, 0), (0, stride[1] - 1), (0, 0)])
    wide = tf.reshape(wide, [-1, h * stride[0], w * stride[1], c])
    return wide[:, : (h - 1) * stride[0] + 1, : (w - 1) * stride[1] + 1]
