"""The error of an op's constant weights."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tfq.evaluate.figures import Histogram, WeightFigures
from tfq.evaluate.layers.histogram import count_values
from tfq.graph.model import Model, Op, Tensor
from tfq.graph.numerics import LIMITS, Grid, dequantize
from tfq.graph.optable import Kind, spec

_BITS = {"int2": 2, "int4": 4, "uint4": 4, "int8": 8, "uint8": 8, "int16": 16}


def weight_figures(op: Op, floats: dict[str, Tensor], float_op: Op | None) -> WeightFigures | None:
    """The figures of the constant weights of a quantized op; None where it has none.

    Args:
      op: of the quantized model.
      floats: the float model's constants by name.
      float_op: the float model's op of the same output, whose weights are taken where no constant
        has the name of the quantized ones.
    """
    at = _weights_at(op)
    if at is None:
        return None
    weights = op.input(at)
    twin = _twin(weights, at, op, floats, float_op)
    if twin is None or weights.quant is None:
        return None
    row = spec(op.name)
    axis = row.axis if row is not None and row.weights == at else -1
    real = twin.values().astype(np.float32, copy=False)
    got = dequantize(weights.values(), Grid.of(weights.dtype, weights.quant))
    return WeightFigures(
        weights.name,
        weights.dtype,
        _BITS[weights.dtype],
        weights.quant.per_axis,
        _sqnr(*_powers(real, got)),
        imbalance(_magnitudes(real, axis)),
        _histogram(real, got),
    )


@dataclasses.dataclass(frozen=True)
class StoredWeights:
    """How far the weights of a model that computes in float are from the float model's.

    Attributes:
      sqnr_db: of all of them together; inf where exact.
      worst: name of the output of the op whose weights are the worst.
      worst_db: of those.
    """

    sqnr_db: float
    worst: str
    worst_db: float


def stored_weights(float_model: Model, quantized: Model) -> StoredWeights | None:
    """Compares what is stored in fewer bits, whether ops read it so or behind a DEQUANTIZE.

    Returns:
      None where there is nothing to compare.
    """
    floats = {t.name: t for t in float_model.main.tensors() if t.is_const}
    float_ops = {t.name: op for op in float_model.main.ops for t in op.outputs}
    stored = {op.outputs[0]: op.input(0) for op in quantized.main.ops if op.name == "DEQUANTIZE"}
    found: dict[Tensor, tuple[float, float, str]] = {}
    for op in quantized.main.ops:
        if op.name == "DEQUANTIZE" or not op.outputs:
            continue
        for at, read in enumerate(op.inputs):
            t = None if read is None else stored.get(read, read)
            if read is None or t is None or t in found or not t.is_const:
                continue
            if t.dtype != "float16" and (t.quant is None or t.dtype not in _BITS):
                continue
            float_op = float_ops.get(op.outputs[0].name)
            twin = _twin(t, at, op, floats, float_op) or _twin(read, at, op, floats, float_op)
            if twin is None:
                continue
            got = t.values().astype(np.float32)
            if t.quant is not None:
                got = dequantize(t.values(), Grid.of(t.dtype, t.quant))
            real = twin.values().astype(np.float32, copy=False)
            found[t] = (*_powers(real, got), op.outputs[0].name)
    if not found:
        return None
    power = math.fsum(p for p, _, _ in found.values())
    noise = math.fsum(n for _, n, _ in found.values())
    each = [(_sqnr(p, n), name) for p, n, name in found.values()]
    worst_db, worst = min(each)
    return StoredWeights(_sqnr(power, noise), worst, worst_db)


def _twin(
    weights: Tensor, at: int, op: Op, floats: dict[str, Tensor], float_op: Op | None
) -> Tensor | None:
    """The float values of the constant input `at` of an op of the quantized model."""
    twin = floats.get(weights.name)
    if (twin is None or twin.shape != weights.shape) and float_op is not None:
        same = float_op.name == op.name and at < len(float_op.inputs)
        twin = float_op.inputs[at] if same else None
    if twin is None or not twin.is_const or twin.shape != weights.shape or not twin.size:
        return None
    return twin if twin.dtype in ("float32", "float16") else None


def _weights_at(op: Op) -> int | None:
    """Which input is the op's quantized constant weights."""
    row = spec(op.name)
    if row is not None and row.kind is Kind.WEIGHTED:
        candidates = [row.weights]
    elif row is not None and row.learned is not None:
        candidates = list(range(len(op.inputs)))
    else:
        return None
    for i in candidates:
        t = op.inputs[i] if i is not None and i < len(op.inputs) else None
        # The tables that stand for functions have one dimension.
        if t is not None and t.is_const and t.quant is not None and len(t.shape) > 1:
            if t.dtype in LIMITS and t.dtype in _BITS:
                return i
    return None


def _powers(real: np.ndarray, got: np.ndarray) -> tuple[float, float]:
    """Sums of the squares of the values and of the errors."""
    flat, error = real.reshape(-1), (got - real).reshape(-1)
    power, noise = (float(np.einsum("i,i->", x, x, dtype=np.float64)) for x in (flat, error))
    return power, noise


def _sqnr(power: float, noise: float) -> float:
    return 10 * math.log10(max(power, 1e-300) / noise) if noise else math.inf


def _magnitudes(values: np.ndarray, axis: int | None) -> np.ndarray:
    """The largest magnitude of each channel; of one channel without an axis."""
    if axis is None:
        return np.abs(values).max(keepdims=True).reshape(1)
    others = tuple(i for i in range(values.ndim) if i != axis % values.ndim)
    return np.maximum(values.max(axis=others), -values.min(axis=others))


def imbalance(magnitudes: np.ndarray) -> float:
    """The widest channel over the median one, of those that are not zero throughout."""
    live = magnitudes[magnitudes > 0]
    return float(live.max() / np.median(live)) if live.size else 1.0


def _histogram(real: np.ndarray, got: np.ndarray) -> Histogram | None:
    low = float(min(real.min(), got.min()))
    high = float(max(real.max(), got.max()))
    if not low < high:
        return None
    return Histogram(low, high, count_values(real, low, high), count_values(got, low, high))
