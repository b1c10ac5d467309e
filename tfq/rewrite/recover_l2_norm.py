"""x / |x| along one axis becomes L2_NORMALIZATION.

    x * rsqrt(max(sum(x^2), eps)),  x * min(rsqrt(sum(x^2)), 1/eps),  x * rsqrt(sum(x^2) + eps)

LiteRT computes x / max(sqrt(sum(x^2)), 1e-6) along the last axis, so the forms differ only where
|x| is below about 1e-3, the largest eps (of the sum) that is taken for this being 1e-6. For another
axis a TRANSPOSE goes before and after.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import activation, axes, is_float, scalar

_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    x: Tensor
    axis: int


def _guarded_sum(inverse: Tensor, view: View) -> Op | No:
    """The SUM below a reciprocal root that is kept finite by a small number."""
    capped = view.made_by(inverse, "MINIMUM")
    if capped is not None:
        cap = scalar(capped.input(1))
        if cap is None or cap < _EPS**-0.5:
            return No("it caps the inverse at a small number")
        inverse = capped.input(0)
    root = view.made_by(inverse, "RSQRT")
    if root is None:
        return No("no RSQRT")
    total = root.input(0)
    guard = view.made_by(total, "MAXIMUM", "ADD")
    if guard is not None and not activation(guard):
        eps = scalar(guard.input(1))
        if eps is None or not 0 <= eps <= _EPS:
            return No("eps is too large to be left out")
        total = guard.input(0)
    elif capped is None:
        return No("nothing keeps it finite")
    return view.made_by(total, "SUM") or No("no SUM below the root")


def check(op: Op, view: View) -> _Match | No:
    out = op.outputs[0]
    if not is_float(out) or activation(op):
        return No("not of floats, or with an activation")
    reason = No("it does not multiply by an inverse root")
    for x, inverse in ((op.input(0), op.input(1)), (op.input(1), op.input(0))):
        if x.is_const or x.shape != out.shape or view.producer(inverse) is None:
            continue
        total = _guarded_sum(inverse, view)
        if isinstance(total, No):
            reason = total
            continue
        square = view.made_by(total.input(0), "MUL", "SQUARE")
        if square is None or any(t is not x for t in square.inputs) or activation(square):
            reason = No("the sum is not of x^2")
            continue
        axis = axes(total.input(1), len(x.shape))
        if axis is None or len(axis) != 1 or len(x.shape) > 4 or not total.options.keepDims:
            return No("not along one axis of at most four")
        return _Match(op, x, axis[0])
    return reason


def apply(m: _Match, view: View) -> None:
    out, rank = m.op.outputs[0], len(m.x.shape)
    if m.axis == rank - 1:
        view.replace(m.op, [new_op("L2_NORMALIZATION", [m.x], out, "L2NormOptions")])
        return
    swap = list(range(rank))
    swap[m.axis], swap[-1] = swap[-1], swap[m.axis]
    shape = [m.x.shape[i] for i in swap]
    perm = view.const(f"{out.name}/perm", swap, "int32")
    before = view.tensor(f"{out.name}/transposed", shape)
    after = view.tensor(f"{out.name}/normalised", shape)
    view.replace(
        m.op,
        [
            new_op("TRANSPOSE", [m.x, perm], before, "TransposeOptions"),
            new_op("L2_NORMALIZATION", [before], after, "L2NormOptions"),
            new_op("TRANSPOSE", [after, perm], out, "TransposeOptions"),
        ],
    )


RULE = Rule(name="recover_l2_norm", roots=frozenset({"MUL"}), check=check, apply=apply)
