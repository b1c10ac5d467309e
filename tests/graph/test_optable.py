"""The op table against the interpreter: every (op, dtype) it claims, on all three sets of kernels.

Each case is a model of one op. Its quantized inputs are drawn at random, the truth is numpy on the
dequantized inputs, and the output must be within one LSB of it (more where the kernel is coarse).
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tfq.graph.model import Graph, Model, Op, Quant, Tensor, options_type
from tfq.graph.optable import OP_TABLE, Kind, op_version
from tfq.runtime import KERNELS, Runner

RANGE = {"int8": (-128, 127), "int16": (-32768, 32767), "uint8": (0, 255)}


# --- what a case is made of ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Q:
    """A quantized input, uniform in [low, high]."""

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 3.0
    const: bool = False


@dataclasses.dataclass(frozen=True)
class W:
    """int8 weights, normal, with one scale per index of `axis`."""

    shape: tuple[int, ...]
    axis: int | None


@dataclasses.dataclass(frozen=True)
class B:
    """A bias of `n` values on the grid of input times weights."""

    n: int


@dataclasses.dataclass(frozen=True)
class Run:
    """Integers or bools given when the model runs (a bare array is a constant)."""

    value: np.ndarray


@dataclasses.dataclass(frozen=True)
class Case:
    op: str
    inputs: tuple[Any, ...]
    truth: Callable[..., Any]
    options: Any = None
    label: str = ""

    def __str__(self) -> str:
        return self.op + (f"-{self.label}" if self.label else "")


def opts(name: str, **values: Any) -> Any:
    options = options_type(name + "Options")()
    for key, value in values.items():
        assert hasattr(options, key), key
        setattr(options, key, value)
    return options


def i32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def grid(low: float, high: float, dtype: str) -> Quant:
    """The grid of a range: affine in int8, symmetric in int16."""
    low, high = min(low, 0.0), max(high, 0.0)
    if dtype == "int16":
        return Quant.per_tensor(max(-low, high, 1e-6) / 32767)
    scale = np.float32(max(high - low, 1e-6) / 255)
    return Quant.per_tensor(scale, int(np.clip(round(-128 - low / scale), -128, 127)))


def to_grid(x: np.ndarray, quant: Quant, dtype: str) -> np.ndarray:
    low, high = RANGE[dtype]
    q = np.round(x / np.float64(quant.scale[0])) + quant.zero_point[0]
    return np.clip(q, low, high).astype(dtype)


def from_grid(q: np.ndarray, quant: Quant) -> np.ndarray:
    return (q.astype(np.float64) - quant.zero_point[0]) * np.float64(quant.scale[0])


@dataclasses.dataclass
class Built:
    model: Model
    feeds: dict[str, np.ndarray]
    truths: list[np.ndarray]


def build(case: Case, dtype: str, kind: Kind, fixed: Any = None, version: int | None = None):
    """The one-op model of a case, its inputs and its true outputs."""
    rng = np.random.default_rng(zlib.crc32(str(case).encode()))
    drawn = [rng.uniform(i.low, i.high, i.shape) if isinstance(i, Q) else None for i in case.inputs]
    shared = None
    if kind is Kind.SAME:
        values = np.concatenate([d.reshape(-1) for d in drawn if d is not None])
        shared = grid(values.min(), values.max(), dtype)
    tensors: list[Tensor | None] = []
    arguments: list[Any] = []
    feeds: dict[str, np.ndarray] = {}
    first: Quant | None = None
    weight_scale = np.ones(1)
    for n, item in enumerate(case.inputs):
        name = f"in{n}"
        tensor: Tensor | None
        argument: Any
        if item is None:
            tensor = argument = None
        elif isinstance(item, Q):
            x = drawn[n]
            assert x is not None
            quant = shared or grid(x.min(initial=0), x.max(initial=0), dtype)
            first = first or quant
            q = to_grid(x, quant, dtype)
            tensor = Tensor(name, item.shape, dtype, q if item.const else None, quant)
            argument = from_grid(q, quant)
            if not item.const:
                feeds[name] = q
        elif isinstance(item, W):
            w = rng.normal(0, 0.4, item.shape)
            if item.axis is None:
                weight_scale = np.array([abs(w).max() / 127])
                wide = weight_scale
            else:
                others = tuple(a for a in range(w.ndim) if a != item.axis)
                wide = abs(w).max(axis=others, keepdims=True) / 127
                weight_scale = wide.reshape(-1)
            weight_scale = weight_scale.astype(np.float32)
            wide = wide.astype(np.float32)
            q = np.round(w / wide).astype(np.int8)
            quant = Quant(weight_scale, np.zeros(weight_scale.size, np.int64), item.axis or 0)
            tensor, argument = Tensor(name, item.shape, "int8", q, quant), q * wide.astype(float)
        elif isinstance(item, B):
            quant_in = (
                next(
                    t.quant
                    for t in tensors
                    if t is not None and t.dtype == dtype and not t.is_const
                )
                if first is None
                else first
            )
            assert quant_in is not None
            scale = np.float32(quant_in.scale[0]) * weight_scale
            kind_of = np.int64 if dtype == "int16" else np.int32
            q = np.round(rng.uniform(-1, 1, item.n) / scale).astype(kind_of)
            quant = Quant(scale, np.zeros(scale.size, np.int64), 0)
            tensor = Tensor(name, (item.n,), np.dtype(kind_of).name, q, quant)
            argument = q * scale.astype(float)
        elif isinstance(item, Run):
            tensor = Tensor(name, item.value.shape, str(item.value.dtype))
            feeds[name], argument = item.value, item.value
        else:
            tensor, argument = Tensor(name, item.shape, str(item.dtype), item), item
        tensors.append(tensor)
        arguments.append(argument)
    truths = case.truth(*arguments)
    truths = [np.asarray(t) for t in (truths if isinstance(truths, (list, tuple)) else [truths])]
    outputs = []
    for n, t in enumerate(truths):
        if not np.issubdtype(t.dtype, np.floating):
            outputs.append(Tensor(f"out{n}", t.shape, str(t.dtype)))
            continue
        if kind is Kind.SAME:
            quant = shared
        elif kind is Kind.FIXED and fixed:
            quant = Quant.per_tensor(*fixed[dtype])
        else:
            # Wider than the truth, so that an op that only moves integers is found out.
            quant = grid(1.1 * t.min(), 1.2 * t.max(), dtype)
        outputs.append(Tensor(f"out{n}", t.shape, dtype, None, quant))
    op = Op(case.op, tensors, outputs, case.options)
    op.version = op_version(op) if version is None else version
    inputs = [t for t in tensors if t is not None and not t.is_const]
    return Built(Model([Graph("main", [op], inputs, outputs)]), feeds, truths)


def error(built: Built, kernels: str) -> float:
    """The largest distance from the truth, in LSB (in units for integer outputs)."""
    got = Runner(built.model.to_bytes(), kernels=kernels).run(built.feeds)
    worst = 0.0
    for tensor, truth in zip(built.model.main.outputs, built.truths, strict=True):
        q = got[tensor.name]
        if q.shape != truth.shape:
            return math.inf
        if tensor.quant is None:
            worst = max(worst, float(np.sum(q != truth)))
            continue
        low, high = RANGE[tensor.dtype]
        want = np.round(truth / np.float64(tensor.quant.scale[0])) + tensor.quant.zero_point[0]
        worst = max(worst, float(np.abs(q - np.clip(want, low, high)).max(initial=0)))
    return worst


# --- numpy truths -------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def gelu_tanh(x):
    return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def relu(x):
    return np.maximum(x, 0)


def l2_norm(x):
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


def conv(x, w, b=None, *, dilation=1, groups=1):
    """VALID, stride 1, NHWC; w is [out, h, w, in / groups]."""
    n, h, width, _ = x.shape
    o, kh, kw, ci = w.shape
    oh, ow = h - dilation * (kh - 1), width - dilation * (kw - 1)
    y = np.zeros((n, oh, ow, o))
    per = o // groups
    for g in range(groups):
        for i in range(kh):
            for j in range(kw):
                part = x[:, i * dilation : i * dilation + oh, j * dilation : j * dilation + ow]
                part = part[..., g * ci : (g + 1) * ci]
                y[..., g * per : (g + 1) * per] += part @ w[g * per : (g + 1) * per, i, j].T
    return y if b is None else y + b


def depthwise(x, w, b=None):
    n, h, width, c = x.shape
    _, kh, kw, co = w.shape
    y = np.zeros((n, h - kh + 1, width - kw + 1, co))
    wide = np.repeat(x, co // c, axis=-1)
    for i in range(kh):
        for j in range(kw):
            y += wide[:, i : i + y.shape[1], j : j + y.shape[2]] * w[0, i, j]
    return y if b is None else y + b


def transpose_conv(shape, w, x, b=None):
    """VALID, stride 2."""
    y = np.zeros(tuple(shape))
    for i in range(w.shape[1]):
        for j in range(w.shape[2]):
            y[:, i : i + 2 * x.shape[1] : 2, j : j + 2 * x.shape[2] : 2] += x @ w[:, i, j].T
    return y if b is None else y + b


def pool(x, f):
    n, h, w, c = x.shape
    return f(x.reshape(n, h // 2, 2, w // 2, 2, c), axis=(2, 4))


def space_to_depth(x):
    n, h, w, c = x.shape
    y = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(n, h // 2, w // 2, 4 * c)


def depth_to_space(x):
    n, h, w, c = x.shape
    y = x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(n, 2 * h, 2 * w, c // 4)


def space_to_batch(x, *_):
    n, h, w, c = x.shape
    y = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(2, 4, 0, 1, 3, 5)
    return y.reshape(4 * n, h // 2, w // 2, c)


def batch_to_space(x, *_):
    n, h, w, c = x.shape
    y = x.reshape(2, 2, n // 4, h, w, c).transpose(2, 3, 0, 4, 1, 5)
    return y.reshape(n // 4, 2 * h, 2 * w, c)


def nearest(x, size):
    return x.repeat(2, 1).repeat(2, 2)


def bilinear(x, size):
    """Half-pixel centers, a factor of 2."""

    def double(v, axis):
        p = np.arange(2 * v.shape[axis]) / 2 - 0.25
        p = np.clip(p, 0, v.shape[axis] - 1)
        a = np.floor(p).astype(int)
        b = np.minimum(a + 1, v.shape[axis] - 1)
        f = (p - a).reshape([-1 if k == axis else 1 for k in range(v.ndim)])
        return v.take(a, axis) * (1 - f) + v.take(b, axis) * f

    return double(double(x, 1), 2)


def topk(x, k):
    order = np.argsort(-x, axis=-1, kind="stable")[..., : int(k)]
    return np.take_along_axis(x, order, -1), order.astype(np.int32)


def segment_sum(x, ids):
    return np.stack([x[ids == i].sum(0) for i in range(ids.max() + 1)])


def unsorted(f):
    return lambda x, ids, n: np.stack([f(x[ids == i], 0) for i in range(int(n))])


def scatter(ids, updates, shape):
    y = np.zeros(tuple(shape))
    np.add.at(y, tuple(ids.T), updates)
    return y


def update_slice(x, u, start):
    y = x.copy()
    y[start[0] : start[0] + u.shape[0], start[1] : start[1] + u.shape[1]] = u
    return y


def reverse_sequence(x, lengths):
    y = x.copy()
    for i, n in enumerate(lengths):
        y[i, :n] = x[i, :n][::-1]
    return y


# --- the cases ----------------------------------------------------------------------------------

V = Q((2, 37))
X4 = Q((1, 4, 6, 5))
POSITIVE = Q((2, 37), 0.3, 4.0)


def unary(op, f, q=V, options=None, **kw):
    return Case(op, (q,), f, options, **kw)


def binary(op, f, a=V, b=Q((2, 37), -1.5, 4.0), options=None, **kw):
    return Case(op, (a, b), f, options, **kw)


def reduce_case(op, f, axes, keep, q=Q((2, 3, 4, 5)), **kw):
    return Case(
        op,
        (q, i32(*axes)),
        lambda x, _: f(x, axis=tuple(axes), keepdims=keep),
        opts("Reducer", keepDims=keep),
        label=f"axes{''.join(map(str, axes))}{'-keep' if keep else ''}",
        **kw,
    )


def reductions(op, f, **kw):
    return [
        reduce_case(op, f, (1, 2), False, **kw),
        reduce_case(op, f, (1, 2), True, **kw),
        reduce_case(op, f, (3,), True, **kw),
        reduce_case(op, f, (0,), False, **kw),
        reduce_case(op, f, (0, 3), False, **kw),
        reduce_case(op, f, (0, 1, 2, 3), False, **kw),
    ]


def comparison(op, f):
    # A value of exactly the same real number on both grids does not occur in these draws.
    return [binary(op, lambda a, b: f(a, b))]


def fc(label, truth, *rest, keep=False, act=0, x=Q((3, 16)), axis=0):
    return Case(
        "FULLY_CONNECTED",
        (x, W((7, 16), axis), *rest),
        truth,
        opts("FullyConnected", keepNumDims=keep, fusedActivationFunction=act),
        label,
    )


def conv_options(**kw):
    return opts("Conv2D", padding=1, strideW=1, strideH=1, **kw)


def dw_options(multiplier, **kw):
    return opts(
        "DepthwiseConv2D", padding=1, strideW=1, strideH=1, depthMultiplier=multiplier, **kw
    )


ACTIVATIONS = {1: relu, 2: lambda x: np.clip(x, -1, 1), 3: lambda x: np.clip(x, 0, 6)}
MASK = np.random.default_rng(0).random((2, 37)) > 0.5

CASES: list[Case] = [
    # weighted
    Case("CONV_2D", (X4, W((8, 3, 3, 5), 0), B(8)), conv, conv_options()),
    Case("CONV_2D", (X4, W((8, 3, 3, 5), None), B(8)), conv, conv_options(), "per-tensor"),
    Case(
        "CONV_2D",
        (X4, W((8, 1, 1, 5), 0), B(8)),
        lambda *a: relu(conv(*a)),
        conv_options(fusedActivationFunction=1),
        "relu",
    ),
    Case(
        "CONV_2D",
        (Q((1, 4, 6, 6)), W((8, 3, 3, 3), 0), B(8)),
        lambda *a: conv(*a, groups=2),
        conv_options(),
        "grouped",
    ),
    Case(
        "CONV_2D",
        (Q((1, 7, 8, 5)), W((8, 3, 3, 5), 0), B(8)),
        lambda *a: conv(*a, dilation=2),
        conv_options(dilationWFactor=2, dilationHFactor=2),
        "dilated",
    ),
    Case("DEPTHWISE_CONV_2D", (X4, W((1, 3, 3, 5), 3), B(5)), depthwise, dw_options(1)),
    Case("DEPTHWISE_CONV_2D", (X4, W((1, 3, 3, 10), 3), B(10)), depthwise, dw_options(2), "x2"),
    Case(
        "DEPTHWISE_CONV_2D",
        (X4, W((1, 3, 3, 5), None), B(5)),
        depthwise,
        dw_options(1),
        "per-tensor",
    ),
    fc("", lambda x, w, b: x @ w.T + b, B(7)),
    fc("per-tensor", lambda x, w, b: x @ w.T + b, B(7), axis=None),
    fc("no-bias", lambda x, w: x @ w.T),
    fc("none-bias", lambda x, w, b: x @ w.T, None),
    fc("relu6", lambda x, w, b: np.clip(x @ w.T + b, 0, 6), B(7), act=3),
    fc("keep-dims", lambda x, w, b: x @ w.T + b, B(7), keep=True, x=Q((2, 3, 16))),
    Case(
        "TRANSPOSE_CONV",
        (i32(1, 9, 13, 4), W((4, 3, 3, 5), 0), X4, B(4)),
        transpose_conv,
        opts("TransposeConv", padding=1, strideW=2, strideH=2),
    ),
    Case(
        "TRANSPOSE_CONV",
        (i32(1, 9, 13, 4), W((4, 3, 3, 5), 0), X4),
        transpose_conv,
        opts("TransposeConv", padding=1, strideW=2, strideH=2),
        "no-bias",
    ),
    Case(
        "TRANSPOSE_CONV",
        (i32(1, 9, 13, 4), W((4, 3, 3, 5), 0), X4, B(4)),
        lambda *a: relu(transpose_conv(*a)),
        opts("TransposeConv", padding=1, strideW=2, strideH=2, fusedActivationFunction=1),
        "relu",
    ),
    Case(
        "CONV_3D",
        (Q((1, 4, 4, 4, 3)), W((1, 1, 1, 3, 4), 4), B(4)),
        lambda x, w, b: x @ w[0, 0, 0] + b,
        opts("Conv3D", padding=1, strideD=1, strideW=1, strideH=1),
    ),
    Case("EMBEDDING_LOOKUP", (Run(i32(2, 0, 5)), Q((6, 8), const=True)), lambda i, t: t[i]),
    # elementwise
    unary("ABS", np.abs),
    unary("CEIL", np.ceil),
    unary("COS", np.cos),
    unary("ELU", lambda x: np.where(x > 0, x, np.expm1(x))),
    unary("EXP", np.exp),
    unary("FLOOR", np.floor),
    unary("GELU", gelu, options=opts("Gelu")),
    unary("GELU", gelu_tanh, options=opts("Gelu", approximate=True), label="tanh"),
    unary("HARD_SWISH", lambda x: x * np.clip(x + 3, 0, 6) / 6, Q((2, 37), -4, 4)),
    unary(
        "LEAKY_RELU", lambda x: np.where(x > 0, x, 0.2 * x), options=opts("LeakyRelu", alpha=0.2)
    ),
    unary("LOG", np.log, POSITIVE),
    unary("LOGISTIC", sigmoid),
    unary("NEG", np.negative),
    unary("LOGISTIC", sigmoid, Q((2, 37), -9, 7), label="wide"),
    unary("RELU", relu),
    unary("RELU6", lambda x: np.clip(x, 0, 6), Q((2, 37), -3, 9)),
    unary("RELU_0_TO_1", lambda x: np.clip(x, 0, 1)),
    unary("RELU_N1_TO_1", lambda x: np.clip(x, -1, 1)),
    unary("ROUND", np.round),
    unary("RSQRT", lambda x: x**-0.5, POSITIVE),
    unary("SIGN", np.sign),
    unary("SIN", np.sin),
    unary("SQRT", np.sqrt, POSITIVE),
    unary("SQUARE", np.square),
    unary("TANH", np.tanh),
    unary("TANH", np.tanh, Q((2, 37), -6, 7), label="wide"),
    unary("ZEROS_LIKE", np.zeros_like),
    binary("ADD", np.add, options=opts("Add", potScaleInt16=False)),
    binary(
        "ADD",
        np.add,
        X4,
        Q((5,), 0, 9, const=True),
        opts("Add", potScaleInt16=False),
        label="broadcast",
    ),
    binary(
        "ADD",
        lambda a, b: relu(a + b),
        options=opts("Add", potScaleInt16=False, fusedActivationFunction=1),
        label="relu",
    ),
    binary("SUB", np.subtract, options=opts("Sub", potScaleInt16=False)),
    binary(
        "SUB",
        np.subtract,
        Q((1,), const=True),
        options=opts("Sub", potScaleInt16=False),
        label="scalar",
    ),
    binary("MUL", np.multiply, options=opts("Mul")),
    binary("MUL", np.multiply, X4, Q((5,), const=True), opts("Mul"), label="broadcast"),
    binary("DIV", np.divide, b=POSITIVE, options=opts("Div")),
    binary("SQUARED_DIFFERENCE", lambda a, b: (a - b) ** 2),
    binary("MAXIMUM", np.maximum, options=opts("MaximumMinimum")),
    binary("MINIMUM", np.minimum, options=opts("MaximumMinimum")),
    binary(
        "MINIMUM",
        np.minimum,
        b=Q((1,), 0.5, 1, const=True),
        options=opts("MaximumMinimum"),
        label="broadcast",
    ),
    binary("POW", np.power, POSITIVE, Q((2, 37), 0.5, 2)),
    binary("ATAN2", np.arctan2),
    binary("FLOOR_DIV", np.floor_divide, b=POSITIVE),
    binary("FLOOR_MOD", np.mod, b=POSITIVE),
    Case(
        "PRELU", (X4, Q((1, 1, 5), 0.05, 0.4, const=True)), lambda x, a: np.where(x > 0, x, a * x)
    ),
    Case("ADD_N", (V, V, V), lambda *a: sum(a)),
    *comparison("EQUAL", np.equal),
    *comparison("NOT_EQUAL", np.not_equal),
    *comparison("LESS", np.less),
    *comparison("LESS_EQUAL", np.less_equal),
    *comparison("GREATER", np.greater),
    *comparison("GREATER_EQUAL", np.greater_equal),
    # normalizing and pooling
    unary("SOFTMAX", softmax, Q((4, 10), -4, 5), opts("Softmax", beta=1.0)),
    unary("LOG_SOFTMAX", lambda x: np.log(softmax(x)), Q((4, 10), -4, 5)),
    unary("L2_NORMALIZATION", l2_norm, Q((4, 10)), opts("L2Norm")),
    unary(
        "LOCAL_RESPONSE_NORMALIZATION",
        lambda x: x / (1 + 0 * x),
        Q((1, 2, 2, 8)),
        opts("LocalResponseNormalization", radius=1, bias=1.0, alpha=0.0, beta=0.5),
    ),
    unary(
        "AVERAGE_POOL_2D",
        lambda x: pool(x, np.mean),
        X4,
        opts("Pool2D", padding=1, strideW=2, strideH=2, filterWidth=2, filterHeight=2),
    ),
    unary(
        "AVERAGE_POOL_2D",
        lambda x: relu(pool(x, np.mean)),
        X4,
        opts(
            "Pool2D",
            padding=1,
            strideW=2,
            strideH=2,
            filterWidth=2,
            filterHeight=2,
            fusedActivationFunction=1,
        ),
        label="relu",
    ),
    unary(
        "MAX_POOL_2D",
        lambda x: pool(x, np.max),
        X4,
        opts("Pool2D", padding=1, strideW=2, strideH=2, filterWidth=2, filterHeight=2),
    ),
    unary(
        "L2_POOL_2D",
        lambda x: np.sqrt(pool(x * x, np.mean)),
        X4,
        opts("Pool2D", padding=1, strideW=2, strideH=2, filterWidth=2, filterHeight=2),
    ),
    # reducing
    *reductions("SUM", np.sum),
    *reductions("MEAN", np.mean),
    *reductions("REDUCE_MAX", np.max),
    *reductions("REDUCE_MIN", np.min),
    reduce_case("REDUCE_PROD", np.prod, (3,), True, Q((2, 3, 4, 3), 0.5, 1.5)),
    Case("CUMSUM", (V, np.array(1, np.int32)), lambda x, _: np.cumsum(x, 1), opts("Cumsum")),
    Case(
        "ARG_MAX",
        (V, np.array(1, np.int32)),
        lambda x, _: x.argmax(1).astype(np.int32),
        opts("ArgMax", outputType=2),
    ),
    Case(
        "ARG_MIN",
        (V, np.array(1, np.int32)),
        lambda x, _: x.argmin(1).astype(np.int32),
        opts("ArgMin", outputType=2),
    ),
    Case("SEGMENT_SUM", (Q((5, 4)), i32(0, 0, 1, 2, 2)), segment_sum),
    *[
        Case(
            f"UNSORTED_SEGMENT_{n}",
            (Q((5, 4)), i32(1, 0, 1, 2, 0), np.array(3, np.int32)),
            unsorted(f),
        )
        for n, f in (("SUM", np.sum), ("MAX", np.max), ("MIN", np.min), ("PROD", np.prod))
    ],
    # multiplying activations
    Case("BATCH_MATMUL", (Q((2, 5, 6)), Q((2, 6, 4))), np.matmul, opts("BatchMatMul")),
    Case(
        "BATCH_MATMUL",
        (Q((2, 5, 6)), Q((2, 4, 6))),
        lambda a, b: a @ b.transpose(0, 2, 1),
        opts("BatchMatMul", adjY=True),
        "adjoint",
    ),
    Case(
        "BATCH_MATMUL",
        (Q((2, 5, 6)), Q((2, 6, 4), const=True)),
        np.matmul,
        opts("BatchMatMul"),
        "const",
    ),
    # moving
    Case(
        "BATCH_TO_SPACE_ND",
        (Q((4, 2, 3, 5)), i32(2, 2), np.zeros((2, 2), np.int32)),
        batch_to_space,
    ),
    Case("BROADCAST_TO", (Q((1, 5)), i32(3, 5)), lambda x, s: np.broadcast_to(x, s)),
    Case(
        "CONCATENATION", (V, V, V), lambda *a: np.concatenate(a, 1), opts("Concatenation", axis=1)
    ),
    Case("DEPTH_TO_SPACE", (Q((1, 2, 3, 8)),), depth_to_space, opts("DepthToSpace", blockSize=2)),
    Case("DYNAMIC_UPDATE_SLICE", (Q((4, 5)), Q((2, 3)), Run(i32(1, 2))), update_slice),
    Case("EXPAND_DIMS", (V, i32(1)), lambda x, _: x[:, None]),
    Case("FILL", (i32(3, 4), Q(())), lambda s, v: np.full(tuple(s), v)),
    Case("GATHER", (Q((6, 8)), Run(i32(2, 0, 5))), lambda x, i: x[i], opts("Gather", axis=0)),
    Case(
        "GATHER", (Q((6, 8)), i32(2, 0, 5)), lambda x, i: x[:, i], opts("Gather", axis=1), "axis1"
    ),
    Case(
        "GATHER_ND", (Q((6, 8)), np.array([[2, 1], [0, 7]], np.int32)), lambda x, i: x[tuple(i.T)]
    ),
    Case("MATRIX_DIAG", (Q((4, 5), 0, 1),), lambda x: x[..., None] * np.eye(5)),
    Case(
        "MIRROR_PAD",
        (Q((4, 5)), np.array([[1, 2], [2, 1]], np.int32)),
        lambda x, p: np.pad(x, p, "reflect"),
        opts("MirrorPad", mode=0),
    ),
    Case(
        "ONE_HOT",
        (Run(i32(1, 3)), np.array(4, np.int32), Q((), 1, 1), Q((), 0, 0)),
        lambda i, d, on, off: np.eye(4)[i] * float(on),
        opts("OneHot", axis=-1),
    ),
    Case("PACK", (V, V), lambda *a: np.stack(a, 1), opts("Pack", valuesCount=2, axis=1)),
    Case("PAD", (X4, np.array([[0, 0], [1, 2], [2, 1], [0, 0]], np.int32)), np.pad),
    Case(
        "PADV2",
        (X4, np.array([[0, 0], [1, 2], [2, 1], [0, 0]], np.int32), Q((), 1, 1, True)),
        lambda x, p, v: np.pad(x, p, constant_values=float(v)),
    ),
    Case(
        "RESHAPE", (V, i32(37, 2)), lambda x, s: x.reshape(s), opts("Reshape", newShape=i32(37, 2))
    ),
    Case(
        "RESIZE_BILINEAR", (X4, i32(8, 12)), bilinear, opts("ResizeBilinear", halfPixelCenters=True)
    ),
    Case("RESIZE_NEAREST_NEIGHBOR", (X4, i32(8, 12)), nearest, opts("ResizeNearestNeighbor")),
    Case(
        "REVERSE_SEQUENCE",
        (Q((3, 5, 2)), i32(2, 5, 3)),
        reverse_sequence,
        opts("ReverseSequence", seqDim=1, batchDim=0),
    ),
    Case("REVERSE_V2", (V, i32(1)), lambda x, _: x[:, ::-1]),
    Case("SCATTER_ND", (np.array([[2], [0]], np.int32), Q((2, 5)), i32(4, 5)), scatter),
    Case("SELECT", (Run(MASK), V, V), np.where),
    Case("SELECT_V2", (Run(MASK), V, V), np.where),
    Case("SELECT_V2", (Run(MASK), V, Q((1,), const=True)), np.where, label="broadcast"),
    Case("SLICE", (X4, i32(0, 1, 2, 0), i32(1, 2, 3, 5)), lambda x, *_: x[:, 1:3, 2:5]),
    Case("SPACE_TO_BATCH_ND", (X4, i32(2, 2), np.zeros((2, 2), np.int32)), space_to_batch),
    Case("SPACE_TO_DEPTH", (X4,), space_to_depth, opts("SpaceToDepth", blockSize=2)),
    Case(
        "SPARSE_TO_DENSE",
        (i32(1, 3), i32(5), Q((2,)), Q((), 0, 0, True)),
        lambda i, s, v, d: np.array([0, v[0], 0, v[1], 0]),
    ),
    Case(
        "SPLIT",
        (np.array(1, np.int32), Q((2, 6))),
        lambda a, x: np.split(x, 3, 1),
        opts("Split", numSplits=3),
    ),
    Case(
        "SPLIT_V",
        (Q((2, 6)), i32(2, 4), np.array(1, np.int32)),
        lambda x, *_: [x[:, :2], x[:, 2:]],
        opts("SplitV", numSplits=2),
    ),
    Case("SQUEEZE", (Q((2, 1, 5)),), lambda x: x[:, 0], opts("Squeeze", squeezeDims=i32(1))),
    Case(
        "STRIDED_SLICE",
        (X4, i32(0, 3, 0, 0), i32(1, 0, 6, 5), i32(1, -1, 2, 1)),
        lambda x, *_: x[:, 3:0:-1, 0:6:2],
        opts("StridedSlice"),
    ),
    Case("TILE", (V, i32(2, 3)), np.tile),
    Case("TOPK_V2", (V, np.array(4, np.int32)), topk),
    Case("TRANSPOSE", (X4, i32(0, 3, 1, 2)), np.transpose),
    Case(
        "UNPACK",
        (Q((2, 3, 5)),),
        lambda x: list(x.transpose(1, 0, 2)),
        opts("Unpack", num=3, axis=1),
    ),
]


# --- the tests ----------------------------------------------------------------------------------


def claims() -> list[Any]:
    found = []
    for case in CASES:
        row = OP_TABLE[case.op]
        for dtype in sorted(row.dtypes):
            for kernels in KERNELS:
                if row.reference or kernels != "reference":
                    found.append(pytest.param(case, dtype, kernels, id=f"{case}-{dtype}-{kernels}"))
    return found


@pytest.mark.parametrize(("case", "dtype", "kernels"), claims())
def test_integer_kernel_is_right(case: Case, dtype: str, kernels: str) -> None:
    row = OP_TABLE[case.op]
    kind = Kind.SAME if dtype in row.same_inputs else row.kind
    assert error(build(case, dtype, kind, row.fixed), kernels) <= row.lsb.get(dtype, 1)
