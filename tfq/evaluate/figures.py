"""What is known about a quantized tensor and its error, as plain values.

Layer analysis fills these, causes are named from them, and the report shows them.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class Reading:
    """The error of one tensor against the float model, over all values of all samples.

    Attributes:
      sqnr_db: signal to quantization noise, 10 log10(sum y^2 / sum (y - y_q)^2); inf where exact.
      mean_lsb, max_lsb: distance in steps of the tensor's grid.
      bias_lsb: absolute value of the mean error, in steps: what does not average out.
      worst_bias_lsb: the same of the worst channel (last axis).
      shift: part of the noise power that is the channels' mean errors, 0 to 1; None where it was
        not counted. For the causes, not in reports.
    """

    sqnr_db: float
    mean_lsb: float
    max_lsb: float
    bias_lsb: float
    worst_bias_lsb: float
    shift: float | None = None


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Counts in equal linear bins over [low, high]: float values, and those of the quantized model.

    Attributes:
      low, high: real values.
      float_counts: of the float model.
      quantized_counts: of the quantized model's dequantized values as it runs, or None.
    """

    low: float
    high: float
    float_counts: tuple[int, ...]
    quantized_counts: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Channels:
    """The float tensor's channels (last axis).

    Attributes:
      count: how many.
      imbalance: largest magnitude of the widest live channel over the median live channel's.
      dead: channels that are zero in the float model on every sample.
      silenced: channels that vary in the float model but are constant in the quantized one.
    """

    count: int
    imbalance: float
    dead: int
    silenced: int


@dataclasses.dataclass(frozen=True)
class WeightFigures:
    """The constant weights of the op that computes a tensor.

    Attributes:
      name: of the constant.
      dtype: "int8", "int4", ...
      bits: of the dtype.
      per_channel: whether every output channel has its own scale.
      sqnr_db: of the dequantized weights against the float ones; inf where exact.
      imbalance: largest output channel's magnitude over the median one's.
      histogram: of the float and of the dequantized weights.
    """

    name: str
    dtype: str
    bits: int
    per_channel: bool
    sqnr_db: float
    imbalance: float
    histogram: Histogram | None = None


@dataclasses.dataclass(frozen=True)
class PartRange:
    """One of the slices whose float values differ in range: its name and ends, "[..., 4:10]"."""

    name: str
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class TensorFigures:
    """One quantized tensor.

    Attributes:
      name: the tensor's name, the same in both models.
      layer: path of the layer that it came from, or "".
      op: label of the op that computes it in the quantized model ("INPUT" for an input).
      dtype, shape, scale, zero_point: of the quantized tensor.
      inputs: names of the analysed tensors that it is computed from.
      isolated: error when only what lies between its inputs and itself is quantized, on the float
        model's values of the inputs; None where that cannot be run.
      accumulated: error as the quantized model runs.
      saturation: share of the float values beyond the grid's range by more than half a step.
      used: share of the grid's integers between the smallest and the largest float value.
      observed: smallest and largest float value.
      grid: lowest and highest real value of the grid.
      channels: None for tensors without a channel axis.
      weights: None for ops without weights.
      histogram: of the values.
      percentile_range: (lo, hi) that hold the middle 99.99 % of the float values.
      shares_with: names of other tensors whose grid the op forces to be the same (concatenation,
        pooling, ...), with each one's observed range.
      note: why there is no isolated reading, or "".
      power: mean square of the float values; None where it was not counted.
      parts: slices of the last axis that differ in range; none where all are alike.
    """

    name: str
    layer: str
    op: str
    dtype: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    inputs: tuple[str, ...]
    isolated: Reading | None
    accumulated: Reading | None
    saturation: float
    used: float
    observed: tuple[float, float]
    grid: tuple[float, float]
    percentile_range: tuple[float, float]
    channels: Channels | None = None
    weights: WeightFigures | None = None
    histogram: Histogram | None = None
    shares_with: tuple[tuple[str, tuple[float, float]], ...] = ()
    note: str = ""
    power: float | None = None
    parts: tuple[PartRange, ...] = ()


@dataclasses.dataclass(frozen=True)
class LayerAnalysis:
    """All quantized tensors of one model, in the order of execution.

    Attributes:
      samples: how many were run.
      tensors: the figures.
      unmatched: names of quantized tensors that the float model has no counterpart of.
    """

    samples: int
    tensors: tuple[TensorFigures, ...]
    unmatched: tuple[str, ...] = ()


def finite(value: float | None) -> float | None:
    """JSON has no infinity: an exact tensor has no noise to compare with."""
    return value if value is not None and math.isfinite(value) else None


def as_dict(analysis: LayerAnalysis) -> list[dict[str, Any]]:
    """The tensors as the report holds them; see `tfq/report/schema.json`."""
    number = {t.name: i for i, t in enumerate(analysis.tensors)}
    return [
        {
            "name": t.name,
            "layer": t.layer or None,
            "op": t.op,
            "dtype": t.dtype,
            "shape": list(t.shape),
            "scale": t.scale,
            "zero_point": t.zero_point,
            "inputs": [number[n] for n in t.inputs if n in number],
            "isolated": _reading(t.isolated),
            "accumulated": _reading(t.accumulated),
            "saturation": t.saturation,
            "used": t.used,
            "observed": list(t.observed),
            "grid": list(t.grid),
            "channels": None
            if t.channels is None
            else {**dataclasses.asdict(t.channels), "imbalance": finite(t.channels.imbalance)},
            "weights": None if t.weights is None else _weights(t.weights),
            "histogram": _histogram(t.histogram),
        }
        for t in analysis.tensors
    ]


def _reading(r: Reading | None) -> dict[str, Any] | None:
    if r is None:
        return None
    return {k: finite(v) for k, v in dataclasses.asdict(r).items() if k != "shift"}


def _histogram(h: Histogram | None) -> dict[str, Any] | None:
    if h is None:
        return None
    quantized = None if h.quantized_counts is None else list(h.quantized_counts)
    return {"low": h.low, "high": h.high, "float": list(h.float_counts), "quantized": quantized}


def _weights(w: WeightFigures) -> dict[str, Any]:
    return {
        "name": w.name,
        "dtype": w.dtype,
        "bits": w.bits,
        "per_channel": w.per_channel,
        "sqnr_db": finite(w.sqnr_db),
        "imbalance": finite(w.imbalance),
        "histogram": _histogram(w.histogram),
    }
