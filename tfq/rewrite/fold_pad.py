"""Zero padding moves into the convolution after it.

    CONV_2D(PAD(x), VALID)  ->  CONV_2D(x, SAME)          likewise DEPTHWISE_CONV_2D

when the padding is exactly what SAME adds: for each spatial dimension of size n, stride s and
effective kernel k = (kernel - 1) dilation + 1, the output has ceil(n / s) elements and

    total = max((ceil(n / s) - 1) s + k - n, 0),  before = floor(total / 2),  after = total - before

Symmetric padding before a stride of 2 (PyTorch's habit) is not what SAME adds, so it stays.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import Op
from tfq.rewrite.core import No, Rule, View, like
from tfq.rewrite.match import PADDING, ints, is_float, scalar, static


@dataclasses.dataclass(frozen=True)
class _Match:
    pad: Op
    conv: Op


def same_padding(n: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(before, after) that SAME adds to a dimension of size n."""
    reach = (kernel - 1) * dilation + 1
    total = max((-(-n // stride) - 1) * stride + reach - n, 0)
    return total // 2, total - total // 2


def check(op: Op, view: View) -> _Match | No:
    pad = view.made_by(op.input(0), "PAD", "PADV2")
    if pad is None:
        return No("no padding before it")
    x, weight = pad.input(0), op.input(1)
    amounts = ints(pad.input(1))
    if not is_float(x) or not static(x) or len(x.shape) != 4 or amounts is None:
        return No("the padding is not of a static float image by constant amounts")
    if pad.name == "PADV2" and scalar(pad.input(2)) != 0:
        return No("it pads with something else than zero")
    if op.options.padding != PADDING.VALID:
        return No("the convolution pads as well")
    table = np.array(amounts).reshape(4, 2)
    if table[0].any() or table[3].any():
        return No("it pads the batch or the channels")
    o = op.options
    strides = (o.strideH, o.strideW)
    dilations = (o.dilationHFactor, o.dilationWFactor)
    for i in range(2):
        same = same_padding(x.shape[1 + i], weight.shape[1 + i], strides[i], dilations[i])
        if same != tuple(table[1 + i]):
            return No(f"SAME would pad by {same} where it pads by {tuple(table[1 + i])}")
    return _Match(pad, op)


def apply(m: _Match, view: View) -> None:
    inputs = [m.pad.input(0), *m.conv.inputs[1:]]
    view.replace(m.conv, [like(m.conv, inputs, m.conv.outputs[0], padding=PADDING.SAME)])


RULE = Rule(
    name="fold_pad",
    roots=frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"}),
    check=check,
    apply=apply,
)
