"""A clamp moves into the op before it.

    RELU(f(x))  ->  f(x) with a fused RELU          likewise RELU6, RELU_N1_TO_1

for the ops whose integer kernels clamp for free; a RESHAPE or TRANSPOSE between the two is stepped
over. The op before must have no activation yet, or one that the new one absorbs:
RELU6(RELU(y)) = RELU6(y), RELU(RELU6(y)) = RELU6(y).
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Op
from tfq.graph.optable import MOVES, op_names
from tfq.rewrite.core import No, Rule, View, like
from tfq.rewrite.match import ACT, activation

_CODES = {"RELU": ACT.RELU, "RELU6": ACT.RELU6, "RELU_N1_TO_1": ACT.RELU_N1_TO_1}
_PRODUCERS = op_names(lambda row: row.fused_activation)
# (activation of the producer, activation after it) -> both in one.
_COMBINED = {
    (ACT.RELU, ACT.RELU): ACT.RELU,
    (ACT.RELU, ACT.RELU6): ACT.RELU6,
    (ACT.RELU6, ACT.RELU): ACT.RELU6,
    (ACT.RELU6, ACT.RELU6): ACT.RELU6,
}


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    producer: Op
    code: int
    move: Op | None


def check(op: Op, view: View) -> _Match | No:
    x = op.input(0)
    move = view.made_by(x, *MOVES)
    y = x if move is None else move.input(0)
    producer = view.made_by(y, *_PRODUCERS)
    if producer is None or not hasattr(producer.options, "fusedActivationFunction"):
        return No("the op before it cannot clamp")
    if x.dtype != "float32" or not (view.private(x) and view.private(y)):
        return No("what it clamps is read by others too")
    before, code = activation(producer), _CODES[op.name]
    if before != ACT.NONE:
        if (before, code) not in _COMBINED:
            return No("the op before it has another activation")
        code = _COMBINED[before, code]
    return _Match(op, producer, code, move)


def apply(m: _Match, view: View) -> None:
    out = m.op.outputs[0]
    if m.move is None:
        fused = like(m.producer, m.producer.inputs, out, fusedActivationFunction=m.code)
        view.replace(m.op, [fused])
        return
    source = m.move.input(0)
    clamped = view.tensor(source.name, source.shape)
    fused = like(m.producer, m.producer.inputs, clamped, fusedActivationFunction=m.code)
    view.replace(m.op, [fused, like(m.move, [clamped, *m.move.inputs[1:]], out)])


RULE = Rule(name="fuse_activation", roots=frozenset(_CODES), check=check, apply=apply)
