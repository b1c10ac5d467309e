"""Grids of tensors inside a layer that training saw as one: sums, and products with constants.

A quantizer stands behind a layer, but a layer can be two ops: a BatchNormalization that cannot be
folded is a product and a sum, an average is a sum and a product. The range of what is between
follows from the trained grids of the inputs and from the constants, by interval arithmetic: with
x in [lo, hi], another tensor in [lo', hi'] and constants c

    x * c   in   [min(lo c, hi c), max(lo c, hi c)]        x + c   in   [lo + min c, hi + max c]
    x + y   in   [lo + lo', hi + hi']

so that a model whose layers are all trained needs no samples. Tensors with more than one reader
keep their place in calibration, and so do those that may be inside a lookup table, which are no
tensors of the integer model: what scalar constants make, unless it is a product or sum between a
trained tensor and the next one (Rescaling), of which no table is made.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.numerics import Grid, activation_grid
from tfq.rewrite.match import ACT, activation


def grids_between(graph: Graph, trained: Mapping[str, Grid]) -> dict[str, Grid]:
    """Grids that follow from trained ones, by tensor name.

    Args:
      graph: the main graph without quantizer pairs.
      trained: grids that training chose.
    """
    found: dict[str, Grid] = {}
    consumers = graph.consumers()
    for op in graph.ops:
        if op.name not in ("MUL", "ADD", "SUB") or op.outputs[0].name in trained:
            continue
        y = op.outputs[0]
        if y in graph.outputs or len(consumers.get(y, [])) != 1:
            continue
        sides = [_side(t, trained, found) for t in op.inputs[:2]]
        if (
            any(s is None for s in sides)
            or y.dtype != "float32"
            or all(t.is_const for t in op.inputs if t)
        ):
            continue
        if any(map(_scalar, op.inputs)) and not _between_two(op, consumers[y][0][0], trained):
            continue
        if op.name == "MUL" and not any(t is not None and t.is_const for t in op.inputs):
            continue
        dtypes = {(trained.get(n) or found[n]).dtype for n in _computed(op)}
        lo, hi = _interval(op, [s for s in sides if s is not None])
        if len(dtypes) == 1:
            found[y.name] = activation_grid(lo, hi, dtypes.pop())
    return found


def _scalar(t: Tensor | None) -> bool:
    return t is not None and t.is_const and t.size == 1


def _between_two(op: Op, after: Op, trained: Mapping[str, Grid]) -> bool:
    """Whether `op` and `after` are all there is between a trained tensor and the next."""
    return (
        after.name in ("MUL", "ADD", "SUB")
        and after.outputs[0].name in trained
        and any(t is not None and t.is_const for t in after.inputs)
        and all(name in trained for name in _computed(op))
    )


def _computed(op: Op) -> list[str]:
    return [t.name for t in op.inputs if t is not None and not t.is_const]


def _side(
    t: Tensor | None, trained: Mapping[str, Grid], found: Mapping[str, Grid]
) -> np.ndarray | None:
    """The ends of an operand, [2, *1s] for a computed tensor; its values for a constant."""
    if t is None:
        return None
    if t.is_const:
        return t.values().astype(np.float64)[np.newaxis]
    grid = trained.get(t.name) or found.get(t.name)
    if grid is None or not grid.scale:
        return None
    return np.array(grid.range(), np.float64).reshape(2, *[1] * len(t.shape))


def _interval(op: Op, sides: list[np.ndarray]) -> tuple[float, float]:
    a, b = sides
    if op.name == "MUL":
        results = a * b
    else:
        if op.name == "SUB":
            b = -b
        results = np.array([a.min() + b.min(), a.max() + b.max()])
    lo, hi = float(results.min()), float(results.max())
    bounds = {ACT.RELU: (0.0, np.inf), ACT.RELU6: (0.0, 6.0), ACT.RELU_N1_TO_1: (-1.0, 1.0)}
    least, most = bounds.get(activation(op), (-np.inf, np.inf))
    return min(max(lo, least), 0.0), max(min(hi, most), 0.0)
