"""Rounding towards zero, and floors of quotients, without integer tensors.

    CAST(CAST(x, int), float)  ->  SIGN(x) * FLOOR(ABS(x))
    FLOOR_DIV(a, b)            ->  FLOOR(DIV(a, b))      for two computed sides

There is no kernel from a quantized tensor to its integer part. The ops on the right are elementwise
in x, so 8 bits hold them as a table.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import is_float

_INTEGERS = ("int8", "int16", "int32", "int64")


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    x: Tensor


def check(op: Op, view: View) -> _Match | No:
    if not is_float(op.outputs[0]):
        return No("the result is not float")
    if op.name == "FLOOR_DIV":
        if op.input(0).is_const or op.input(1).is_const:
            return No("by or of a constant it is elementwise as it is")
        return _Match(op, op.input(0))
    before = view.made_by(op.input(0), "CAST")
    if before is None or op.input(0).dtype not in _INTEGERS or not is_float(before.input(0)):
        return No("it does not come from float by way of an integer")
    return _Match(op, before.input(0))


def apply(m: _Match, view: View) -> None:
    out = m.op.outputs[0]
    name = out.name
    if m.op.name == "FLOOR_DIV":
        quotient = view.tensor(f"{name}/quotient", out.shape)
        view.replace(
            m.op,
            [
                new_op("DIV", list(m.op.inputs), quotient, "DivOptions"),
                new_op("FLOOR", [quotient], out),
            ],
        )
        return
    size, whole, sign = (view.tensor(f"{name}/{h}", out.shape) for h in ("abs", "floor", "sign"))
    view.replace(
        m.op,
        [
            new_op("ABS", [m.x], size),
            new_op("FLOOR", [size], whole),
            new_op("SIGN", [m.x], sign),
            new_op("MUL", [sign, whole], out, "MulOptions"),
        ],
    )


RULE = Rule(
    name="replace_truncation", roots=frozenset({"CAST", "FLOOR_DIV"}), check=check, apply=apply
)
