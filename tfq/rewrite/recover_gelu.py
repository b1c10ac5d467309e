"""GELU in its tanh form becomes one op.

    x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2  ->  GELU(x, approximate)

in any order and spelling. (The erf form cannot arrive in pieces: there is no ERF op.)
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


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def check(op: Op, view: View) -> _Match | No:
    for function in elementwise_functions(op, view):
        if not function.shape and len(function.ops) > 3 and function.equals(gelu_tanh):
            return _Match(op, function.source)
    return No("what it computes is not GELU")


def apply(m: _Match, view: View) -> None:
    options = {"approximate": True}
    view.replace(m.op, [new_op("GELU", [m.source], m.op.outputs[0], "GeluOptions", **options)])


RULE = Rule(name="recover_gelu", roots=frozenset({"MUL"}), check=check, apply=apply)
