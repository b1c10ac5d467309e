"""CONV_3D becomes one CONV_2D over the depth slices, which are laid side by side as channels.

With x as [n, depth, h w, c], padded in depth as the op asks, tap t of the kernel sees the slices
t * dilation, t * dilation + stride, ...; so

    y = CONV_2D(CONCATENATION_t(x[:, t dilation :: stride]), w')

where output depths are batch entries of the CONV_2D and w' holds the taps' kernels one behind the
other along the input channels. One accumulator sums over all taps, as in the original: nothing is
rounded in between when this is quantized. Cost: (kernel depth) times the input, moved.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.fold_pad import same_padding
from tfq.rewrite.match import PADDING, is_float, static


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op


def check(op: Op, view: View) -> _Match | No:
    x, w = op.input(0), op.input(1)
    bias = op.inputs[2] if len(op.inputs) > 2 else None
    if not is_float(x, w) or not static(x) or not w.is_const:
        return No("not static floats with constant weights")
    if bias is not None and not bias.is_const:
        return No("the bias is computed")
    if w.shape[3] != x.shape[4]:
        return No("it has groups")
    return _Match(op)


def reshape(x: Tensor, shape: list[int], out: Tensor, view: View) -> Op:
    to = view.const(f"{out.name}/shape", shape, "int32")
    return new_op("RESHAPE", [x, to], out, "ReshapeOptions", newShape=shape)


def stack_taps(
    x: Tensor, starts: list[int], stride: int, count: int, name: str, view: View
) -> tuple[list[Op], Tensor]:
    """Concatenates x[:, start :: stride] (`count` slices each) along the channels.

    Args:
      x: [n, depth, pixels, channels].

    Returns:
      The ops, and the tensor [n, count, pixels, len(starts) * channels].
    """
    n, _, pixels, channels = x.shape
    ops, parts = [], []
    strides = view.const(f"{name}/strides", [1, stride, 1, 1], "int32")
    for start in starts:
        end = start + (count - 1) * stride + 1
        if (start, end, stride) == (0, x.shape[1], 1):
            parts.append(x)
            continue
        part = view.tensor(f"{name}/tap", (n, count, pixels, channels))
        begin = view.const(f"{name}/begin", [0, start, 0, 0], "int32")
        stop = view.const(f"{name}/end", [n, end, pixels, channels], "int32")
        ops.append(new_op("STRIDED_SLICE", [x, begin, stop, strides], part, "StridedSliceOptions"))
        parts.append(part)
    if len(parts) == 1:
        return ops, parts[0]
    taps = view.tensor(f"{name}/taps", (n, count, pixels, len(parts) * channels))
    ops.append(new_op("CONCATENATION", parts, taps, "ConcatenationOptions", axis=3))
    return ops, taps


def pad_depth(x: Tensor, before: int, after: int, view: View, name: str) -> tuple[list[Op], Tensor]:
    """Zero slices before and after x [n, depth, pixels, channels]."""
    if not before and not after:
        return [], x
    n, depth, pixels, channels = x.shape
    table = view.const(f"{name}/paddings", [[0, 0], [before, after], [0, 0], [0, 0]], "int32")
    padded = view.tensor(f"{name}/padded", (n, depth + before + after, pixels, channels))
    return [new_op("PAD", [x, table], padded, "PadOptions")], padded


def apply(m: _Match, view: View) -> None:
    op, out = m.op, m.op.outputs[0]
    x, weight, o = op.input(0), op.input(1), op.options
    n, depth, h, w, c = x.shape
    kd, kh, kw, _, filters = weight.shape
    _, out_d, out_h, out_w, _ = out.shape
    name = out.name
    flat = view.tensor(f"{name}/slices", (n, depth, h * w, c))
    ops = [reshape(x, [n, depth, h * w, c], flat, view)]
    y = flat
    if o.padding == PADDING.SAME:
        before, after = same_padding(depth, kd, o.strideD, o.dilationDFactor)
        more, y = pad_depth(y, before, after, view, name)
        ops += more
    starts = [t * o.dilationDFactor for t in range(kd)]
    more, y = stack_taps(y, starts, o.strideD, out_d, name, view)
    ops += more
    images = view.tensor(f"{name}/images", (n * out_d, h, w, kd * c))
    ops.append(reshape(y, list(images.shape), images, view))
    # [kd, kh, kw, c, filters] -> [filters, kh, kw, kd * c]
    kernel = np.transpose(weight.values(), (4, 1, 2, 0, 3)).reshape(filters, kh, kw, kd * c)
    bias = op.inputs[2] if len(op.inputs) > 2 else None
    convolved = view.tensor(f"{name}/conv", (n * out_d, out_h, out_w, filters))
    ops.append(
        new_op(
            "CONV_2D",
            [
                images,
                view.const(weight.name, kernel),
                view.const(f"{name}/bias", np.zeros(filters)) if bias is None else bias,
            ],
            convolved,
            "Conv2DOptions",
            padding=o.padding,
            strideH=o.strideH,
            strideW=o.strideW,
            dilationHFactor=o.dilationHFactor,
            dilationWFactor=o.dilationWFactor,
            fusedActivationFunction=o.fusedActivationFunction,
        )
    )
    ops.append(reshape(convolved, list(out.shape), out, view))
    view.replace(op, ops)


RULE = Rule(name="replace_conv3d", roots=frozenset({"CONV_3D"}), check=check, apply=apply)
