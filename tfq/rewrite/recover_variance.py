"""The variance as a difference of two means becomes the mean of a squared difference.

    MEAN(x^2) - MEAN(x)^2  ->  MEAN((x - MEAN(x))^2)

The left side subtracts two large numbers that nearly cancel: with 8 or 16 bits nothing is left of
a small variance. A RELU or MAXIMUM(., 0) that guards the left side against negative rounding is
not needed any more, but harmless.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import No, Rule, View, like, new_op
from tfq.rewrite.match import activation, axes, is_float


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    x: Tensor
    mean_of_squares: Op
    mean: Op


def _squared(tensor: Tensor | None, view: View) -> Tensor | None:
    op = view.made_by(tensor, "MUL", "SQUARE")
    if op is None or activation(op) or any(t is not op.input(0) for t in op.inputs):
        return None
    return op.input(0)


def check(op: Op, view: View) -> _Match | No:
    if activation(op) not in (0, 1) or not is_float(op.outputs[0]):
        return No("not of floats, or with an unusual activation")
    mean_of_squares = view.made_by(op.input(0), "MEAN")
    mean_tensor = _squared(op.input(1), view)
    mean = view.made_by(mean_tensor, "MEAN")
    if mean_of_squares is None or mean is None:
        return No("not a mean minus a squared mean")
    x = _squared(mean_of_squares.input(0), view)
    if x is None or mean.input(0) is not x:
        return No("the means are not of x^2 and x")
    rank = len(x.shape)
    along = axes(mean.input(1), rank)
    if along is None or along != axes(mean_of_squares.input(1), rank):
        return No("the means run over different axes")
    if not mean.options.keepDims or not mean_of_squares.options.keepDims:
        return No("the means drop their axes")
    return _Match(op, x, mean_of_squares, mean)


def apply(m: _Match, view: View) -> None:
    out = m.op.outputs[0]
    centred = view.tensor(f"{out.name}/centred", m.x.shape)
    squares = view.tensor(f"{out.name}/squares", m.x.shape)
    view.replace(
        m.op,
        [
            new_op("SUB", [m.x, m.mean.outputs[0]], centred, "SubOptions"),
            new_op("MUL", [centred, centred], squares, "MulOptions"),
            like(m.mean_of_squares, [squares, m.mean_of_squares.input(1)], out),
        ],
    )


RULE = Rule(name="recover_variance", roots=frozenset({"SUB"}), check=check, apply=apply)
