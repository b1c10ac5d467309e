"""ADD_N(a, b, c, ...)  ->  ADD(ADD(a, b), c), ...

ADD_N has no integer kernel.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Op
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import is_float


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op


def check(op: Op, view: View) -> _Match | No:
    return _Match(op) if is_float(op.input(0)) else No("not of floats")


def apply(m: _Match, view: View) -> None:
    out = m.op.outputs[0]
    total, ops = m.op.input(0), []
    for i in range(1, len(m.op.inputs)):
        last = i == len(m.op.inputs) - 1
        target = out if last else view.tensor(f"{out.name}/sum_{i}", out.shape)
        ops.append(new_op("ADD", [total, m.op.input(i)], target, "AddOptions"))
        total = target
    view.replace(m.op, ops)


RULE = Rule(name="replace_add_n", roots=frozenset({"ADD_N"}), check=check, apply=apply)
