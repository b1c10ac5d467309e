"""LOCAL_RESPONSE_NORMALIZATION becomes a banded 1x1 convolution and a power.

    y = x (bias + alpha sum_{|j - c| <= radius} x_j^2) ^ -beta
      ->  s = CONV_2D(MUL(x, x), band of alpha, bias); MUL(x, POW(s, -beta))

The sum is accumulated in 32 bits; the power is elementwise.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import Op
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import PADDING, is_float


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op


def check(op: Op, view: View) -> _Match | No:
    x = op.input(0)
    if not is_float(x) or len(x.shape) != 4:
        return No("not of a float image")
    return _Match(op)


def apply(m: _Match, view: View) -> None:
    x, out, o = m.op.input(0), m.op.outputs[0], m.op.options
    name, channels = out.name, x.shape[-1]
    at = np.arange(channels)
    band = o.alpha * (np.abs(at[:, None] - at) <= o.radius)
    squares = view.tensor(f"{name}/squares", x.shape)
    sums = view.tensor(f"{name}/sums", x.shape)
    power = view.tensor(f"{name}/power", x.shape)
    weights = view.const(f"{name}/band", band[:, None, None, :])
    bias = view.const(f"{name}/bias", np.full(channels, o.bias))
    options = {"padding": PADDING.VALID, "strideH": 1, "strideW": 1}
    view.replace(
        m.op,
        [
            new_op("MUL", [x, x], squares, "MulOptions"),
            new_op("CONV_2D", [squares, weights, bias], sums, "Conv2DOptions", **options),
            new_op("POW", [sums, view.const(f"{name}/exponent", -o.beta)], power, "PowOptions"),
            new_op("MUL", [x, power], out, "MulOptions"),
        ],
    )


RULE = Rule(
    name="replace_lrn",
    roots=frozenset({"LOCAL_RESPONSE_NORMALIZATION"}),
    check=check,
    apply=apply,
)
