"""Squares become products, for which there are integer kernels of every type.

SQUARE(x)                 ->  MUL(x, x)
POW(x, 2)                 ->  MUL(x, x)
SQUARED_DIFFERENCE(a, b)  ->  d = SUB(a, b); MUL(d, d)      (no int16 kernel otherwise)
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import Op
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import is_float, scalar


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op


def check(op: Op, view: View) -> _Match | No:
    if not is_float(op.input(0), op.outputs[0]):
        return No("not of floats")
    if op.name == "POW" and (scalar(op.input(1)) != 2 or op.input(0).shape != op.outputs[0].shape):
        return No("the exponent is not 2")
    return _Match(op)


def apply(m: _Match, view: View) -> None:
    out, x = m.op.outputs[0], m.op.input(0)
    ops = []
    if m.op.name == "SQUARED_DIFFERENCE":
        y = m.op.input(1)
        shape = np.broadcast_shapes(x.shape, y.shape)
        d = view.tensor(f"{out.name}/difference", shape)
        ops.append(new_op("SUB", [x, y], d, "SubOptions"))
        x = d
    view.replace(m.op, [*ops, new_op("MUL", [x, x], out, "MulOptions")])


RULE = Rule(
    name="replace_square",
    roots=frozenset({"SQUARE", "POW", "SQUARED_DIFFERENCE"}),
    check=check,
    apply=apply,
)
