"""Figures against those of the values themselves."""

import math

import numpy as np
import pytest
from layers_by_hand import (
    analyse,
    both,
    by_name,
    grid_of,
    values_of,
)
from small_models import ACT, Net, cnn, draw, plan_of

from tfq.evaluate.figures import as_dict
from tfq.evaluate.layers import analyse_layers
from tfq.graph.model import Model
from tfq.graph.numerics import Grid, dequantize


def test_ranges_saturation_and_channels_are_those_of_the_values():
    net = Net()
    x = net.input(1, 5, 5, 2, name="x")
    weights = net.rng.normal(0, 0.3, (6, 1, 1, 2))
    weights[1], weights[2], weights[3] = 0, weights[2] * 1e-4, weights[3] * 20
    bias = np.zeros(6)
    y = net.conv(x, 6, size=1, weights=weights, bias=bias, act=ACT.RELU, out="y")
    source = net.bytes(net.conv(y, 2, out="z"))
    calibration = draw(source, 20)
    planned = plan_of(source, calibration)
    floats, quantized = planned.prepared.bytes, planned.emit().model.to_bytes()
    samples = [{"x": 2 * s["x"]} for s in draw(floats, 6, seed=9)]  # Beyond the grid.
    figures = by_name(analyse_layers(floats, quantized, samples))["y"]
    values = np.stack(values_of(floats, samples)["y"]).astype(np.float64)
    low, high = figures.grid
    assert figures.observed == (values.min(), values.max())
    beyond = np.mean(values > high + figures.scale / 2)
    assert beyond > 0
    assert figures.saturation == pytest.approx(beyond, rel=1e-12)
    assert figures.used == 1.0
    assert figures.power == pytest.approx(np.mean(values**2), rel=1e-5)
    assert figures.percentile_range[1] == pytest.approx(np.quantile(values, 0.99995), rel=0.02)
    peaks = values.reshape(-1, 6).max(axis=0)
    live = peaks[peaks > 0]
    assert figures.channels.count == 6
    assert figures.channels.dead == np.sum(peaks == 0) == 1
    assert figures.channels.imbalance == pytest.approx(live.max() / np.median(live), rel=1e-6)
    integers = np.stack(values_of(quantized, samples)["y"]).reshape(-1, 6)
    constant = np.all(integers == integers[0], axis=0)
    assert figures.channels.silenced == np.sum(constant & (peaks > 0)) == 1
    assert low == 0


def test_the_used_share_of_a_grid_too_wide_is_small():
    net = Net()
    x = net.input(1, 4, 4, 3, name="x")
    source = net.bytes(net.conv(x, 2, out="y"))
    planned = plan_of(source, [{"x": 10 * s["x"]} for s in draw(source, 10)])
    floats, quantized = planned.prepared.bytes, planned.emit().model.to_bytes()
    samples = draw(floats, 4, seed=2)
    for t in analyse_layers(floats, quantized, samples).tensors:
        steps = round((t.observed[1] - t.observed[0]) / t.scale)
        assert t.used == pytest.approx((steps + 1) / 256, abs=1 / 256)
        assert t.used < 0.3
        assert t.saturation == 0


def test_histograms_hold_every_value_once():
    floats, quantized, samples, analysis = analyse(cnn())
    expected, got = values_of(floats, samples), values_of(quantized, samples)
    for t in analysis.tensors:
        h = t.histogram
        real = np.stack(expected[t.name])
        assert len(h.float_counts) == len(h.quantized_counts) == 64
        assert sum(h.float_counts) == sum(h.quantized_counts) == real.size
        assert h.low <= t.observed[0]
        assert h.high >= t.observed[1]
        edges = np.linspace(h.low, h.high, 65)
        exact = np.cumsum(np.histogram(real, edges)[0]) / real.size
        # Bins of the sketch are split where an edge cuts them.
        assert np.abs(np.cumsum(h.float_counts) / real.size - exact).max() < max(
            0.03, 2 / real.size
        )
        integers = dequantize(np.stack(got[t.name]), grid_of(t)).astype(np.float64)
        half = t.scale / 2
        below = np.cumsum(h.quantized_counts)[:-1]
        for n, edge in zip(below, edges[1:-1], strict=True):
            assert np.sum(integers < edge - half) - 1 <= n <= np.sum(integers <= edge + half) + 1


def test_parts_lie_along_the_axis_before_a_long_one():
    """As in predictions [1, 84, 8400]."""
    net = Net()
    x = net.input(1, 6, 1100, name="x")
    size = np.array([500, 500, 500, 500, 1, 1], np.float32).reshape(1, 6, 1)
    source = net.bytes(net.op("MUL", x, net.const(size), shape=(1, 6, 1100), out="y"))
    floats, _, samples, analysis = analyse(source)
    values = np.stack(values_of(floats, samples)["y"])
    boxes, scores = by_name(analysis)["y"].parts
    assert (boxes.name, scores.name) == ("[..., 0:4, :]", "[..., 4:6, :]")
    part = values[..., 4:6, :]
    assert (scores.low, scores.high) == (part.min(), part.max())


def test_layers_have_the_names_given():
    *_, analysis = analyse(cnn(), layer_names={"conv": "block/conv"})
    assert by_name(analysis)["conv"].layer == "block/conv"
    assert by_name(analysis)["point"].layer == ""
    listed = as_dict(analysis)
    assert listed[1]["layer"] == "block/conv"
    assert listed[3]["inputs"] == [1, 2]


def test_an_exact_tensor_has_no_noise():
    net = Net()
    x = net.input(1, 4, 4, 2, name="x")
    source = net.bytes(net.op("RESHAPE", x, net.const([1, 32], "int32"), shape=(1, 32), out="y"))
    floats, quantized = both(source)
    grid = next(Grid.of(t.dtype, t.quant) for t in Model.from_bytes(quantized).main.inputs)
    on_grid = dequantize(np.arange(-16, 16, dtype=np.int8).reshape(1, 4, 4, 2), grid)
    for t in analyse_layers(floats, quantized, [{"x": on_grid}]).tensors:
        assert t.isolated.sqnr_db == t.accumulated.sqnr_db == math.inf
        assert t.isolated.max_lsb == 0
