"""BATCH_MATMUL by a constant matrix becomes FULLY_CONNECTED.

    x [..., n] times w [n, m]  ->  FULLY_CONNECTED(x, w^T)

FULLY_CONNECTED takes a scale for every output channel and a bias; BATCH_MATMUL has one scale for
the whole constant. Leading dimensions of w must be 1.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import is_float


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    x: Tensor
    weights: np.ndarray


def check(op: Op, view: View) -> _Match | No:
    x, w, out = op.input(0), op.input(1), op.outputs[0]
    if not is_float(x, w, out) or x.is_const or not w.is_const:
        return No("not a computed tensor by a float constant")
    if op.options.adjX:
        return No("the computed side is transposed")
    if any(d != 1 for d in w.shape[:-2]) or len(out.shape) != len(x.shape):
        return No("the constant is a different matrix for every entry of the batch")
    matrix = w.values().reshape(w.shape[-2:])
    return _Match(op, x, matrix if op.options.adjY else matrix.T)


def apply(m: _Match, view: View) -> None:
    out = m.op.outputs[0]
    weights = view.const(m.op.input(1).name, np.ascontiguousarray(m.weights))
    options = {"keepNumDims": len(out.shape) != 2}
    view.replace(
        m.op,
        [new_op("FULLY_CONNECTED", [m.x, weights, None], out, "FullyConnectedOptions", **options)],
    )


RULE = Rule(name="recover_dense", roots=frozenset({"BATCH_MATMUL"}), check=check, apply=apply)
