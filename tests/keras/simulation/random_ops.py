"""Ops on random shapes, grids and options, as integer models of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from small_models import ACT

from tfq.graph.model import Graph, Model, Op, Quant, Tensor, options_type
from tfq.graph.numerics import LIMITS
from tfq.graph.optable import op_version

_ACTS = (ACT.NONE, ACT.RELU, ACT.RELU6, ACT.RELU_N1_TO_1)


class Draw:
    """The random parts of one op.

    Args:
      seed: same seed, same op.
      dtype: "int8" or "int16" activations.
      weights: the type of weights: "int8" or "int4".
    """

    def __init__(self, seed: int, dtype: str = "int8", weights: str = "int8"):
        self.rng = np.random.default_rng(seed)
        self.dtype, self.weights_dtype, self.count = dtype, weights, 0
        # int16 grids are finer: the same range in 256 times as many steps.
        self.fine = 256 if dtype == "int16" else 1

    def n(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high, endpoint=True))

    def maybe(self) -> bool:
        return bool(self.rng.integers(0, 2))

    def quant(self, scale: float | None = None) -> Quant:
        zero = 0 if self.dtype == "int16" else self.n(-128, 127)
        scale = float(np.exp(self.rng.uniform(-4.6, -2.3))) if scale is None else scale
        return Quant.per_tensor(scale / self.fine, zero)

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.rng.integers(*LIMITS[self.dtype], shape, endpoint=True).astype(self.dtype)

    def tensor(self, *shape: int, quant: Quant | None = None, const: bool = False) -> Tensor:
        self.count += 1
        data = self.values(shape) if const else None
        return Tensor(f"t{self.count}", shape, self.dtype, data, quant or self.quant())

    def weights(self, *shape: int, axis: int) -> Tensor:
        """With a scale per index of `axis`, or one."""
        low, high = LIMITS[self.weights_dtype]
        data = self.rng.integers(low + 1, high, shape, endpoint=True).astype(np.int8)
        channels = shape[axis] if self.maybe() else 1
        scales = np.exp(self.rng.uniform(-6.2, -4, channels)).astype(np.float32)
        quant = Quant(scales, np.zeros(channels, np.int64), axis if channels > 1 else 0)
        return Tensor("w", shape, self.weights_dtype, data, quant)

    def bias(self, x: Tensor, w: Tensor, channels: int) -> Tensor:
        assert x.quant is not None
        assert w.quant is not None
        scales = (x.quant.scale[0] * w.quant.scale).astype(np.float32)
        wide = "int64" if self.dtype == "int16" else "int32"
        data = self.rng.integers(-3000, 3000, channels).astype(wide)
        return Tensor(
            "b", (channels,), wide, data, Quant(scales, np.zeros(scales.size, np.int64), 0)
        )

    def constant(self, *values: int) -> Tensor:
        self.count += 1
        return Tensor(f"k{self.count}", (len(values),), "int32", np.array(values, np.int32))

    def summed(self, x: Tensor, w: Tensor, terms: float) -> Quant:
        """A grid that a sum of so many products mostly fills."""
        assert x.quant is not None
        assert w.quant is not None
        step = float(x.quant.scale[0]) * 100 * self.fine * float(w.quant.scale.mean())
        step *= LIMITS[w.dtype][1] / 2
        return self.quant(step * terms**0.5 / 60)

    def activation(self) -> int:
        return _ACTS[self.n(0, 3)]


def options(name: str, **fields: Any) -> Any:
    made = options_type(name + "Options")()
    for key, value in fields.items():
        assert hasattr(made, key), key
        setattr(made, key, value)
    return made


def model_of(op: Op) -> Model:
    """The op alone; every tensor that is no constant is an input."""
    op.version = op_version(op)
    inputs = list(dict.fromkeys(t for t in op.inputs if t is not None and not t.is_const))
    return Model([Graph("main", [op], inputs, op.outputs)])


def _extent(n: int, size: int, step: int, dilation: int, same: int) -> int:
    return -(-n // step) if same else (n - (size - 1) * dilation - 1) // step + 1


def _convolution(d: Draw, depthwise: bool) -> Op:
    h, w, c = d.n(8, 12), d.n(8, 12), d.n(1, 20)
    size = d.n(1, 4), d.n(1, 4)
    step = d.n(1, 3), d.n(1, 3)
    dilation = (2, d.n(1, 2)) if step == (1, 1) else (1, 1)
    same = d.n(0, 1)
    shared: dict[str, Any] = {
        "padding": 1 - same,
        "strideH": step[0],
        "strideW": step[1],
        "dilationHFactor": dilation[0],
        "dilationWFactor": dilation[1],
        "fusedActivationFunction": d.activation(),
    }
    x = d.tensor(d.n(1, 2), h, w, c)
    if depthwise:
        multiplier = d.n(1, 2)
        out, terms = c * multiplier, size[0] * size[1]
        kernel = d.weights(1, *size, out, axis=3)
        made = options("DepthwiseConv2D", depthMultiplier=multiplier, **shared)
        op = Op("DEPTHWISE_CONV_2D", [x, kernel, d.bias(x, kernel, out)], [], made)
    else:
        groups = 2 if c % 2 == 0 and d.maybe() else 1
        out, terms = groups * d.n(1, 20), size[0] * size[1] * c // groups
        kernel = d.weights(out, *size, c // groups, axis=0)
        op = Op("CONV_2D", [x, kernel, d.bias(x, kernel, out)], [], options("Conv2D", **shared))
    extents = [_extent(*v, same) for v in zip((h, w), size, step, dilation, strict=True)]
    op.outputs = [d.tensor(x.shape[0], *extents, out, quant=d.summed(x, kernel, terms))]
    return op


def fully_connected(d: Draw) -> Op:
    rows, c, out = d.n(1, 9), 2 * d.n(1, 35), d.n(1, 50)
    x = d.tensor(rows, c)
    w = d.weights(out, c, axis=0)
    bias = [d.bias(x, w, out)] if d.maybe() else []
    y = d.tensor(rows, out, quant=d.summed(x, w, c))
    made = options("FullyConnected", fusedActivationFunction=d.activation())
    return Op("FULLY_CONNECTED", [x, w, *bias], [y], made)


def transpose_conv(d: Draw) -> Op:
    h, w, c, out = d.n(1, 7), d.n(1, 7), d.n(1, 12), d.n(1, 20)
    size, step, same = (d.n(1, 5), d.n(1, 5)), (d.n(1, 3), d.n(1, 3)), d.n(0, 1)
    full = [n * s if same else (n - 1) * s + k for n, s, k in zip((h, w), step, size, strict=True)]
    x = d.tensor(1, h, w, c)
    kernel = d.weights(out, *size, c, axis=0)
    bias = [d.bias(x, kernel, out)] if d.maybe() else []
    terms = size[0] * size[1] * c / (step[0] * step[1]) + 1
    y = d.tensor(1, *full, out, quant=d.summed(x, kernel, terms))
    made = options(
        "TransposeConv",
        padding=1 - same,
        strideH=step[0],
        strideW=step[1],
        fusedActivationFunction=_ACTS[d.n(0, 1)],
    )
    return Op("TRANSPOSE_CONV", [d.constant(1, *full, out), kernel, x, *bias], [y], made)


def batch_matmul(d: Draw) -> Op:
    b, m, k, n = d.n(1, 3), d.n(1, 40), d.n(1, 60), d.n(1, 40)
    flip = d.maybe(), d.maybe()
    x = d.tensor(*((b, k, m) if flip[0] else (b, m, k)))
    y = d.tensor(*((b, n, k) if flip[1] else (b, k, n)), const=d.maybe())
    out = d.tensor(b, m, n, quant=d.summed(x, y, k))
    return Op("BATCH_MATMUL", [x, y], [out], options("BatchMatMul", adjX=flip[0], adjY=flip[1]))


def _binary(name: str) -> Callable[[Draw], Op]:
    def make(d: Draw) -> Op:
        full = tuple(d.n(1, 6) for _ in range(d.n(1, 4)))
        other = full[d.n(0, len(full) - 1) :] if d.maybe() else full
        shapes = (full, other) if d.maybe() else (other, full)
        x, y = d.tensor(*shapes[0]), d.tensor(*shapes[1])
        assert x.quant is not None
        assert y.quant is not None
        s1, s2 = (float(t.quant.scale[0]) * d.fine for t in (x, y) if t.quant)
        step = {"MUL": s1 * s2 * 60, "SQUARED_DIFFERENCE": max(s1, s2) ** 2 * 120}.get(
            name, max(s1, s2) * float(np.exp(d.rng.uniform(-1, 1)))
        )
        fields: dict[str, Any] = {"fusedActivationFunction": d.activation()}
        if name in ("ADD", "SUB"):
            fields["potScaleInt16"] = False
        made = None if name == "SQUARED_DIFFERENCE" else options(name.title(), **fields)
        return Op(name, [x, y], [d.tensor(*full, quant=d.quant(step))], made)

    return make


def _reduction(name: str) -> Callable[[Draw], Op]:
    def make(d: Draw) -> Op:
        shape = tuple(d.n(1, 9) for _ in range(d.n(2, 5)))
        axes = sorted(d.rng.choice(len(shape), d.n(1, len(shape)), replace=False).tolist())
        if len(shape) == 4 and d.maybe():
            axes = [1, 2]
        keep = d.maybe()
        x = d.tensor(*shape)
        assert x.quant is not None
        out = tuple(1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes)
        terms = float(np.prod([shape[a] for a in axes]))
        power = 0.5 if name == "SUM" else -0.5
        step = float(x.quant.scale[0]) * d.fine * terms**power * np.exp(d.rng.uniform(-1, 0.5))
        y = d.tensor(*out, quant=d.quant(float(step)))
        return Op(name, [x, d.constant(*axes)], [y], options("Reducer", keepDims=keep))

    return make


def _pool(name: str) -> Callable[[Draw], Op]:
    def make(d: Draw) -> Op:
        h, w, c = d.n(4, 12), d.n(4, 12), d.n(1, 20)
        size, step, same = (d.n(1, 4), d.n(1, 4)), (d.n(1, 3), d.n(1, 3)), d.n(0, 1)
        x = d.tensor(d.n(1, 2), h, w, c)
        extents = [_extent(*v, same) for v in zip((h, w), size, step, (1, 1), strict=True)]
        made = options(
            "Pool2D",
            padding=1 - same,
            strideH=step[0],
            strideW=step[1],
            filterHeight=size[0],
            filterWidth=size[1],
            fusedActivationFunction=d.activation(),
        )
        return Op(name, [x], [d.tensor(x.shape[0], *extents, c, quant=x.quant)], made)

    return make


def softmax(d: Draw) -> Op:
    shape = tuple(d.n(1, 30) for _ in range(d.n(1, 3)))
    x = d.tensor(*shape, quant=d.quant(float(np.exp(d.rng.uniform(-5.3, 0)))))
    fixed = {"int8": (1 / 256, -128), "int16": (1 / 32768, 0)}[d.dtype]
    y = d.tensor(*shape, quant=Quant.per_tensor(*fixed))
    return Op("SOFTMAX", [x], [y], options("Softmax", beta=(1.0, 1.0, 0.5)[d.n(0, 2)]))


def requantize(d: Draw) -> Op:
    shape = d.n(1, 30), d.n(1, 30)
    return Op("QUANTIZE", [d.tensor(*shape)], [d.tensor(*shape)])


def prelu(d: Draw) -> Op:
    h, w, c = d.n(1, 6), d.n(1, 6), d.n(1, 20)
    alpha = d.tensor(*((1, 1, c) if d.maybe() else (h, w, c)), const=True)
    return Op("PRELU", [d.tensor(1, h, w, c), alpha], [d.tensor(1, h, w, c)])


def _resize(name: str, made: str) -> Callable[[Draw], Op]:
    def make(d: Draw) -> Op:
        h, w, c = d.n(1, 6), d.n(1, 6), d.n(1, 20)
        size, mode = (d.n(1, 12), d.n(1, 12)), d.n(0, 2)
        x = d.tensor(1, h, w, c)
        y = d.tensor(1, *size, c, quant=x.quant)
        which = options(made, alignCorners=mode == 1, halfPixelCenters=mode == 2)
        return Op(name, [x, d.constant(*size)], [y], which)

    return make


MAKERS: dict[str, Callable[[Draw], Op]] = {
    "CONV_2D": lambda d: _convolution(d, depthwise=False),
    "DEPTHWISE_CONV_2D": lambda d: _convolution(d, depthwise=True),
    "TRANSPOSE_CONV": transpose_conv,
    "FULLY_CONNECTED": fully_connected,
    "BATCH_MATMUL": batch_matmul,
    "ADD": _binary("ADD"),
    "SUB": _binary("SUB"),
    "MUL": _binary("MUL"),
    "SQUARED_DIFFERENCE": _binary("SQUARED_DIFFERENCE"),
    "PRELU": prelu,
    "MEAN": _reduction("MEAN"),
    "SUM": _reduction("SUM"),
    "AVERAGE_POOL_2D": _pool("AVERAGE_POOL_2D"),
    "MAX_POOL_2D": _pool("MAX_POOL_2D"),
    "SOFTMAX": softmax,
    "QUANTIZE": requantize,
    "RESIZE_BILINEAR": _resize("RESIZE_BILINEAR", "ResizeBilinear"),
    "RESIZE_NEAREST_NEIGHBOR": _resize("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighbor"),
}
