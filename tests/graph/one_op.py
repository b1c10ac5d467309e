"""Models of one op: quantized inputs drawn at random, and the truth in numpy.

The inputs of a `Case` say what each tensor is; `build` puts them on grids as the op's kind asks,
and `error` is the distance of the interpreter's output from the truth, in LSB.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from tfq.graph.model import Graph, Model, Op, Quant, Tensor, options_type
from tfq.graph.numerics import LIMITS
from tfq.graph.optable import Kind, op_version
from tfq.runtime import Runner

RANGE = {"int8": (-128, 127), "int16": (-32768, 32767), "uint8": (0, 255)}


@dataclasses.dataclass(frozen=True)
class Q:
    """A quantized input, uniform in [low, high]."""

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 3.0
    const: bool = False


@dataclasses.dataclass(frozen=True)
class W:
    """Weights, normal, with one scale per index of `axis`."""

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


def build(
    case: Case,
    dtype: str,
    kind: Kind,
    fixed: Any = None,
    version: int | None = None,
    weights: str = "int8",
):
    """The one-op model of a case, its inputs and its true outputs.

    With float32 activations the output is not on a grid: `noise` is for those.
    """
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
        elif isinstance(item, Q) and dtype == "float32":
            argument = drawn[n]
            assert argument is not None
            tensor, feeds[name] = Tensor(name, item.shape, dtype), argument.astype(np.float32)
        elif isinstance(item, B) and dtype == "float32":
            argument = rng.uniform(-1, 1, item.n).astype(np.float32)
            tensor = Tensor(name, (item.n,), dtype, argument)
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
            top = LIMITS[weights][1]
            if item.axis is None:
                weight_scale = np.array([abs(w).max() / top])
                wide = weight_scale
            else:
                others = tuple(a for a in range(w.ndim) if a != item.axis)
                wide = abs(w).max(axis=others, keepdims=True) / top
                weight_scale = wide.reshape(-1)
            weight_scale = weight_scale.astype(np.float32)
            wide = wide.astype(np.float32)
            q = np.round(w / wide).astype(np.int8)
            quant = Quant(weight_scale, np.zeros(weight_scale.size, np.int64), item.axis or 0)
            tensor, argument = Tensor(name, item.shape, weights, q, quant), q * wide.astype(float)
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
        if dtype == "float32":
            quant = None
        elif kind is Kind.SAME:
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


def noise(built: Built, kernels: str) -> float:
    """How far float outputs are from the truth: the error's power relative to the truth's."""
    got = Runner(built.model.to_bytes(), kernels=kernels).run(built.feeds)
    pairs = zip(built.model.main.outputs, built.truths, strict=True)
    return max(float(np.sum((got[t.name] - y) ** 2) / np.sum(y**2)) for t, y in pairs)
