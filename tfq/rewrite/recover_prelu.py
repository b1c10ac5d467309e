"""A different slope below zero, written with other ops, becomes LEAKY_RELU or PRELU.

    relu(x) + a (x - |x|) / 2        (how TensorFlow and PyTorch write PReLU)
    relu(x) - a relu(-x)
    max(x, a x)                      for a < 1
    x > 0 ? x : a x

are all x for x >= 0 and a x below; a is read off at x = -1. One slope for all elements gives
LEAKY_RELU, a slope per channel (or per element) gives PRELU.
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
    slope: np.ndarray


def check(op: Op, view: View) -> _Match | No:
    for function in elementwise_functions(op, view):
        if len(function.ops) == 1:
            continue
        slope = -function(np.array([-1.0]))[0].astype(np.float32)
        if not np.all(np.isfinite(slope)) or np.all(slope == 1) or np.all(slope == 0):
            continue
        if np.all(slope == -1):
            continue

        def leaky(x: np.ndarray, slope: np.ndarray = slope) -> np.ndarray:
            return np.where(x < 0, x * slope.astype(np.float64), x)

        if function.equals(leaky):
            return _Match(op, function.source, slope)
    return No("what it computes is not x above zero and a x below")


def apply(m: _Match, view: View) -> None:
    out = m.op.outputs[0]
    flat = m.slope.reshape(-1)
    if np.all(flat == flat[0]):
        options = {"alpha": float(flat[0])}
        view.replace(m.op, [new_op("LEAKY_RELU", [m.source], out, "LeakyReluOptions", **options)])
        return
    # PRELU wants the batch left out, as Keras writes it.
    shape = m.slope.shape
    if len(shape) == len(out.shape) and shape[0] == 1:
        shape = shape[1:]
    alpha = view.const(f"{out.name}/alpha", m.slope.reshape(shape))
    view.replace(m.op, [new_op("PRELU", [m.source, alpha], out)])


RULE = Rule(
    name="recover_prelu",
    roots=frozenset({"ADD", "SUB", "MAXIMUM", "MINIMUM", "SELECT", "SELECT_V2"}),
    check=check,
    apply=apply,
)
