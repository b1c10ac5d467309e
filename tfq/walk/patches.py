"""What the weights of a layer are multiplied with, position by position (im2col).

Weights and patches are brought into one form: `groups` of output channels that read the same
inputs, each channel a row of d weights.

  CONV_2D            its groups, mostly one; d = height * width * input channels of a group
  DEPTHWISE_CONV_2D  a group for each input channel, d = height * width
  FULLY_CONNECTED    one group, d = input features
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.graph.model import Op

PATCHED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def groups_of(op: Op) -> int:
    """How many groups the output channels of a layer of `PATCHED` form."""
    x, w = op.input(0), op.input(1)
    if op.name == "DEPTHWISE_CONV_2D":
        return x.shape[-1]
    return x.shape[-1] // w.shape[-1] if op.name == "CONV_2D" else 1


def weight_rows(op: Op, weights: np.ndarray) -> np.ndarray:
    """Weights in the kernel's shape -> [groups, channels of a group, d]."""
    if op.name == "DEPTHWISE_CONV_2D":
        weights = np.moveaxis(weights[0], -1, 0)
    groups = groups_of(op)
    return weights.reshape(groups, len(weights) // groups, -1)


def from_rows(op: Op, rows: np.ndarray) -> np.ndarray:
    """The inverse of `weight_rows`."""
    shape = op.input(1).shape
    if op.name == "DEPTHWISE_CONV_2D":
        return np.moveaxis(rows.reshape(shape[3], shape[1], shape[2]), 0, -1)[None]
    return rows.reshape(shape)


def choose_positions(op: Op, samples: int, most: int, seed: int = 0) -> list[np.ndarray]:
    """For each sample the same number of random output positions, no more than `most` in all."""
    rng = np.random.default_rng(seed)
    there = op.outputs[0].size // op.outputs[0].shape[-1]
    each = min(there, max(most // max(samples, 1), 1))
    if each == there:
        return [np.arange(there)] * samples
    return [np.sort(rng.choice(there, each, replace=False)) for _ in range(samples)]


def patches(
    op: Op, values: np.ndarray, positions: Sequence[int] | np.ndarray, zero: int = 0
) -> np.ndarray:
    """The inputs that the weights meet at some output positions.

    Args:
      op: a layer of `PATCHED`.
      values: its data input, real or integer.
      positions: numbers of outputs, counted over all but the last axis.
      zero: the zero point that is taken away; padding is 0 then.

    Returns:
      float32 [groups, positions, d]; products with `weight_rows` are the accumulators.
    """
    at = np.asarray(positions)
    if op.name == "FULLY_CONNECTED":
        rows = values.reshape(-1, op.input(1).shape[-1])[at].astype(np.float32)
        return rows[None] - np.float32(zero)
    o, (_, kh, kw, _), x = op.options, op.input(1).shape, values
    _, out_h, out_w, _ = op.outputs[0].shape
    batch, y, z = np.unravel_index(at, op.outputs[0].shape[:3])
    rows_, row_ok = _taps(y, kh, o.strideH, o.dilationHFactor, x.shape[1], out_h, o.padding)
    cols, col_ok = _taps(z, kw, o.strideW, o.dilationWFactor, x.shape[2], out_w, o.padding)
    found = x[batch[:, None, None], rows_[:, :, None], cols[:, None, :]].astype(np.float32)
    found -= np.float32(zero)
    found *= (row_ok[:, :, None] & col_ok[:, None, :])[..., None]
    groups = groups_of(op)
    split = found.reshape(len(at), kh * kw, groups, x.shape[3] // groups)
    return split.transpose(2, 0, 1, 3).reshape(groups, len(at), -1)


def _taps(
    at: np.ndarray, size: int, stride: int, dilation: int, length: int, outputs: int, padding: int
) -> tuple[np.ndarray, np.ndarray]:
    """Along one axis: indices [positions, taps], kept inside, and which of them really are."""
    reach = (size - 1) * dilation + 1
    before = 0
    if padding == schema.Padding.SAME:
        before = max((outputs - 1) * stride + reach - length, 0) // 2
    index = at[:, None] * stride - before + np.arange(size) * dilation
    return np.clip(index, 0, length - 1), (index >= 0) & (index < length)
