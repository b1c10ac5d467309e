"""Gram matrices of what a layer's weights are multiplied with: H = E[x x^T].

With e the error of one channel's weights, e^T H e is the mean squared error of its accumulators;
with the centred H = E[(x - m) (x - m)^T] it is what is left when the bias takes back the mean.

Cost: positions * d^2 multiplications a group.
"""

from __future__ import annotations

import numpy as np

from tfq.graph.model import Op
from tfq.graph.optable import spec
from tfq.walk.layer import Layer
from tfq.walk.patches import PATCHED, choose_positions, patches

POSITIONS = 20_000

# Values in a row of weights: a Gram matrix of float64 takes d^2 * 8 bytes, and some copies.
MOST_VALUES = 2304


def obstacle_to_gram(layer: Layer) -> str:
    """Why a layer has no Gram matrix, or ""."""
    if layer.op.name not in PATCHED:
        return f"{layer.op.label} has no patches"
    if layer.x.quant is None or layer.weights.quant is None:
        return "one of its tensors has no grid"
    if row_length(layer.op) > MOST_VALUES:
        return f"a channel has more than {MOST_VALUES} weights, too many for a Gram matrix"
    return ""


def row_length(op: Op) -> int:
    """How many weights each output value is a sum over."""
    row = spec(op.name)
    assert row is not None
    assert row.weights is not None
    w = op.input(row.weights)
    return w.size // max(w.shape[row.axis] if row.axis is not None else 1, 1)


def gram_matrices(
    layer: Layer, *, centred: bool = False, positions: int = POSITIONS, seed: int = 0
) -> np.ndarray:
    """Of the integers that a layer reads, minus their zero point.

    Args:
      layer: one without an `obstacle_to_gram`.
      centred: takes the mean away.
      positions: how many are looked at, at random over all samples.

    Returns:
      float64 [groups, d, d], in steps of the input squared; the order is that of `weight_rows`.
    """
    assert layer.x.quant is not None
    zero = int(layer.x.quant.zero_point[0])
    chosen = choose_positions(layer.op, len(layer.inputs), positions, seed)
    gram, total, count = np.zeros(()), np.zeros(()), 0
    for values, at in zip(layer.inputs, chosen, strict=True):
        found = patches(layer.op, values, at, zero)
        gram = gram + np.matmul(found.transpose(0, 2, 1), found)
        total = total + found.sum(axis=1, dtype=np.float64)
        count += len(at)
    gram = gram.astype(np.float64) / count
    if centred:
        mean = total / count
        gram -= mean[:, :, None] * mean[:, None, :]
    return gram
