"""Clamps written with other ops become RELU, RELU6 or RELU_N1_TO_1.

    min(max(x, 0), 6), relu(min(x, 6)), x > 0 ? x : 0, ...  ->  RELU6(x), RELU(x)

in every order and with any detour that computes the same; `elementwise` says how that is decided.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.elementwise import elementwise_functions

# name: (lower bound, upper bound)
_BOUNDS = {"RELU": (0.0, np.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    name: str
    source: Tensor


def check(op: Op, view: View) -> _Match | No:
    for function in elementwise_functions(op, view):
        if function.shape:
            continue
        lo, hi = function(np.array([-1e3, 1e3]))
        for name, (low, high) in _BOUNDS.items():
            if lo != low or hi != min(high, 1e3) or (len(function.ops) == 1 and op.name == name):
                continue
            if function.equals(lambda x, low=low, high=high: np.clip(x, low, high)):  # type: ignore[misc]
                return _Match(op, name, function.source)
    return No("what it computes is none of the clamps")


def apply(m: _Match, view: View) -> None:
    view.replace(m.op, [new_op(m.name, [m.source], m.op.outputs[0])])


RULE = Rule(
    name="recover_relu",
    roots=frozenset({"MAXIMUM", "MINIMUM", "SELECT", "SELECT_V2", "RELU", "RELU6", "MUL", "ADD"}),
    check=check,
    apply=apply,
)
