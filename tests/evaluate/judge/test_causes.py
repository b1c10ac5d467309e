"""Each cause: a model that has exactly it is found to have it, and the remedy mends the tensor.

The models are converted, analysed and judged; then the call of the first finding's remedy is made
as it is printed, and the tensor's error is measured again.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from small_models import ACT, Net, cnn

import tfq
from tfq.equalize import rescale_prepared
from tfq.evaluate.figures import LayerAnalysis, TensorFigures
from tfq.evaluate.judge import Finding, judge
from tfq.evaluate.layers import analyse_layers
from tfq.graph.model import Model
from tfq.rewrite.prepare import prepare

SAMPLES = 32


@dataclasses.dataclass
class Case:
    """A model with a fault.

    Attributes:
      model: float bytes.
      data: samples, [n, *input shape without the batch].
      options: of the conversion that makes the fault.
      seen: what calibration saw, if not `data`.
    """

    model: bytes
    data: np.ndarray
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seen: np.ndarray | None = None

    def analyse(self, **options: Any) -> LayerAnalysis:
        seen = self.data if self.seen is None else self.seen
        given = {"equalization": "none", **self.options, **options}
        result = tfq.convert_model(self.model, {"x0": seen}, **given)
        activations = "int16" if given.get("scheme") == "int16x8" else "int8"
        name = Model.from_bytes(self.model).main.inputs[0].name
        prepared = prepare(self.model, activations=activations)
        return analyse_layers(
            rescale_prepared(prepared, result.plan.equalization).bytes,
            result.model,
            ({name: row[None]} for row in self.data),
        )


def options_of(finding: Finding) -> dict[str, Any]:
    """The options in a remedy's call, evaluated as Python would."""
    assert finding.remedy.call is not None
    call = ast.parse(finding.remedy.call, mode="eval").body
    assert isinstance(call, ast.Call) and ast.unparse(call.func) == "tfq.convert_model"
    return {
        str(k.arg): eval(compile(ast.Expression(k.value), "call", "eval"), {"tfq": tfq})
        for k in call.keywords
    }


def tensor(analysis: LayerAnalysis, name: str) -> TensorFigures:
    return next(t for t in analysis.tensors if t.name == name)


def error(t: TensorFigures, kind: str = "accumulated") -> float:
    reading = getattr(t, kind)
    assert reading is not None
    return float(reading.sqnr_db)


def normal(*shape: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def outlier_range() -> Case:
    """One calibration sample has one huge value, which the model never sees again."""
    net = Net(3)
    x = net.input(1, 24, 24, 4, name="image")
    y = net.conv(x, 8, size=1, act=ACT.RELU, out="first")
    y = net.conv(y, 8, size=1, out="second")
    data = normal(SAMPLES, 24, 24, 4)
    seen = np.concatenate([data, data[:1]])
    seen[-1, 8, 8, 0] = 300.0
    return Case(net.bytes(y), data, {"calibration": "minmax"}, seen)


def saturating() -> Case:
    net = Net(4)
    x = net.input(1, 12, 12, 4, name="image")
    y = net.conv(x, 8, act=ACT.RELU, out="first")
    y = net.conv(y, 8, out="second")
    return Case(net.bytes(y), normal(SAMPLES, 12, 12, 4), {"calibration": "mean_std:1.2"})


def unlike_data() -> Case:
    """Calibration saw a quarter of the contrast."""
    case = saturating()
    return Case(case.model, case.data, {}, case.data / 4)


def weight_imbalance() -> Case:
    """Inputs are nearly alike, so that an average of 64 is as large as a single one of them."""
    net = Net(5)
    x = net.input(1, 64, name="x")
    weights = np.full((8, 64), 1 / 100, np.float32)
    weights += net.rng.normal(0, 1e-3, weights.shape)
    weights[:2] = 0
    weights[0, 3] = weights[1, 5] = 1.0
    y = net.dense(x, 8, weights=weights, bias=np.zeros(8), out="mixed")
    y = net.dense(y, 4, out="answer")
    data = normal(SAMPLES, 1) + 0.1 * normal(SAMPLES, 64, seed=6)
    return Case(
        net.bytes(y), data, {"granularity": "per_tensor", "dense_granularity": "per_tensor"}
    )


def coarse_weights() -> Case:
    """One of 64 output channels reads a small input channel only, with weights six times as large."""
    net = Net(6)
    x = net.input(1, 10, 10, 4, name="image")
    weights = net.rng.normal(0, 0.2, (64, 3, 3, 4))
    weights[0, ..., :3] = 0
    weights[0] *= 12
    y = net.conv(x, 64, weights=weights, bias=np.zeros(64), out="conv")
    data = normal(SAMPLES, 10, 10, 4)
    data[..., 3] /= 6
    return Case(net.bytes(y), data, {"granularity": "per_tensor"})


def bias_error() -> Case:
    """Inputs far from zero, weights that sum to zero: what rounding leaves of the sum is a shift."""
    net = Net(7)
    x = net.input(1, 32, name="x")
    weights = net.rng.normal(0, 1, (16, 32))
    weights -= weights.mean(axis=1, keepdims=True)
    y = net.dense(x, 16, weights=weights, bias=np.zeros(16), out="sum")
    y = net.dense(y, 8, out="answer")
    return Case(net.bytes(y), 12 + normal(128, 32), {"bias_correction": "none"})


def shared_scale() -> Case:
    """A branch a hundred times as wide as the other, which the next layer needs as much."""
    net = Net(8)
    x = net.input(1, 10, 10, 4, name="image")
    wide = net.conv(x, 4, weights=100 * net.rng.normal(0, 0.2, (4, 3, 3, 4)), out="wide")
    narrow = net.conv(x, 4, out="narrow")
    joint = net.concat(wide, narrow, out="joint")
    weights = net.rng.normal(0, 0.2, (8, 1, 1, 8))
    weights[..., :4] /= 100
    y = net.conv(joint, 8, size=1, weights=weights, out="answer")
    return Case(net.bytes(y), normal(SAMPLES, 10, 10, 4))


def fixed_grid() -> Case:
    """A gate that is nearly shut: its values use 2 % of what the kernel writes."""
    net = Net(9)
    x = net.input(1, 32, name="x")
    a = net.dense(x, 32, bias=np.full(32, -6.0), out="argument")
    gate = net.op("LOGISTIC", a, out="gate")
    y = net.dense(gate, 8, bias=np.zeros(8), out="answer")
    return Case(net.bytes(y), normal(SAMPLES, 32))


def cancels() -> Case:
    """The difference of two nearly equal layers."""
    net = Net(10)
    x = net.input(1, 32, name="x")
    weights = net.rng.normal(0, 0.2, (16, 32))
    a = net.dense(x, 16, weights=weights, out="one")
    b = net.dense(x, 16, weights=weights + net.rng.normal(0, 0.004, (16, 32)), out="other")
    return Case(net.bytes(net.op("SUB", a, b, out="difference")), normal(SAMPLES, 32))


def channel_imbalance() -> Case:
    """Most channels are 50 times smaller than the widest; the next layer evens that out."""
    net = Net(11)
    x = net.input(1, 10, 10, 4, name="image")
    size = np.where(np.arange(16) < 3, 1.0, 1 / 50)
    first = net.rng.normal(0, 0.2, (16, 3, 3, 4)) * size[:, None, None, None]
    y = net.conv(x, 16, weights=first, bias=np.zeros(16), act=ACT.RELU, out="uneven")
    y = net.conv(y, 8, size=1, weights=net.rng.normal(0, 0.3, (8, 1, 1, 16)) / size, out="answer")
    return Case(net.bytes(y), normal(SAMPLES, 10, 10, 4))


def silenced_channels() -> Case:
    """Three channels of 16 are a thousand times smaller; the next layer evens that out."""
    net = Net(12)
    x = net.input(1, 10, 10, 4, name="image")
    size = np.where(np.arange(16) < 3, 1 / 1000, 1.0)
    first = net.rng.normal(0, 0.2, (16, 3, 3, 4)) * size[:, None, None, None]
    y = net.conv(x, 16, weights=first, bias=np.zeros(16), act=ACT.RELU, out="uneven")
    y = net.conv(y, 8, size=1, weights=net.rng.normal(0, 0.3, (8, 1, 1, 16)) / size, out="answer")
    return Case(net.bytes(y), normal(SAMPLES, 10, 10, 4))


def accumulates() -> Case:
    """Forty layers that only turn the signal."""
    net = Net(13)
    y = net.input(1, 24, name="x")
    for i in range(40):
        q, _ = np.linalg.qr(net.rng.normal(0, 1, (24, 24)))
        y = net.dense(y, 24, weights=q, bias=np.zeros(24), out=f"turned{i}")
    return Case(net.bytes(net.dense(y, 8, out="answer")), normal(SAMPLES, 24))


def dead_channels() -> Case:
    net = Net(14)
    x = net.input(1, 8, 8, 2, name="image")
    bias = np.where(np.arange(8) < 4, -100.0, 0.0)
    y = net.conv(x, 8, bias=bias, act=ACT.RELU, out="half")
    return Case(net.bytes(net.conv(y, 4, out="answer")), normal(SAMPLES, 8, 8, 2))


# Builder, cause, the tensor that has it, what to measure it by.
CASES: list[tuple[Callable[[], Case], str, str, str]] = [
    (outlier_range, "outlier_range", "first", "accumulated"),
    (saturating, "saturating", "first", "accumulated"),
    (unlike_data, "saturating", "first", "accumulated"),
    (weight_imbalance, "channel_imbalance", "mixed", "accumulated"),
    (coarse_weights, "weights_too_coarse", "conv", "accumulated"),
    (bias_error, "bias_error", "sum", "accumulated"),
    (shared_scale, "shared_scale", "narrow", "accumulated"),
    (fixed_grid, "fixed_grid", "gate", "accumulated"),
    (cancels, "too_few_bits", "difference", "accumulated"),
    (channel_imbalance, "channel_imbalance", "uneven", "accumulated"),
    (silenced_channels, "silenced_channels", "uneven", "accumulated"),
    (accumulates, "accumulates", "answer", "accumulated"),
]
