"""SQUARED_DIFFERENCE has no int16 kernel; a difference and a product have.

SQUARED_DIFFERENCE(a, b)  ->  d = SUB(a, b); MUL(d, d)
"""

from __future__ import annotations

from tfq.graph.model import Op
from tfq.rewrite import replace_square
from tfq.rewrite.core import No, Rule, View
from tfq.rewrite.match import is_float


def check(op: Op, view: View) -> Op | No:
    if not is_float(op.input(0), op.outputs[0]):
        return No("not of floats")
    return op


def apply(op: Op, view: View) -> None:
    replace_square.difference(op, view)


RULE = Rule(
    name="expand_squared_difference",
    roots=frozenset({"SQUARED_DIFFERENCE"}),
    check=check,
    apply=apply,
)
