"""A scale or shift per output channel moves into the weights before it.

    f(x, w, b) * g      ->  f(x, w g, b g)
    f(x, w, b) + h      ->  f(x, w, b + h)

for f in CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, TRANSPOSE_CONV, with g and h a scalar or a
vector over the output channels. This is what BatchNormalization leaves behind. A RESHAPE between
the two that keeps the last dimension is stepped over (Conv1D is written that way). f must have no
activation and no other reader; weights that are themselves computed (fake-quantized, say) stay.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import No, Rule, View, like
from tfq.rewrite.match import (
    WEIGHTED,
    activation,
    broadcasts_to,
    const_side,
    is_float,
    per_channel,
)

# Stands for minus infinity.
_MASK = -1000.0


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    f: Op
    reshape: Op | None
    scale: np.ndarray | None
    shift: np.ndarray | None


def check(op: Op, view: View) -> _Match | No:
    sides = const_side(op)
    if sides is None:
        return No("not one computed and one constant float side")
    x, const, _ = sides
    reshape = view.made_by(x, "RESHAPE")
    y = x if reshape is None else reshape.input(0)
    f = view.made_by(y, *WEIGHTED)
    if f is None or activation(f):
        return No("no weighted op without activation before it")
    if not (view.private(x) and view.private(y)):
        return No("the weighted op's result is read by others too")
    channels = y.shape[-1] if y.shape else 0
    if reshape is not None and x.shape[-1:] != y.shape[-1:]:
        return No("the RESHAPE between splits the channels")
    if op.outputs[0].shape != x.shape or not broadcasts_to(const, x.shape):
        return No("the constant widens the result")
    values = per_channel(const, channels)
    if values is None:
        return No("the constant varies along more than the channels")
    _, wi, bi, _ = WEIGHTED[f.name]
    weight, bias = f.input(wi), _bias(f, bi)
    if not weight.is_const or (bias is not None and not bias.is_const) or not is_float(weight):
        return No("the weights are not float constants")
    if op.name == "ADD" and values.min() <= _MASK and (values == 0).any():
        return No("the shift is an attention mask, which must not become part of the layer's range")
    scale, shift = (values, None) if op.name == "MUL" else (None, values)
    return _Match(op, f, reshape, scale, shift)


def _bias(f: Op, index: int) -> Tensor | None:
    return f.inputs[index] if index < len(f.inputs) else None


def apply(m: _Match, view: View) -> None:
    f, out = m.f, m.op.outputs[0]
    _, wi, bi, axis = WEIGHTED[f.name]
    weight, bias = f.input(wi), _bias(f, bi)
    y = f.outputs[0]
    b = np.zeros(y.shape[-1], np.float64) if bias is None else bias.values().astype(np.float64)
    inputs = list(f.inputs)
    if m.scale is not None:
        along = [1] * len(weight.shape)
        along[axis] = -1
        scaled = weight.values() * m.scale.reshape(along)
        inputs[wi] = view.const(weight.name, scaled)
        b = b * m.scale
    if m.shift is not None:
        b = b + m.shift
    if m.scale is None or bias is not None:
        inputs += [None] * (bi + 1 - len(inputs))
        hint = f"{y.name}/bias" if bias is None else bias.name
        inputs[bi] = view.const(hint, b.astype(np.float32))
    code = activation(m.op)
    if m.reshape is None:
        view.replace(m.op, [like(f, inputs, out, fusedActivationFunction=code)])
        return
    hidden = view.tensor(y.name, y.shape)
    view.replace(
        m.op,
        [
            like(f, inputs, hidden, fusedActivationFunction=code),
            like(m.reshape, [hidden, *m.reshape.inputs[1:]], out),
        ],
    )


RULE = Rule(name="fold_affine", roots=frozenset({"ADD", "MUL"}), check=check, apply=apply)
