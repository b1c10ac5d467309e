"""LOG_SOFTMAX(x)  ->  d - LOG(SUM(EXP(d))), d = x - max(x), for models that compute in int16.

Its integer kernel has 8 bits only, on a fixed grid of 1/16; the ops on the right have 16.
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
    x, out = m.op.input(0), m.op.outputs[0]
    name, narrow = out.name, (*x.shape[:-1], 1)
    top, total, log = (view.tensor(f"{name}/{hint}", narrow) for hint in ("max", "sum", "log"))
    shifted, powers = (view.tensor(f"{name}/{hint}", x.shape) for hint in ("shifted", "exp"))
    axis = view.const(f"{name}/axis", [len(x.shape) - 1], "int32")
    view.replace(
        m.op,
        [
            new_op("REDUCE_MAX", [x, axis], top, "ReducerOptions", keepDims=True),
            new_op("SUB", [x, top], shifted, "SubOptions"),
            new_op("EXP", [shifted], powers, "ExpOptions"),
            new_op("SUM", [powers, axis], total, "ReducerOptions", keepDims=True),
            new_op("LOG", [total], log),
            new_op("SUB", [shifted, log], out, "SubOptions"),
        ],
    )


RULE = Rule(name="expand_log_softmax", roots=frozenset({"LOG_SOFTMAX"}), check=check, apply=apply)
