"""NEG(x)  ->  MUL(x, -1).

There is an int8 kernel of NEG, but it negates the raw integers and is wrong for any zero point.
As a product it also folds into weights and other constants.
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
    minus = view.const(f"{out.name}/minus_one", -1.0)
    view.replace(m.op, [new_op("MUL", [m.op.input(0), minus], out, "MulOptions")])


RULE = Rule(name="replace_neg", roots=frozenset({"NEG"}), check=check, apply=apply)
