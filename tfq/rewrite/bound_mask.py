"""The minus infinity of an attention mask becomes a number that 8 bits can hold.

    SOFTMAX(mask ? x : -1e9)       ->  SOFTMAX(mask ? x : min(x) - 12)
    SOFTMAX(x + m), m in {0, -1e9} ->  the same
    SOFTMAX(x + m * -1e9)          ->  SOFTMAX(x - m (max(x) - min(x) + 12))

where min and max are over the whole tensor, taken at run time. Masked elements are then at least
12 below the largest of their row, so they weigh less than exp(-12) = 6e-6 of it, instead of 0; and
rows that are masked entirely stay uniform. Left as it is, one step of the 8-bit grid would be 4e6
wide and every score would be rounded to nothing.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import activation, is_float, scalar

_DEPTH = 12.0
_HUGE = -1e3


@dataclasses.dataclass(frozen=True)
class _Match:
    """`scores` where `keep` holds; or minus `factor` times a large number."""

    op: Op
    scores: Tensor
    keep: Tensor | None = None
    kept_first: bool = True
    added: np.ndarray | None = None
    factor: Tensor | None = None


def _huge(tensor: Tensor) -> bool:
    value = scalar(tensor)
    return value is not None and value <= _HUGE


def check(op: Op, view: View) -> _Match | No:
    out = op.outputs[0]
    readers = view.readers(out)
    if not is_float(out) or view.is_output(out) or not readers:
        return No("not of floats")
    if any(r.name != "SOFTMAX" or r.options.beta != 1 for r in readers):
        return No("its result is not for SOFTMAX alone")
    if op.name != "ADD":
        a, b = op.input(1), op.input(2)
        if _huge(b) and not a.is_const:
            return _Match(op, a, keep=op.input(0))
        if _huge(a) and not b.is_const:
            return _Match(op, b, keep=op.input(0), kept_first=False)
        return No("neither side is a large negative constant")
    if activation(op):
        return No("it has a fused activation")
    for x, m in ((op.input(0), op.input(1)), (op.input(1), op.input(0))):
        if x.is_const or x.shape != out.shape:
            continue
        if m.is_const:
            values = m.values()
            if values.min(initial=0) <= _HUGE:
                return _Match(op, x, added=values)
            continue
        product = view.made_by(m, "MUL")
        if product is None or activation(product):
            continue
        for factor, big in (product.inputs, product.inputs[::-1]):
            if factor is not None and big is not None and big.is_const and _huge(big):
                return _Match(op, x, factor=factor)
    return No("it adds nothing large and negative")


def apply(m: _Match, view: View) -> None:
    out, x = m.op.outputs[0], m.scores
    name, rank = out.name, len(m.scores.shape)
    every = view.const(f"{name}/axes", np.arange(rank), "int32")
    keep_dims = {"keepDims": True}

    def reduced(hint: str) -> Tensor:
        return view.tensor(f"{name}/{hint}", [1] * rank)

    low = reduced("min")
    ops = [new_op("REDUCE_MIN", [x, every], low, "ReducerOptions", **keep_dims)]
    if m.factor is not None:
        high, spread, reach = reduced("max"), reduced("spread"), reduced("reach")
        shift = view.tensor(f"{name}/shift", np.broadcast_shapes(m.factor.shape, reach.shape))
        depth = view.const(f"{name}/depth", _DEPTH)
        ops += [
            new_op("REDUCE_MAX", [x, every], high, "ReducerOptions", **keep_dims),
            new_op("SUB", [high, low], spread, "SubOptions"),
            new_op("ADD", [spread, depth], reach, "AddOptions"),
            new_op("MUL", [m.factor, reach], shift, "MulOptions"),
            new_op("SUB", [x, shift], out, "SubOptions"),
        ]
        view.replace(m.op, ops)
        return
    fill = reduced("fill")
    ops.append(new_op("ADD", [low, view.const(f"{name}/depth", -_DEPTH)], fill, "AddOptions"))
    keep, scores = m.keep, x
    if m.added is not None:
        kept = m.added > _HUGE
        keep = view.const(f"{name}/keep", kept, "bool")
        rest = np.where(kept, m.added, 0).astype(np.float32)
        if rest.any():
            scores = view.tensor(f"{name}/scores", x.shape)
            ops.insert(
                0, new_op("ADD", [x, view.const(f"{name}/rest", rest)], scores, "AddOptions")
            )
            ops[1].inputs[0] = scores
    sides = [scores, fill] if m.kept_first else [fill, scores]
    ops.append(new_op("SELECT_V2", [keep, *sides], out, "SelectV2Options"))
    view.replace(m.op, ops)


RULE = Rule(
    name="bound_mask", roots=frozenset({"SELECT", "SELECT_V2", "ADD"}), check=check, apply=apply
)
