"""x relu6(x + 3) / 6, in any order and spelling, becomes HARD_SWISH.

x * (relu6(x + 3) * (1/6)),  (x / 6) * relu6(x + 3),  x * clip(x / 6 + 1/2, 0, 1), ...
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


def hard_swish(x: np.ndarray) -> np.ndarray:
    return x * np.clip(x + 3, 0, 6) / 6


def check(op: Op, view: View) -> _Match | No:
    for function in elementwise_functions(op, view):
        if not function.shape and function.equals(hard_swish):
            return _Match(op, function.source)
    return No("what it computes is not x relu6(x + 3) / 6")


def apply(m: _Match, view: View) -> None:
    view.replace(m.op, [new_op("HARD_SWISH", [m.source], m.op.outputs[0], "HardSwishOptions")])


RULE = Rule(name="recover_hard_swish", roots=frozenset({"MUL", "DIV"}), check=check, apply=apply)
