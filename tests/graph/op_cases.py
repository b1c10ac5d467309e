"""One-op cases for every op of the table that has, or might have, an integer kernel."""

from __future__ import annotations

import numpy as np
from one_op import B, Case, Q, Run, W, i32, opts
from op_truths import (
    batch_to_space,
    bilinear,
    conv,
    depth_to_space,
    depthwise,
    gelu,
    gelu_tanh,
    l2_norm,
    nearest,
    pool,
    relu,
    reverse_sequence,
    scatter,
    segment_sum,
    sigmoid,
    softmax,
    space_to_batch,
    space_to_depth,
    topk,
    transpose_conv,
    unsorted,
    update_slice,
)

V = Q((2, 37))
X4 = Q((1, 4, 6, 5))
V2 = Q((2, 37), -1.5, 4.0)
R4 = Q((2, 3, 4, 5))
ROWS = Q((3, 16))
POSITIVE = Q((2, 37), 0.3, 4.0)


def unary(op, f, q=V, options=None, **kw):
    return Case(op, (q,), f, options, **kw)


def binary(op, f, a=V, b=V2, options=None, **kw):
    return Case(op, (a, b), f, options, **kw)


def reduce_case(op, f, axes, keep, q=R4, **kw):
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


def fc(label, truth, *rest, keep=False, act=0, x=ROWS, w=None, axis=0):
    options = opts("FullyConnected", keepNumDims=keep, fusedActivationFunction=act)
    return Case("FULLY_CONNECTED", (x, w or W((7, 16), axis), *rest), truth, options, label)


def general(name, act=0):
    """ADD and SUB whose int16 scales need not be powers of two."""
    return opts(name, potScaleInt16=False, fusedActivationFunction=act)


def pooling(act=0):
    size = {"strideW": 2, "strideH": 2, "filterWidth": 2, "filterHeight": 2}
    return opts("Pool2D", padding=1, fusedActivationFunction=act, **size)


def tc_options(act=0):
    return opts("TransposeConv", padding=1, strideW=2, strideH=2, fusedActivationFunction=act)


def conv_options(**kw):
    return opts("Conv2D", padding=1, strideW=1, strideH=1, **kw)


def dw_options(multiplier, **kw):
    return opts(
        "DepthwiseConv2D", padding=1, strideW=1, strideH=1, depthMultiplier=multiplier, **kw
    )


R5, S5 = Q((2, 3, 2, 3, 2)), Q((2, 1, 2, 1, 2))
MASK = np.random.default_rng(0).random((2, 37)) > 0.5

# Compact on purpose: one line, one case.
# fmt: off
CASES: list[Case] = [
    # weighted
    Case("CONV_2D", (X4, W((8, 3, 3, 5), 0), B(8)), conv, conv_options()),
    Case("CONV_2D", (X4, W((8, 3, 3, 5), None), B(8)), conv, conv_options(), "per-tensor"),
    Case("CONV_2D", (X4, W((8, 1, 1, 5), 0), B(8)), lambda *a: relu(conv(*a)),
         conv_options(fusedActivationFunction=1), "relu"),
    Case("CONV_2D", (Q((1, 4, 6, 6)), W((8, 3, 3, 3), 0), B(8)), lambda *a: conv(*a, groups=2),
         conv_options(), "grouped"),
    Case("CONV_2D", (Q((1, 7, 8, 5)), W((8, 3, 3, 5), 0), B(8)), lambda *a: conv(*a, dilation=2),
         conv_options(dilationWFactor=2, dilationHFactor=2), "dilated"),
    Case("DEPTHWISE_CONV_2D", (X4, W((1, 3, 3, 5), 3), B(5)), depthwise, dw_options(1)),
    Case("DEPTHWISE_CONV_2D", (X4, W((1, 3, 3, 10), 3), B(10)), depthwise, dw_options(2), "x2"),
    Case("DEPTHWISE_CONV_2D", (X4, W((1, 3, 3, 5), None), B(5)), depthwise, dw_options(1),
         "per-tensor"),
    Case("CONV_2D", (X4, W((7, 3, 3, 5), 0), B(7)), conv, conv_options(), "odd"),
    Case("CONV_2D", (Q((3, 4, 6, 5)), W((7, 1, 1, 5), 0), B(7)), conv, conv_options(), "odd-1x1"),
    fc("odd", lambda x, w, b: x @ w.T + b, B(7), x=Q((3, 15)), w=W((7, 15), 0)),
    fc("odd-14", lambda x, w, b: x @ w.T + b, B(3), x=Q((1, 14)), w=W((3, 14), 0)),
    fc("", lambda x, w, b: x @ w.T + b, B(7)),
    fc("per-tensor", lambda x, w, b: x @ w.T + b, B(7), axis=None),
    fc("no-bias", lambda x, w: x @ w.T),
    fc("none-bias", lambda x, w, b: x @ w.T, None),
    fc("relu6", lambda x, w, b: np.clip(x @ w.T + b, 0, 6), B(7), act=3),
    fc("computed", lambda x, w: x @ w.T, w=Q((7, 16))),
    fc("keep-dims", lambda x, w, b: x @ w.T + b, B(7), keep=True, x=Q((2, 3, 16))),
    Case("TRANSPOSE_CONV", (i32(1, 9, 13, 4), W((4, 3, 3, 5), 0), X4, B(4)), transpose_conv,
         tc_options()),
    Case("TRANSPOSE_CONV", (i32(1, 9, 13, 4), W((4, 3, 3, 5), 0), X4), transpose_conv,
         tc_options(), "no-bias"),
    Case("TRANSPOSE_CONV", (i32(1, 9, 13, 4), W((4, 3, 3, 5), 0), X4, B(4)), lambda *a:
         relu(transpose_conv(*a)), tc_options(1), "relu"),
    Case("CONV_3D", (Q((1, 4, 4, 4, 3)), W((1, 1, 1, 3, 4), 4), B(4)), lambda x, w, b: x @ w[0, 0,
         0] + b, opts("Conv3D", padding=1, strideD=1, strideW=1, strideH=1)),
    Case("EMBEDDING_LOOKUP", (Run(i32(2, 0, 5)), Q((6, 8), const=True)), lambda i, t: t[i]),
    Case("DEPTHWISE_CONV_2D", (Q((1, 7, 8, 5)), W((1, 2, 2, 5), 3), B(5)),
         lambda *a: relu(depthwise(*a)), dw_options(1, fusedActivationFunction=1), "relu"),
    Case("TRANSPOSE_CONV", (i32(1, 9, 13, 4), W((4, 3, 3, 5), None), X4, B(4)), transpose_conv,
         tc_options(), "per-tensor"),
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
    unary("LEAKY_RELU", lambda x: np.where(x > 0, x, 0.2 * x), options=opts("LeakyRelu",
         alpha=0.2)),
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
    binary("DIV", np.divide, Q((20, 200), -0.05, 3), Q((20, 200), 0.05, 4), options=opts("Div")),
    unary("ZEROS_LIKE", np.zeros_like),
    binary("ADD", np.add, options=general("Add")),
    binary("ADD", np.add, X4, Q((5,), 0, 9, const=True), general("Add"),
         label="broadcast"),
    binary("ADD", lambda a, b: relu(a + b), options=general("Add", 1), label="relu"),
    binary("SUB", np.subtract, options=general("Sub")),
    binary("SUB", np.subtract, Q((1,), const=True), options=general("Sub"),
         label="scalar"),
    binary("MUL", np.multiply, options=opts("Mul")),
    binary("MUL", np.multiply, X4, Q((5,), const=True), opts("Mul"), label="broadcast"),
    *[binary(n, f, R5, S5, o, label="5d") for n, f, o in (("ADD", np.add, general("Add")),
      ("SUB", np.subtract, general("Sub")), ("MUL", np.multiply, opts("Mul")),
      ("SQUARED_DIFFERENCE", lambda a, b: (a - b) ** 2, None), ("MAXIMUM", np.maximum, None))],
    binary("SUB", lambda a, b: np.clip(a - b, 0, 6), options=general("Sub", 3), label="relu6"),
    binary("MUL", lambda a, b: np.clip(a * b, 0, 6), label="relu6",
           options=opts("Mul", fusedActivationFunction=3)),
    binary("SQUARED_DIFFERENCE", lambda a, b: (a - b) ** 2),
    binary("MAXIMUM", np.maximum, options=opts("MaximumMinimum")),
    binary("MINIMUM", np.minimum, options=opts("MaximumMinimum")),
    binary("MINIMUM", np.minimum, b=Q((1,), 0.5, 1, const=True), options=opts("MaximumMinimum"),
         label="broadcast"),
    binary("POW", np.power, POSITIVE, Q((2, 37), 0.5, 2)),
    binary("ATAN2", np.arctan2),
    binary("FLOOR_DIV", np.floor_divide, b=POSITIVE),
    binary("FLOOR_MOD", np.mod, b=POSITIVE),
    Case("PRELU", (X4, Q((1, 1, 5), 0.05, 0.4, const=True)), lambda x, a: np.where(x > 0, x, a *
         x)),
    Case("ADD_N", (V, V, V), lambda *a: sum(a)),
    binary("EQUAL", np.equal),
    binary("NOT_EQUAL", np.not_equal),
    binary("LESS", np.less),
    binary("LESS_EQUAL", np.less_equal),
    binary("GREATER", np.greater),
    binary("GREATER_EQUAL", np.greater_equal),
    # normalizing and pooling
    unary("SOFTMAX", softmax, Q((4, 10), -4, 5), opts("Softmax", beta=1.0)),
    unary("LOG_SOFTMAX", lambda x: np.log(softmax(x)), Q((4, 10), -4, 5)),
    unary("L2_NORMALIZATION", l2_norm, Q((4, 10)), opts("L2Norm")),
    unary("LOCAL_RESPONSE_NORMALIZATION", lambda x: x / (1 + 0 * x), Q((1, 2, 2, 8)),
         opts("LocalResponseNormalization", radius=1, bias=1.0, alpha=0.0, beta=0.5)),
    unary("AVERAGE_POOL_2D", lambda x: pool(x, np.mean), X4, pooling()),
    unary("AVERAGE_POOL_2D", lambda x: relu(pool(x, np.mean)), X4, pooling(1), label="relu"),
    unary("MAX_POOL_2D", lambda x: pool(x, np.max), X4, pooling()),
    unary("L2_POOL_2D", lambda x: np.sqrt(pool(x * x, np.mean)), X4, pooling()),
    unary("MAX_POOL_2D", lambda x: relu(pool(x, np.max)), X4, pooling(1), label="relu"),
    unary("SOFTMAX", softmax, Q((50, 10), -30, 20), opts("Softmax", beta=1.0), label="wide"),
    unary("SOFTMAX", lambda x: softmax(2 * x), Q((2, 3, 10), -4, 5), opts("Softmax", beta=2.0),
          label="beta"),
    # reducing
    *reductions("SUM", np.sum),
    *reductions("MEAN", np.mean),
    *reductions("REDUCE_MAX", np.max),
    *reductions("REDUCE_MIN", np.min),
    reduce_case("REDUCE_PROD", np.prod, (3,), True, Q((2, 3, 4, 3), 0.5, 1.5)),
    Case("CUMSUM", (V, np.array(1, np.int32)), lambda x, _: np.cumsum(x, 1), opts("Cumsum")),
    Case("ARG_MAX", (V, np.array(1, np.int32)), lambda x, _: x.argmax(1).astype(np.int32),
         opts("ArgMax", outputType=2)),
    Case("ARG_MIN", (V, np.array(1, np.int32)), lambda x, _: x.argmin(1).astype(np.int32),
         opts("ArgMin", outputType=2)),
    Case("SEGMENT_SUM", (Q((5, 4)), i32(0, 0, 1, 2, 2)), segment_sum),
    *[Case(f"UNSORTED_SEGMENT_{n}", (Q((5, 4)), i32(1, 0, 1, 2, 0), np.array(3, np.int32)),
         unsorted(f)) for n, f in (("SUM", np.sum), ("MAX", np.max), ("MIN", np.min), ("PROD",
         np.prod))],
    # multiplying activations
    Case("BATCH_MATMUL", (Q((2, 5, 6)), Q((2, 6, 4))), np.matmul, opts("BatchMatMul")),
    Case("BATCH_MATMUL", (Q((2, 5, 6)), Q((2, 4, 6))), lambda a, b: a @ b.transpose(0, 2, 1),
         opts("BatchMatMul", adjY=True), "adjoint"),
    Case("BATCH_MATMUL", (Q((2, 5, 6)), Q((2, 6, 4), const=True)), np.matmul, opts("BatchMatMul"),
         "const"),
    Case("BATCH_MATMUL", (Q((2, 5, 6), const=True), Q((2, 6, 4))), np.matmul,
         opts("BatchMatMul"), "const-left"),
    Case("BATCH_MATMUL", (Q((5, 6)), Q((2, 6, 4))), np.matmul, opts("BatchMatMul"), "broadcast"),
    Case("MEAN", (R5, i32(1, 3)), lambda x, _: x.mean((1, 3)), opts("Reducer"), "5d"),
    # moving
    Case("BATCH_TO_SPACE_ND", (Q((4, 2, 3, 5)), i32(2, 2), np.zeros((2, 2), np.int32)),
         batch_to_space),
    Case("BROADCAST_TO", (Q((1, 5)), i32(3, 5)), lambda x, s: np.broadcast_to(x, s)),
    Case("CONCATENATION", (V, V, V), lambda *a: np.concatenate(a, 1), opts("Concatenation",
         axis=1)),
    Case("DEPTH_TO_SPACE", (Q((1, 2, 3, 8)),), depth_to_space, opts("DepthToSpace", blockSize=2)),
    Case("DYNAMIC_UPDATE_SLICE", (Q((4, 5)), Q((2, 3)), Run(i32(1, 2))), update_slice),
    Case("EXPAND_DIMS", (V, i32(1)), lambda x, _: x[:, None]),
    Case("FILL", (i32(3, 4), Q(())), lambda s, v: np.full(tuple(s), v)),
    Case("GATHER", (Q((6, 8)), Run(i32(2, 0, 5))), lambda x, i: x[i], opts("Gather", axis=0)),
    Case("GATHER", (Q((6, 8)), i32(2, 0, 5)), lambda x, i: x[:, i], opts("Gather", axis=1),
         "axis1"),
    Case("GATHER_ND", (Q((6, 8)), np.array([[2, 1], [0, 7]], np.int32)), lambda x, i:
         x[tuple(i.T)]),
    Case("MATRIX_DIAG", (Q((4, 5), 0, 1),), lambda x: x[..., None] * np.eye(5)),
    Case("MATRIX_SET_DIAG", (Q((4, 5, 5)), Q((4, 5))),
         lambda x, d: np.where(np.eye(5) > 0, d[..., None], x)),
    Case("MIRROR_PAD", (Q((4, 5)), np.array([[1, 2], [2, 1]], np.int32)), lambda x, p: np.pad(x, p,
         "reflect"), opts("MirrorPad", mode=0)),
    Case("ONE_HOT", (Run(i32(1, 3)), np.array(4, np.int32), Q((), 1, 1), Q((), 0, 0)), lambda i, d,
         on, off: np.eye(4)[i] * float(on), opts("OneHot", axis=-1)),
    Case("PACK", (V, V), lambda *a: np.stack(a, 1), opts("Pack", valuesCount=2, axis=1)),
    Case("PAD", (X4, np.array([[0, 0], [1, 2], [2, 1], [0, 0]], np.int32)), np.pad),
    Case("PADV2", (X4, np.array([[0, 0], [1, 2], [2, 1], [0, 0]], np.int32), Q((), 1, 1, True)),
         lambda x, p, v: np.pad(x, p, constant_values=float(v))),
    Case("RESHAPE", (V, i32(37, 2)), lambda x, s: x.reshape(s), opts("Reshape", newShape=i32(37,
         2))),
    Case("RESIZE_BILINEAR", (X4, i32(8, 12)), bilinear, opts("ResizeBilinear",
         halfPixelCenters=True)),
    Case("RESIZE_NEAREST_NEIGHBOR", (X4, i32(8, 12)), nearest, opts("ResizeNearestNeighbor")),
    Case("REVERSE_SEQUENCE", (Q((3, 5, 2)), i32(2, 5, 3)), reverse_sequence, opts("ReverseSequence",
         seqDim=1, batchDim=0)),
    Case("REVERSE_V2", (V, i32(1)), lambda x, _: x[:, ::-1]),
    Case("SCATTER_ND", (np.array([[2], [0]], np.int32), Q((2, 5)), i32(4, 5)), scatter),
    Case("SELECT", (Run(MASK), V, V), np.where),
    Case("SELECT_V2", (Run(MASK), V, V), np.where),
    Case("SELECT_V2", (Run(MASK), V, Q((1,), const=True)), np.where, label="broadcast"),
    Case("SLICE", (X4, i32(0, 1, 2, 0), i32(1, 2, 3, 5)), lambda x, *_: x[:, 1:3, 2:5]),
    Case("SPACE_TO_BATCH_ND", (X4, i32(2, 2), np.zeros((2, 2), np.int32)), space_to_batch),
    Case("SPACE_TO_DEPTH", (X4,), space_to_depth, opts("SpaceToDepth", blockSize=2)),
    Case("SPARSE_TO_DENSE", (i32(1, 3), i32(5), Q((2,)), Q((), 0, 0, True)), lambda i, s, v, d:
         np.array([0, v[0], 0, v[1], 0])),
    Case("SPLIT", (np.array(1, np.int32), Q((2, 6))), lambda a, x: np.split(x, 3, 1), opts("Split",
         numSplits=3)),
    Case("SPLIT_V", (Q((2, 6)), i32(2, 4), np.array(1, np.int32)), lambda x, *_: [x[:, :2], x[:,
         2:]], opts("SplitV", numSplits=2)),
    Case("SQUEEZE", (Q((2, 1, 5)),), lambda x: x[:, 0], opts("Squeeze", squeezeDims=i32(1))),
    Case("STRIDED_SLICE", (X4, i32(0, 3, 0, 0), i32(1, 0, 6, 5), i32(1, -1, 2, 1)), lambda x, *_:
         x[:, 3:0:-1, 0:6:2], opts("StridedSlice")),
    Case("TILE", (V, i32(2, 3)), np.tile),
    Case("TOPK_V2", (V, np.array(4, np.int32)), topk),
    Case("TRANSPOSE", (X4, i32(0, 3, 1, 2)), np.transpose),
    Case("TRANSPOSE", (R5, i32(4, 0, 3, 1, 2)), np.transpose, label="5d"),
    Case("SLICE", (R5, i32(0, 0, 0, 1, 0), i32(2, 3, 2, 2, 2)), lambda x, *_: x[:, :, :, 1:],
         label="5d"),
    Case("PAD", (R5, np.array([[0, 0], [1, 0], [0, 0], [1, 1], [0, 0]], np.int32)), np.pad,
         label="5d"),
    Case("UNPACK", (Q((2, 3, 5)),), lambda x: list(x.transpose(1, 0, 2)), opts("Unpack", num=3,
         axis=1)),
]
# fmt: on
