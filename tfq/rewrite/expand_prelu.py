"""PRELU(x, a)  ->  RELU(x) + a * MINIMUM(x, 0), for models that compute in int16.

PRELU's integer kernel has 8 bits only; the three ops on the right all have 16.
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
    return _Match(op) if is_float(op.input(0), op.input(1)) else No("not of floats")


def apply(m: _Match, view: View) -> None:
    x, alpha, out = m.op.input(0), m.op.input(1), m.op.outputs[0]
    above, below, scaled = (
        view.tensor(f"{out.name}/{hint}", out.shape) for hint in ("above", "below", "scaled")
    )
    zero = view.const(f"{out.name}/zero", 0.0)
    view.replace(
        m.op,
        [
            new_op("RELU", [x], above),
            new_op("MINIMUM", [x, zero], below, "MaximumMinimumOptions"),
            new_op("MUL", [below, alpha], scaled, "MulOptions"),
            new_op("ADD", [above, scaled], out, "AddOptions"),
        ],
    )


RULE = Rule(name="expand_prelu", roots=frozenset({"PRELU"}), check=check, apply=apply)
