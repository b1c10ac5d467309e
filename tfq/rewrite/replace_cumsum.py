"""CUMSUM becomes a product with a triangular matrix of ones.

    y[..., j, ...] = sum_{i <= j} x[..., i, ...]  ->  BATCH_MATMUL(T, x),  T[j, i] = 1 for i <= j

with x as [outer, n, inner]; i < j when exclusive, i >= j when reversed. Ones are exact in 8 bits,
and the sum is accumulated in 32. SEGMENT_SUM and UNSORTED_SEGMENT_SUM by constant ids are the same
with T[j, i] = 1 where id[i] = j.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import Op
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import axes, ints, is_float, static
from tfq.rewrite.replace_conv3d import reshape


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    matrix: np.ndarray
    axis: int


def check(op: Op, view: View) -> _Match | No:
    x = op.input(0)
    if not is_float(x) or not static(x):
        return No("not of static floats")
    if op.name == "CUMSUM":
        axis = axes(op.input(1), len(x.shape))
        if axis is None:
            return No("the axis is computed")
        n = x.shape[axis[0]]
        matrix = np.tri(n, k=-1 if op.options.exclusive else 0)
        return _Match(op, matrix.T if op.options.reverse else matrix, axis[0])
    ids = ints(op.input(1))
    if ids is None or len(op.input(1).shape) != 1:
        return No("the segments are computed")
    rows = max(ids, default=-1) + 1
    if op.name == "UNSORTED_SEGMENT_SUM":
        number = ints(op.input(2))
        if number is None:
            return No("the number of segments is computed")
        rows = number[0]
    return _Match(op, (np.arange(rows)[:, None] == np.array(ids)).astype(float), 0)


def apply(m: _Match, view: View) -> None:
    x, out = m.op.input(0), m.op.outputs[0]
    outer = int(np.prod(x.shape[: m.axis], dtype=np.int64))
    inner = int(np.prod(x.shape[m.axis + 1 :], dtype=np.int64))
    rows, n = m.matrix.shape
    # Converters write a placeholder for the number of segments.
    out.shape = (*x.shape[: m.axis], rows, *x.shape[m.axis + 1 :])
    out.signature = None
    flat = view.tensor(f"{out.name}/flat", (outer, n, inner))
    summed = view.tensor(f"{out.name}/summed", (outer, rows, inner))
    matrix = view.const(f"{out.name}/matrix", m.matrix[None])
    view.replace(
        m.op,
        [
            reshape(x, list(flat.shape), flat, view),
            new_op("BATCH_MATMUL", [matrix, flat], summed, "BatchMatMulOptions"),
            reshape(summed, list(out.shape), out, view),
        ],
    )


RULE = Rule(
    name="replace_cumsum",
    roots=frozenset({"CUMSUM", "SEGMENT_SUM", "UNSORTED_SEGMENT_SUM"}),
    check=check,
    apply=apply,
)
