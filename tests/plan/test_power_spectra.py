"""Logarithms of power inside a model: 32-bit sums of squares and a table that grows with them."""

import numpy as np
import pytest
from small_models import Net, plan_of

from tfq.convert import convert_model
from tfq.graph.boundary import InputQuantizer
from tfq.graph.model import Model
from tfq.graph.numerics import Grid, dequantize
from tfq.plan.entries import INTEGER, LOOKUP, POWER
from tfq.plan.power_spectra import REASON, find_powers, largest_square_root
from tfq.quantize.table import row_values
from tfq.runtime import Runner


def spectrum(net: Net, terms: int = 2):
    gains = net.const(np.linspace(0.5, 1.5, terms), name="gains")
    x = net.op("MUL", net.input(1, 6, terms), gains, out="filtered")
    axes = net.const([2], "int32")
    power = net.op("SUM", net.op("MUL", x, x, out="square"), axes, shape=(1, 6), out="power")
    return net.op("LOG", net.op("ADD", power, 1e-9), out="log")


@pytest.mark.parametrize("terms", [1, 2, 3, 8])
def test_no_sum_of_squares_overflows(terms):
    largest = largest_square_root(terms)
    assert terms * largest**2 < 2**31
    assert largest == 32767 or terms * (largest + 1) ** 2 >= 2**31


def test_the_power_is_found_and_what_feeds_it_is_wide():
    net = Net()
    planned = plan_of(net.bytes(spectrum(net)))
    ops, tensors = planned.plan.ops, planned.plan.tensors
    assert (ops["square"].mode, ops["square"].cast) == (INTEGER, "int32")
    assert ops["square"].clamp == (-largest_square_root(2), largest_square_root(2))
    assert ops["power"].reason == REASON
    assert ops["log"].mode == LOOKUP
    assert tensors["power"].grid.dtype == "int32"
    assert tensors["filtered"].grid.dtype == "int16"
    x = tensors["filtered"].grid.scale[0]
    assert tensors["power"].grid.scale[0] == np.float32(x * x)


def test_a_power_that_others_read_is_left_alone():
    net = Net()
    y = spectrum(net)
    graph = net.graph(y, net.ops[-3].outputs[0])
    assert graph.outputs[1].name == "power"
    assert find_powers(graph, []) == []
    plan = plan_of(net.bytes(y, graph.outputs[1])).plan
    assert plan.tensors["power"].grid.dtype == "int8"


def test_rows_of_a_power_grow_with_it():
    rows = row_values(Grid("int32", (1.0,), (0,)), POWER)
    assert rows.size == 3 * 2**15
    np.testing.assert_array_equal(rows[:5], [0, 1, 2, 3, 4])
    for p in (2**15, 2**20 + 77, 2**23 - 1, 2**23, 2**31 - 1):
        row = p if p < 2**15 else (p >> 8) + 2**15 if p < 2**23 else (p >> 16) + 2**16
        assert abs(rows[row] - p) <= p / 256


@pytest.mark.parametrize("terms", [1, 2, 5])
def test_a_spectrum_of_80_db_keeps_its_quiet_parts(terms):
    net = Net()
    model = net.bytes(spectrum(net, terms))
    rng = np.random.default_rng(3)
    loudness = 10 ** rng.uniform(-1.5, 0, (300, 6, 1))
    x = (rng.normal(size=(300, 6, terms)) * loudness).astype(np.float32)
    result = convert_model(model, x, input_type="int16", bias_correction="none")
    emitted = Model.from_bytes(result.model)
    assert all(t.dtype != "float32" for t in emitted.main.tensors())
    out = emitted.main.outputs[0]
    assert out.quant is not None
    grid = Grid.of(out.dtype, out.quant)
    feed, runner, reference = InputQuantizer(emitted), Runner(result.model), Runner(model)
    off = []
    for sample in x[:64]:
        inputs = {"in0": sample[None]}
        expected = reference.run(inputs)["log"]
        got = dequantize(runner.run(feed(inputs))["log"], grid)
        off.append(np.abs(expected - got) / grid.scale[0])
    # 8-bit weights alone move a logarithm by several hundredths; a lost quiet part by tens.
    assert np.median(off) <= 1.0
    assert np.max(off) <= 16
