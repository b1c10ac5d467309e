"""L2_POOL_2D(x)  ->  SQRT(AVERAGE_POOL_2D(MUL(x, x))).

A fused RELU is dropped, for roots are not negative; another clamp becomes an op of its own.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Op
from tfq.rewrite.core import No, Rule, View, like, new_op
from tfq.rewrite.match import ACT, activation, is_float

_CLAMPS = {ACT.RELU6: "RELU6", ACT.RELU_N1_TO_1: "RELU_N1_TO_1"}


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op


def check(op: Op, view: View) -> _Match | No:
    if not is_float(op.input(0)) or activation(op) not in (ACT.NONE, ACT.RELU, *_CLAMPS):
        return No("not of floats, or with an unusual activation")
    return _Match(op)


def apply(m: _Match, view: View) -> None:
    x, out = m.op.input(0), m.op.outputs[0]
    squares = view.tensor(f"{out.name}/squares", x.shape)
    means = view.tensor(f"{out.name}/means", out.shape)
    pool = like(m.op, [squares], means, fusedActivationFunction=ACT.NONE)
    pool.name = "AVERAGE_POOL_2D"
    ops = [new_op("MUL", [x, x], squares, "MulOptions"), pool]
    clamp = _CLAMPS.get(activation(m.op))
    if clamp is None:
        ops.append(new_op("SQRT", [means], out))
    else:
        root = view.tensor(f"{out.name}/root", out.shape)
        ops += [new_op("SQRT", [means], root), new_op(clamp, [root], out)]
    view.replace(m.op, ops)


RULE = Rule(name="replace_l2_pool", roots=frozenset({"L2_POOL_2D"}), check=check, apply=apply)
