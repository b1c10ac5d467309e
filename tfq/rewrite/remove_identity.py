"""Ops that change nothing disappear.

    RESHAPE, SQUEEZE, EXPAND_DIMS to the same shape; TRANSPOSE by 0, 1, 2, ...; PAD by zero;
    TILE by one; BROADCAST_TO, SLICE and STRIDED_SLICE to everything; CONCATENATION of one;
    x + 0, x - 0, x * 1, x / 1; CAST to the same type, or through float16/float64 and back.

The way through float16 rounds in the source model; leaving the rounding out only brings the result
closer to what was meant, and integer kernels have no float16.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import No, Rule, View
from tfq.rewrite.match import activation, const_side, ints, scalar

_SHAPERS = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "BROADCAST_TO", "SLICE"})
_NEUTRAL = {"ADD": 0.0, "SUB": 0.0, "MUL": 1.0, "DIV": 1.0}
_FLOATS = ("float32", "float16", "bfloat16", "float64")


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    source: Tensor


def _source(op: Op, view: View) -> Tensor | No:
    """The tensor that the op's output equals."""
    if op.name in _NEUTRAL:
        if activation(op):
            return No("it has a fused activation")
        sides = const_side(op)
        if sides is None or scalar(sides[1]) != _NEUTRAL[op.name]:
            return No(f"neither side is {_NEUTRAL[op.name]:g}")
        if not sides[2] and op.name in ("SUB", "DIV"):
            return No("the constant is on the left")
        return sides[0]
    if op.name == "CONCATENATION":
        if len(op.inputs) != 1 or activation(op):
            return No("it has several inputs, or an activation")
        return op.input(0)
    x = op.input(0)
    if op.name == "CAST":
        before = view.made_by(x, "CAST")
        if before is not None and x.dtype in _FLOATS and before.input(0).dtype in _FLOATS:
            x = before.input(0)
        return x
    if op.name == "TRANSPOSE":
        return x if ints(op.input(1)) == tuple(range(len(x.shape))) else No("it permutes")
    if op.name in ("PAD", "PADV2", "TILE"):
        values = ints(op.input(1))
        neutral = 1 if op.name == "TILE" else 0
        return x if values is not None and set(values) <= {neutral} else No("it adds elements")
    if op.name == "STRIDED_SLICE":
        strides = ints(op.input(3))
        return x if strides is not None and set(strides) <= {1} else No("it has strides")
    return x


def check(op: Op, view: View) -> _Match | No:
    out = op.outputs[0]
    source = _source(op, view)
    if isinstance(source, No):
        return source
    if source.shape != out.shape or source.dtype != out.dtype:
        return No("the shape or the type changes")
    if source.quant is not None or out.quant is not None:
        return No("it is quantized")
    if source.is_const and view.is_output(out):
        return No("the output is a constant")
    if not view.can_bypass(op, source):
        return No("it gives an output of the model its name")
    if source.signature is not None and source.signature != out.signature:
        return No("the shape is known only at run time")
    return _Match(op, source)


def apply(m: _Match, view: View) -> None:
    view.bypass(m.op, m.source)


RULE = Rule(
    name="remove_identity",
    roots=_SHAPERS
    | frozenset(_NEUTRAL)
    | {"TRANSPOSE", "PAD", "PADV2", "TILE", "STRIDED_SLICE", "CONCATENATION", "CAST"},
    check=check,
    apply=apply,
)
