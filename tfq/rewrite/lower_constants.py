"""A constant of one value that has more dimensions than what it meets loses them.

    op(x [8], c [1, 1])  ->  RESHAPE(op(x [8], c []), [1, 8])

so that the op gives what it reads its shape: lookup tables and other rewrites look for that.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Op
from tfq.graph.optable import op_names
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import const_side, static


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    at: int


def check(op: Op, view: View) -> _Match | No:
    if len(op.inputs) != 2 or op.outputs[0].dtype != "float32":
        return No("not a binary op on floats")
    sides = const_side(op)
    if sides is None:
        return No("not one computed and one constant float side")
    x, const, right = sides
    if const.size != 1 or len(const.shape) <= len(x.shape) or not static(x, op.outputs[0]):
        return No("the constant adds no dimension")
    return _Match(op, int(right))


def apply(m: _Match, view: View) -> None:
    op, out = m.op, m.op.outputs[0]
    inputs = list(op.inputs)
    inputs[m.at] = view.const(f"{out.name}/constant", op.input(m.at).values().item())
    x = op.input(1 - m.at)
    inner = view.tensor(f"{out.name}/lower", x.shape)
    lower = dataclasses.replace(op, inputs=inputs, outputs=[inner])
    shape = view.const(f"{out.name}/shape", out.shape, "int32")
    view.replace(op, [lower, new_op("RESHAPE", [inner, shape], out, "ReshapeOptions")])


RULE = Rule(
    name="lower_constants",
    roots=op_names(lambda row: row.elementwise),
    check=check,
    apply=apply,
)
