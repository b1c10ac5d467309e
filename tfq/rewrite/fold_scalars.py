"""Arithmetic with constants is brought to one MUL or one ADD.

    x / c            ->  x * (1/c)
    x - c            ->  x + (-c)
    (x * a) * b      ->  x * (a b)          likewise (x + a) + b  ->  x + (a + b)

Constants may be scalars or vectors. A product or sum in between that others read stays as well.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import activation, const_side


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    source: Tensor
    name: str
    values: np.ndarray


def check(op: Op, view: View) -> _Match | No:
    sides = const_side(op)
    if sides is None:
        return No("not one computed and one constant float side")
    x, const, right = sides
    c = const.values().astype(np.float64)
    if op.name in ("DIV", "SUB"):
        if not right:
            return No("the constant is on the left")
        if op.name == "SUB":
            return _Match(op, x, "ADD", -c)
        if np.any(c == 0) or np.any(~np.isfinite(1 / c.astype(np.float32))):
            return No("it divides by zero")
        return _Match(op, x, "MUL", 1 / c)
    before = view.made_by(x, op.name)
    if before is None or activation(before):
        return No(f"no plain {op.name} before it")
    inner = const_side(before)
    if inner is None or inner[0].shape != x.shape or not view.private(x):
        return No(f"the {op.name} before it has no constant, broadcasts, or has other readers")
    d = inner[1].values().astype(np.float64)
    try:
        both = c * d if op.name == "MUL" else c + d
    except ValueError:
        return No("the constants do not broadcast together")
    if both.size > max(c.size, d.size) or not np.all(np.isfinite(both.astype(np.float32))):
        return No("the combined constant would be larger, or overflows")
    return _Match(op, inner[0], op.name, both)


def apply(m: _Match, view: View) -> None:
    out = m.op.outputs[0]
    const = view.const(f"{out.name}/constant", m.values.astype(np.float32))
    options = "MulOptions" if m.name == "MUL" else "AddOptions"
    fused = {"fusedActivationFunction": activation(m.op)}
    view.replace(m.op, [new_op(m.name, [m.source, const], out, options, **fused)])


RULE = Rule(
    name="fold_scalars",
    roots=frozenset({"ADD", "SUB", "MUL", "DIV"}),
    check=check,
    apply=apply,
)
