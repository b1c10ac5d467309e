"""Moves a reshape or transpose below the steep elementwise op that follows it.

    U(MOVE(E(x)))  ->  MOVE(U(E(x)))

for elementwise E with scalar constants and U a logarithm, root or power. The elementwise ops come
to stand next to each other, so that a later stage sees them as one function of one tensor, which
needs no grid in its middle: log(p + eps) of a spectrum that was transposed in between.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Op, Tensor
from tfq.graph.optable import MOVES, spec
from tfq.rewrite.core import No, Rule, View
from tfq.rewrite.match import is_float, static


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    move: Op
    source: Tensor


def _is_elementwise(op: Op) -> bool:
    """Whether the op is y = f(x), value by value, with scalar constants at most."""
    s = spec(op.name)
    if s is None or not s.elementwise or len(op.outputs) != 1:
        return False
    computed = {t for t in op.inputs if t is not None and not t.is_const}
    scalars = all(t is None or not t.is_const or t.size == 1 for t in op.inputs)
    x = next(iter(computed), None)
    return (
        len(computed) == 1
        and scalars
        and x is not None
        and is_float(x, op.outputs[0])
        and x.shape == op.outputs[0].shape
    )


def check(op: Op, view: View) -> _Match | No:
    if not _is_elementwise(op):
        return No("not an elementwise op with scalar constants")
    x = next(t for t in op.inputs if t is not None and not t.is_const)
    move = view.made_by(x, *MOVES)
    if move is None or not view.private(x) or not static(x, op.outputs[0]):
        return No("nothing before it moves values for it alone")
    source = move.input(0)
    before = view.producer(source)
    if before is None or not _is_elementwise(before) or not static(source):
        return No("what is moved is not the result of an elementwise op")
    if not view.private(source):
        return No("others read what is moved")
    return _Match(op, move, source)


def apply(m: _Match, view: View) -> None:
    out, x = m.op.outputs[0], m.move.outputs[0]
    mid = view.tensor(f"{out.name}/unmoved", m.source.shape)
    inputs = [m.source if t is x else t for t in m.op.inputs]
    view.replace(
        m.op,
        [
            dataclasses.replace(m.op, inputs=inputs, outputs=[mid]),
            dataclasses.replace(m.move, inputs=[mid, *m.move.inputs[1:]], outputs=[out]),
        ],
    )


RULE = Rule(
    name="sink_moves",
    roots=frozenset({"LOG", "SQRT", "RSQRT", "POW"}),
    check=check,
    apply=apply,
)
