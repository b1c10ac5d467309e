"""Trained weights, found again by their values; graphs and records made by hand."""

import json

import numpy as np
import pytest

from tfq.errors import ModelError
from tfq.graph.model import Graph, Model, Op, Quant, Signature, Tensor, options_type
from tfq.graph.numerics import quantize
from tfq.rewrite.prepare import prepare
from tfq.sources.trained_grids import METADATA, Record

RNG = np.random.default_rng(0)


def record(shape, axis, bits=8, name="layer"):
    """A record of random integers, and the constant that training made of them."""
    top = 2 ** (bits - 1) - 1
    scales = RNG.uniform(0.001, 0.01, shape[axis] if axis >= 0 else 1).astype(np.float32)
    q = RNG.integers(-top, top + 1, shape).astype(np.int8)
    along = scales.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return Record.of(name, q * along, scales, bits, axis)


def prepared(net, records, *outputs):
    graph = Graph("main", net.ops, net.inputs, list(outputs))
    signature = Signature("s", {"x": net.inputs[0]}, {f"y{i}": t for i, t in enumerate(outputs)})
    model = Model([graph], [signature])
    model.metadata[METADATA] = json.dumps([r.as_json() for r in records]).encode()
    return prepare(model.to_bytes())


def grids(result):
    """(integers, grid) of each weighted op's constant."""
    found = []
    for op in result.model.main.ops:
        if op.name in ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"):
            w = op.input(1)
            grid = result.trained.grids.get(w.name)
            found.append((None if grid is None else quantize(w.values(), grid, narrow=True), grid))
    return found


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_factors_of_a_folded_normalisation(net, bits):
    made, data = record((6, 5), 0, bits)
    factors = RNG.normal(size=(6, 1)).astype(np.float32)
    y = net.op("FULLY_CONNECTED", net.input(1, 5), net.const(data * factors), None, shape=(1, 6))
    result = prepared(net, [made], y)
    ((q, grid),) = grids(result)
    np.testing.assert_array_equal(q, made.integers * np.sign(factors).astype(int))
    np.testing.assert_allclose(grid.scale, np.abs(made.scales * factors[:, 0]), rtol=1e-6)
    assert (grid.dtype, grid.axis) == (f"int{bits}", 0)
    assert METADATA not in result.model.metadata


def test_without_factors_the_scales_are_the_trained_ones(net):
    made, data = record((5, 6), 1)
    y = net.op("FULLY_CONNECTED", net.input(1, 5), net.const(data.T), None, shape=(1, 6))
    ((q, grid),) = grids(prepared(net, [made], y))
    assert grid.scale == tuple(float(s) for s in made.scales)
    np.testing.assert_array_equal(q, made.integers.T)


def test_one_scale_stays_one_until_factors_differ(net):
    made, data = record((6, 5), -1)
    x = net.input(1, 5)
    plain = net.op("FULLY_CONNECTED", x, net.const(data), None, shape=(1, 6))
    factors = np.linspace(-1, 2, 6, dtype=np.float32)[:, None]
    folded = net.op("FULLY_CONNECTED", x, net.const(data * factors), None, shape=(1, 6))
    (_, first), (q, second) = grids(prepared(net, [made], plain, folded))
    assert (len(first.scale), len(second.scale)) == (1, 6)
    np.testing.assert_array_equal(q, made.integers * np.sign(factors).astype(int))


def test_an_emptied_channel_keeps_its_scale(net):
    made, data = record((4, 5), 0)
    data = data.copy()
    data[2] = 0
    y = net.op("FULLY_CONNECTED", net.input(1, 5), net.const(data), None, shape=(1, 4))
    ((q, grid),) = grids(prepared(net, [made], y))
    assert grid.scale[2] == float(made.scales[2])
    assert not q[2].any()


def test_slices_and_two_records_of_one_shape(net):
    first, a = record((5, 12), 1, name="a")
    second, b = record((5, 12), 1, name="b")
    x = net.input(1, 5)
    parts = [(b.T[4:8], second.integers.T[4:8]), (a.T[8:], first.integers.T[8:])]
    outs = [net.op("FULLY_CONNECTED", x, net.const(w), None, shape=(1, 4)) for w, _ in parts]
    found = grids(prepared(net, [first, second], *outs))
    for (q, _), (_, truth) in zip(found, parts, strict=True):
        np.testing.assert_array_equal(q, truth)


def test_untrained_weights_have_no_grid(net):
    made, data = record((6, 5), 0)
    x = net.input(1, 5)
    outs = [
        net.op("FULLY_CONNECTED", x, w, None, shape=(1, 6))
        for w in (net.const(data), net.weights(6, 5))
    ]
    assert [g is None for _, g in grids(prepared(net, [made], *outs))] == [False, True]


def test_lost_weights_are_an_error_that_names_their_layer(net):
    made, data = record((6, 5), 0, name="model/stem")
    changed = net.const(data + 0.3 * data.std() * RNG.normal(size=data.shape))
    y = net.op("FULLY_CONNECTED", net.input(1, 5), changed, None, shape=(1, 6))
    with pytest.raises(ModelError, match="'stem'"):
        prepared(net, [made], y)


def test_a_factor_for_each_input_is_not_folded_into_trained_weights(net):
    made, data = record((6, 5), 0)
    x = net.op("MUL", net.input(1, 5), net.const(RNG.uniform(0.5, 2, 5)))
    y = net.op("FULLY_CONNECTED", x, net.const(data), None, shape=(1, 6))
    result = prepared(net, [made], y)
    assert [op.name for op in result.model.main.ops] == ["MUL", "FULLY_CONNECTED"]
    np.testing.assert_array_equal(grids(result)[0][0], made.integers)


@pytest.mark.parametrize(("dtype", "zero"), [("uint8", 128), ("int8", 0), ("uint4", 8)])
def test_quantizer_pairs_of_older_tools(net, dtype, zero):
    bits = 4 if dtype == "uint4" else 8
    made, data = record((5, 6), 1, bits)
    quant = Quant(made.scales, np.full(6, zero, np.int64), 1)
    w, q = net.const(data), Tensor("q", (5, 6), dtype, quant=quant)
    back = Tensor("dq", (5, 6), "float32")
    net.ops.append(Op("QUANTIZE", [w], [q], options_type("QuantizeOptions")()))
    net.ops.append(Op("DEQUANTIZE", [q], [back], options_type("DequantizeOptions")()))
    turned = net.op("TRANSPOSE", back, net.const([1, 0], "int32"), shape=(6, 5))
    y = net.op("FULLY_CONNECTED", net.input(1, 5), turned, None, shape=(1, 6))
    ((q, grid),) = grids(prepared(net, [], y))
    np.testing.assert_array_equal(q, made.integers.T)
    assert grid.dtype == f"int{bits}"
