"""From counts to figures."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tfq.calibrate.rules.simple import Percentile
from tfq.evaluate.figures import (
    Channels,
    Histogram,
    LayerAnalysis,
    PartRange,
    Reading,
    TensorFigures,
    WeightFigures,
)
from tfq.evaluate.layers.histogram import rebin
from tfq.evaluate.layers.pairing import Pair, Pairing, maker
from tfq.evaluate.layers.tally import Errors, Tally, real
from tfq.evaluate.layers.weight_errors import imbalance, weight_figures
from tfq.evaluate.layers.work import Counts
from tfq.graph.numerics import LIMITS
from tfq.parts import channel_axis, decibel, find_slices, spreads

_MIDDLE = Percentile(99.99)
# A grid up to so many times as wide as the values is shown whole beside them.
_NEAR = 2.0


def finish(
    pairing: Pairing,
    total: Counts,
    *,
    layer_names: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
) -> LayerAnalysis:
    """The figures of every paired tensor.

    Args:
      pairing: the two models.
      total: what was counted of all samples.
      layer_names: the layer path for each tensor name that holds one (`Source.layer_names`).
      notes: why a tensor has no isolated reading, by its name (`IsolatedModels.reasons`).
    """
    names = layer_names or {}
    why = notes or {}
    observed = {n: (t.sketch.min, t.sketch.max) for n, t in total.tallies.items()}
    weights = _weights(pairing)
    tensors = []
    for p in pairing.pairs:
        tally = total.tallies[p.name]
        grid = p.grid.range()
        tensors.append(
            TensorFigures(
                name=p.name,
                layer=names.get(p.float_name, names.get(p.name, "")),
                op=p.op,
                dtype=p.grid.dtype,
                shape=p.shape,
                scale=p.grid.scale[0],
                zero_point=p.grid.zero_point[0],
                inputs=p.inputs,
                isolated=_reading(tally.isolated, tally),
                accumulated=_reading(tally.accumulated, tally),
                saturation=tally.beyond / tally.sketch.count,
                used=_used(p, observed[p.name]),
                observed=observed[p.name],
                grid=grid,
                percentile_range=_MIDDLE.choose(tally.sketch, 8, False),
                channels=_channels(p, tally),
                weights=weights.get(p.name),
                histogram=_histogram(tally, observed[p.name], grid),
                shares_with=tuple((n, observed[n]) for n in p.shares),
                note=why.get(p.name, ""),
                parts=_parts(p, tally),
                power=real(tally.power) * p.grid.scale[0] ** 2 / tally.sketch.count,
            )
        )
    return LayerAnalysis(total.samples, tuple(tensors), pairing.unmatched)


def _reading(errors: Errors | None, tally: Tally) -> Reading | None:
    if errors is None:
        return None
    count = tally.sketch.count
    bias = errors.bias()
    squares, power = real(errors.squares), real(tally.power)
    each = count / bias.size
    shift = min(math.fsum(bias * bias / each) / squares, 1.0) if squares else None
    return Reading(
        sqnr_db=decibel(power, squares),
        mean_lsb=real(errors.magnitudes) / count,
        max_lsb=errors.largest,
        bias_lsb=abs(math.fsum(bias)) / count,
        worst_bias_lsb=float(np.max(np.abs(bias))) / each,
        shift=shift,
    )


def _used(p: Pair, observed: tuple[float, float]) -> float:
    lo, hi = LIMITS[p.grid.dtype]
    scale, zero = p.grid.scale[0], p.grid.zero_point[0]
    first, last = (min(max(round(v / scale) + zero, lo), hi) for v in observed)
    return (last - first + 1) / (hi - lo + 1)


def _channels(p: Pair, tally: Tally) -> Channels | None:
    if len(p.shape) < 2 or p.shape[-1] < 2:
        return None
    magnitudes = np.maximum(np.abs(tally.low), np.abs(tally.high))
    constant = (tally.q_low == tally.q_high) & (tally.low < tally.high)
    return Channels(
        count=p.shape[-1],
        imbalance=imbalance(magnitudes),
        dead=int(np.count_nonzero(magnitudes == 0)),
        silenced=int(np.count_nonzero(constant)),
    )


def _parts(p: Pair, tally: Tally) -> tuple[PartRange, ...]:
    axis = channel_axis(p.shape)
    if axis is None:
        return ()
    last = not tally.part_low.size
    low, high = (tally.low, tally.high) if last else (tally.part_low, tally.part_high)
    return tuple(
        PartRange(str(s), float(low[s.channels].min()), float(high[s.channels].max()))
        for s in find_slices(spreads(low, high), axis, len(p.shape))
    )


def _histogram(
    tally: Tally, observed: tuple[float, float], grid: tuple[float, float]
) -> Histogram | None:
    low, high = observed
    if grid[1] - grid[0] <= _NEAR * (high - low):
        low, high = min(low, grid[0]), max(high, grid[1])
    if not low < high:
        return None
    bins = tally.sketch.bins()
    values = tally.values()
    there = np.flatnonzero(tally.counts)
    values, counts = values[there], tally.counts[there]
    # An integer stands for its whole step, or equal bins would show a comb. Zeros that are zero in
    # the float model, as after a RELU, stay where they are.
    half = tally.grid.scale[0] / 2
    zeros = min(counts[values == 0].sum(), bins.counts[bins.centers == 0].sum())
    counts = counts - np.where(values == 0, zeros, 0)
    return Histogram(
        low,
        high,
        rebin(bins.lower, bins.upper, bins.counts, low, high),
        rebin(values - half, values + half, counts, low, high, int(zeros)),
    )


def _weights(pairing: Pairing) -> dict[str, WeightFigures]:
    """The weights' figures by the name of the pair whose op reads them."""
    reference = pairing.float_model.main
    floats = {t.name: t for t in reference.tensors() if t.is_const}
    float_ops = {t.name: op for op in reference.ops for t in op.outputs}
    producers = pairing.quantized.main.producers()
    found = {}
    for t, p in pairing.paired.items():
        op = maker(t, pairing.paired, producers)
        if op is None:
            continue
        figures = weight_figures(op, floats, float_ops.get(p.float_name))
        if figures is not None:
            found[p.name] = figures
    return found
