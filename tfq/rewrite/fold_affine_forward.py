"""A scale or shift per channel moves into the weights behind it.

    f(x * g, w, b)  ->  f(x, w g, b)
    f(x + h, w, b)  ->  f(x, w, b + sum_in w h)

for f in CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, with g and h a scalar or a vector over the
input channels. This is how Rescaling, Normalization, and a BatchNormalization before its layer
begin a model; folded, the raw input is quantized once. A shift folds only where nothing is padded:
SAME pads with 0, which is not what h would have made of it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import No, Rule, View, like
from tfq.rewrite.match import (
    PADDING,
    WEIGHTED,
    activation,
    broadcasts_to,
    const_side,
    is_float,
    per_channel,
)


@dataclasses.dataclass(frozen=True)
class _Match:
    f: Op
    x: Tensor
    values: np.ndarray
    scale: bool


def _pads(f: Op) -> bool:
    if f.name == "FULLY_CONNECTED" or f.options.padding == PADDING.VALID:
        return False
    o, weight = f.options, f.input(1)
    return weight.shape[1:3] != (1, 1) or (o.strideH, o.strideW) != (1, 1)


def check(op: Op, view: View) -> _Match | No:
    y, weight = op.input(0), op.input(1)
    bias = op.inputs[2] if len(op.inputs) > 2 else None
    before = view.made_by(y, "ADD", "MUL")
    if before is None or activation(before) or not view.private(y):
        return No("no plain scale or shift of its own before it")
    sides = const_side(before)
    if sides is None:
        return No("not one computed and one constant float side")
    x, const, _ = sides
    if x.shape != y.shape or not broadcasts_to(const, x.shape):
        return No("the constant widens its input")
    if not is_float(weight) or not weight.is_const or (bias is not None and not bias.is_const):
        return No("the weights are not float constants")
    if op.name == "CONV_2D" and weight.shape[3] != x.shape[3]:
        return No("it has groups")
    if op.name == "FULLY_CONNECTED" and weight.shape[1] != x.shape[-1]:
        return No("it flattens its input")
    values = per_channel(const, x.shape[-1])
    if values is None:
        return No("the constant varies along more than the channels")
    if view.on_grid and before.name == "MUL" and np.ptp(values) > 0:
        return No("training put the weights on a grid, which a factor for each input breaks")
    if before.name == "ADD" and _pads(op):
        return No("it pads with zeros, which the shift would have changed")
    return _Match(op, x, values, before.name == "MUL")


def apply(m: _Match, view: View) -> None:
    f, out = m.f, m.f.outputs[0]
    weight = f.input(1)
    bias = f.inputs[2] if len(f.inputs) > 2 else None
    w = weight.values().astype(np.float64)
    along = m.values.astype(np.float64)
    if f.name == "DEPTHWISE_CONV_2D":
        along = np.repeat(along, w.shape[3] // along.size)
    scaled = w * along
    if m.scale:
        inputs = [m.x, view.const(weight.name, scaled), *f.inputs[2:]]
    else:
        _, _, _, axis = WEIGHTED[f.name]
        others = tuple(i for i in range(w.ndim) if i != axis)
        b = scaled.sum(axis=others) + (0 if bias is None else bias.values())
        hint = f"{out.name}/bias" if bias is None else bias.name
        inputs = [m.x, weight, view.const(hint, b)]
    view.replace(f, [like(f, inputs, out)])


RULE = Rule(
    name="fold_affine_forward",
    roots=frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}),
    check=check,
    apply=apply,
)
