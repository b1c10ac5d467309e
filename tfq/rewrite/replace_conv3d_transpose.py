"""CONV_3D_TRANSPOSE becomes one TRANSPOSE_CONV over the depth slices.

In depth a transposed convolution is a convolution of the slices with zeros put between them,

    xs = x[0], 0, ..., 0, x[1], 0, ...                 stride - 1 zeros
    full[p] = sum_t xs[p - t] w[t],   y[o] = full[o + front]

with front = 0 for VALID and floor(max((depth - 1) stride + taps - out_depth, 0) / 2) for SAME. The
taps are stacked along the channels as in `replace_conv3d`; height and width are TRANSPOSE_CONV's.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import Op
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import PADDING, ints, is_float, static
from tfq.rewrite.replace_conv3d import pad_depth, reshape, stack_taps


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op


def check(op: Op, view: View) -> _Match | No:
    shape, w, x = op.input(0), op.input(1), op.input(2)
    bias = op.inputs[3] if len(op.inputs) > 3 else None
    if not is_float(x, w) or not static(x) or not w.is_const or ints(shape) is None:
        return No("not static floats with constant weights and output shape")
    if bias is not None and not bias.is_const:
        return No("the bias is computed")
    o = op.options
    if (o.dilationDFactor, o.dilationHFactor, o.dilationWFactor) != (1, 1, 1):
        return No("it is dilated")
    return _Match(op)


def apply(m: _Match, view: View) -> None:
    op, out, o = m.op, m.op.outputs[0], m.op.options
    weight, x = op.input(1), op.input(2)
    n, depth, h, w, c = x.shape
    taps, kh, kw, filters, _ = weight.shape
    _, out_d, out_h, out_w, _ = out.shape
    name, stride = out.name, o.strideD
    length = (depth - 1) * stride + 1
    front = 0
    if o.padding == PADDING.SAME:
        front = max((depth - 1) * stride + taps - out_d, 0) // 2
    ops: list[Op] = []
    y = view.tensor(f"{name}/slices", (n, depth, h * w, c))
    ops.append(reshape(x, list(y.shape), y, view))
    if stride > 1:
        # [n, depth, 1, pixels] -> [n, depth, stride, pixels]: zeros behind every slice.
        apart = view.tensor(f"{name}/apart", (n, depth, 1, h * w * c))
        spread = view.tensor(f"{name}/spread", (n, depth, stride, h * w * c))
        table = view.const(f"{name}/zeros", [[0, 0], [0, 0], [0, stride - 1], [0, 0]], "int32")
        joined = view.tensor(f"{name}/joined", (n, depth * stride, h * w, c))
        ops += [
            reshape(y, list(apart.shape), apart, view),
            new_op("PAD", [apart, table], spread, "PadOptions"),
            reshape(spread, list(joined.shape), joined, view),
        ]
        y, length = joined, depth * stride
    more, y = pad_depth(y, taps - 1, max(front + out_d - length, 0), view, name)
    ops += more
    starts = [front + taps - 1 - t for t in range(taps)]
    more, y = stack_taps(y, starts, 1, out_d, name, view)
    ops += more
    images = view.tensor(f"{name}/images", (n * out_d, h, w, taps * c))
    ops.append(reshape(y, list(images.shape), images, view))
    # [taps, kh, kw, filters, c] -> [filters, kh, kw, taps * c]
    kernel = np.transpose(weight.values(), (3, 1, 2, 0, 4)).reshape(filters, kh, kw, taps * c)
    convolved = view.tensor(f"{name}/conv", (n * out_d, out_h, out_w, filters))
    bias = op.inputs[3] if len(op.inputs) > 3 else None
    size = view.const(f"{name}/size", convolved.shape, "int32")
    inputs = [size, view.const(weight.name, kernel), images, *([] if bias is None else [bias])]
    ops += [
        new_op(
            "TRANSPOSE_CONV",
            inputs,
            convolved,
            "TransposeConvOptions",
            padding=o.padding,
            strideH=o.strideH,
            strideW=o.strideW,
            fusedActivationFunction=o.fusedActivationFunction,
        ),
        reshape(convolved, list(out.shape), out, view),
    ]
    view.replace(op, ops)


RULE = Rule(
    name="replace_conv3d_transpose",
    roots=frozenset({"CONV_3D_TRANSPOSE"}),
    check=check,
    apply=apply,
)
