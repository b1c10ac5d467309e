"""Powers and quotients of square roots become SQRT, RSQRT and MUL.

    POW(x, 1/2) -> SQRT(x),  POW(x, -1/2) -> RSQRT(x),  1 / SQRT(x) -> RSQRT(x)
    y / SQRT(x) -> y * RSQRT(x)

so that normalisations are written in one way, and because DIV has no int8 kernel.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import activation, is_float, scalar


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    name: str
    radicand: Tensor
    factor: Tensor | None


def check(op: Op, view: View) -> _Match | No:
    a, b, out = op.input(0), op.input(1), op.outputs[0]
    if not is_float(a, b, out):
        return No("not of floats")
    if op.name == "POW":
        names = {0.5: "SQRT", -0.5: "RSQRT"}
        name = names.get(scalar(b) or 0.0)
        if name is None or a.shape != out.shape:
            return No("the exponent is not 1/2 or -1/2")
        return _Match(op, name, a, None)
    root = view.made_by(b, "SQRT")
    if root is None:
        return No("it does not divide by a square root")
    if scalar(a) == 1 and b.shape == out.shape and not activation(op):
        return _Match(op, "RSQRT", root.input(0), None)
    return _Match(op, "RSQRT", root.input(0), a)


def apply(m: _Match, view: View) -> None:
    out = m.op.outputs[0]
    if m.factor is None:
        view.replace(m.op, [new_op(m.name, [m.radicand], out)])
        return
    inverse = view.tensor(f"{out.name}/rsqrt", m.radicand.shape)
    fused = {"fusedActivationFunction": activation(m.op)}
    view.replace(
        m.op,
        [
            new_op(m.name, [m.radicand], inverse),
            new_op("MUL", [m.factor, inverse], out, "MulOptions", **fused),
        ],
    )


RULE = Rule(name="recover_rsqrt", roots=frozenset({"POW", "DIV"}), check=check, apply=apply)
