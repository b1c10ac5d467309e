"""A quotient of two computed tensors becomes a product.

    a / b  ->  a * (1 / b)

1 / b is elementwise in b alone, so 8 bits hold it as a table; there is no int8 kernel of DIV, and
the int16 one returns garbage for quotients below half a step. c / b with a scalar c is elementwise
already and stays; division by a constant is `fold_scalars`'.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Op
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import activation, is_float, scalar


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op


def check(op: Op, view: View) -> _Match | No:
    a, b = op.input(0), op.input(1)
    if not is_float(a, b, op.outputs[0]):
        return No("not of floats")
    if b.is_const:
        return No("it divides by a constant")
    if scalar(a) is not None and b.shape == op.outputs[0].shape:
        return No("it is a reciprocal already")
    return _Match(op)


def apply(m: _Match, view: View) -> None:
    a, b, out = m.op.input(0), m.op.input(1), m.op.outputs[0]
    inverse = view.tensor(f"{out.name}/reciprocal", b.shape)
    one = view.const(f"{out.name}/one", 1.0)
    fused = {"fusedActivationFunction": activation(m.op)}
    view.replace(
        m.op,
        [
            new_op("DIV", [one, b], inverse, "DivOptions"),
            new_op("MUL", [a, inverse], out, "MulOptions", **fused),
        ],
    )


RULE = Rule(name="replace_div", roots=frozenset({"DIV"}), check=check, apply=apply)
