"""The sigmoid written out becomes LOGISTIC, whose integer kernel has the finest fixed output grid.

1 / (1 + exp(-x)),  (1 + tanh(x / 2)) / 2,  exp(x) / (1 + exp(x)) is left: it overflows
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.elementwise import elementwise_functions


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    source: Tensor


def logistic(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def check(op: Op, view: View) -> _Match | No:
    for function in elementwise_functions(op, view):
        if not function.shape and len(function.ops) > 1 and function.equals(logistic):
            return _Match(op, function.source)
    return No("what it computes is not the sigmoid")


def apply(m: _Match, view: View) -> None:
    view.replace(m.op, [new_op("LOGISTIC", [m.source], m.op.outputs[0])])


RULE = Rule(
    name="recover_logistic", roots=frozenset({"DIV", "MUL", "ADD"}), check=check, apply=apply
)
