"""Squares become products, for which there are integer kernels of every type.

SQUARE(x)                 ->  MUL(x, x)
POW(x, 2)                 ->  MUL(x, x)
SQUARED_DIFFERENCE(a, b)  ->  d = SUB(a, b); MUL(d, d)      where its mean or sum is taken

The last has an int8 kernel, better than two ops, but a variance is computed in int16
(`expand_squared_difference` does it for all when everything is).
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
    if op.name == "SQUARED_DIFFERENCE" and not any(
        r.name in ("MEAN", "SUM") for r in view.readers(op.outputs[0])
    ):
        return No("not part of a variance")
    return _Match(op)


def difference(op: Op, view: View) -> None:
    """Replaces a SQUARED_DIFFERENCE."""
    out, x, y = op.outputs[0], op.input(0), op.input(1)
    d = view.tensor(f"{out.name}/difference", np.broadcast_shapes(x.shape, y.shape))
    view.replace(
        op,
        [
            new_op("SUB", [x, y], d, "SubOptions"),
            new_op("MUL", [d, d], out, "MulOptions"),
        ],
    )


def apply(m: _Match, view: View) -> None:
    out, x = m.op.outputs[0], m.op.input(0)
    if m.op.name == "SQUARED_DIFFERENCE":
        difference(m.op, view)
    else:
        view.replace(m.op, [new_op("MUL", [x, x], out, "MulOptions")])


RULE = Rule(
    name="replace_square",
    roots=frozenset({"SQUARE", "POW", "SQUARED_DIFFERENCE"}),
    check=check,
    apply=apply,
)
