"""L2_NORMALIZATION(x)  ->  x * RSQRT(MAXIMUM(SUM(x^2), 1e-12)), for models that compute in int16.

Its integer kernel has 8 bits only; the ops on the right have 16. LiteRT's own definition is
x / max(sqrt(sum(x^2)), 1e-6) along the last axis, which is the same.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Op
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import activation, is_float


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op


def check(op: Op, view: View) -> _Match | No:
    return _Match(op) if is_float(op.input(0)) else No("not of floats")


def apply(m: _Match, view: View) -> None:
    x, out = m.op.input(0), m.op.outputs[0]
    name, narrow = out.name, (*x.shape[:-1], 1)
    squares = view.tensor(f"{name}/squares", x.shape)
    total, guarded, inverse = (
        view.tensor(f"{name}/{hint}", narrow) for hint in ("sum", "guarded", "inverse")
    )
    axis = view.const(f"{name}/axis", [len(x.shape) - 1], "int32")
    tiny = view.const(f"{name}/tiny", 1e-12)
    fused = {"fusedActivationFunction": activation(m.op)}
    view.replace(
        m.op,
        [
            new_op("MUL", [x, x], squares, "MulOptions"),
            new_op("SUM", [squares, axis], total, "ReducerOptions", keepDims=True),
            new_op("MAXIMUM", [total, tiny], guarded, "MaximumMinimumOptions"),
            new_op("RSQRT", [guarded], inverse),
            new_op("MUL", [x, inverse], out, "MulOptions", **fused),
        ],
    )


RULE = Rule(name="expand_l2_norm", roots=frozenset({"L2_NORMALIZATION"}), check=check, apply=apply)
