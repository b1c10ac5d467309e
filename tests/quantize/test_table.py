"""Tables against the float64 function they stand for, value by value."""

import math

import numpy as np
import pytest
from small_models import Net, config_of, distance, draw, plan_of

from tfq.graph.boundary import InputQuantizer
from tfq.graph.model import Graph, Model, Tensor, options_type
from tfq.graph.numerics import LIMITS, Grid, activation_grid, asymmetric_grid
from tfq.plan.entries import HALF, POWER, WHOLE
from tfq.quantize.table import chain_values, lookup_ops, make_table, misfit, row_values
from tfq.runtime import Runner


def softplus(net, x):
    return net.op("LOG", net.op("ADD", net.op("EXP", x), 1.0))


def mish(net, x):
    return net.op("MUL", x, net.op("TANH", softplus(net, x)))


def power(net, x):
    return net.op("POW", net.op("ABS", x), 2.2)


def clipped(net, x):
    """if 0.5 < |x| < 2: floor(3 x), else: -1"""
    size = net.op("ABS", x)
    inside = net.op(
        "LOGICAL_AND",
        net.op("GREATER", size, 0.5, dtype="bool"),
        net.op("LESS", size, 2.0, dtype="bool"),
    )
    tripled = net.op("FLOOR", net.op("MUL", x, 3.0))
    return net.op("SELECT_V2", inside, tripled, -1.0, dtype="float32", shape=x.shape)


CHAINS = {
    "softplus": (softplus, lambda x: np.logaddexp(0, x)),
    "mish": (mish, lambda x: x * np.tanh(np.logaddexp(0, x))),
    "power": (power, lambda x: np.abs(x) ** 2.2),
    "floor": (lambda net, x: net.op("FLOOR", x), np.floor),
    "sine": (lambda net, x: net.op("SIN", net.op("MUL", x, 2.0)), lambda x: np.sin(2 * x)),
    "clipped": (
        clipped,
        lambda x: np.where((np.abs(x) > 0.5) & (np.abs(x) < 2), np.floor(3 * x), -1),
    ),
}


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("name", CHAINS)
def test_every_entry_is_the_function_to_half_a_step(name, dtype):
    build, f = CHAINS[name]
    net = Net()
    root = net.input(1, 4)
    build(net, root)
    # Scales that are powers of two: x is the same number in float32 and in float64.
    grid = Grid("int8", (2.0**-5,), (17,)) if dtype == "int8" else Grid("int16", (2.0**-13,), (0,))
    lo, hi = LIMITS[dtype]
    x = (np.arange(lo, hi + 1) - grid.zero_point[0]) * grid.scale[0]
    expected = f(x)
    out = activation_grid(expected.min(), expected.max(), dtype)
    table = make_table(root, net.ops, grid, out)
    assert table.dtype == dtype
    assert table.shape == (hi - lo + 1,)
    exact = np.clip(expected / out.scale[0] + out.zero_point[0], lo, hi)
    # Beside the rounding there is float32: 2^-22 of the value, which in int16 is a part of a step.
    slack = np.abs(expected).max() * 2.0**-20 / out.scale[0]
    assert np.abs(table - exact).max() <= 0.5 + slack


def test_chain_values_run_the_chain_on_other_numbers():
    net = Net()
    root = net.input(1, 4)
    softplus(net, root)
    x = np.linspace(-5, 5, 1001, dtype=np.float32)
    np.testing.assert_allclose(chain_values(root, net.ops, x), np.logaddexp(0, x), rtol=1e-5)


def test_where_the_function_is_undefined_the_nearest_value_counts():
    net = Net()
    root = net.input(1, 4)
    net.op("LOG", root)
    grid = Grid("int8", (0.125,), (0,))
    out = asymmetric_grid(-3, 3)
    table = make_table(root, net.ops, grid, out)
    # Below zero NaN, at zero minus infinity: both give the lowest integer.
    assert set(table[:129]) == {-128}
    np.testing.assert_array_equal(
        table[129:],
        np.clip(
            np.rint(np.log(np.arange(1, 128) * 0.125) / out.scale[0]) + out.zero_point[0], -128, 127
        ),
    )
    root = (net := Net()).input(1, 4)
    net.op("SQRT", net.op("ADD", root, -1.0))
    table = make_table(root, net.ops, grid, out)
    assert set(table[: 128 + 8]) == {out.zero_point[0]}


def test_a_function_that_is_undefined_everywhere_is_zero():
    net = Net()
    root = net.input(1, 4)
    net.op("LOG", net.op("SUB", net.op("MUL", net.op("ABS", root), 0.0), 1.0))
    out = asymmetric_grid(-3, 3)
    table = make_table(root, net.ops, Grid("int8", (0.125,), (0,)), out)
    assert set(table) == {out.zero_point[0]}


def test_infinite_values_saturate():
    net = Net()
    root = net.input(1, 4)
    net.op("EXP", root)
    table = make_table(root, net.ops, Grid("int8", (2.0,), (0,)), asymmetric_grid(0, 10))
    assert table[-1] == 127
    assert table[0] == -128


def test_integers_out_keep_their_type():
    net = Net()
    root = net.input(1, 4)
    net.op("CAST", net.op("MUL", root, 10.0), dtype="int32")
    table = make_table(root, net.ops, Grid("int8", (0.25,), (0,)), None)
    assert table.dtype == np.int32
    np.testing.assert_array_equal(table, np.trunc(np.arange(-128, 128) * 2.5))


# --- as emitted -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin", "reference"])
def test_the_emitted_ops_read_the_right_row(kernels):
    net = Net()
    root = net.input(1, 256, name="x")
    y = net.op("FLOOR", root, out="y")
    grid, out = Grid("int8", (0.25,), (5,)), Grid("int8", (0.5,), (-3,))
    x = Tensor("x", (1, 256), "int8", quant=grid.quant())
    result = Tensor("y", y.shape, "int8", quant=out.quant())
    ops = lookup_ops(root, net.ops, x, grid, result, out, lambda name: name)
    assert [op.name for op in ops] == ["CAST", "ADD", "GATHER"]
    model = Model([Graph("main", ops, [x], [result])]).to_bytes()
    q = np.arange(-128, 128, dtype=np.int8)[None]
    got = Runner(model, kernels=kernels).run({"x": q})["y"]
    expected = np.floor((q.astype(float) - 5) * 0.25) / 0.5 - 3
    np.testing.assert_array_equal(got, np.clip(np.rint(expected), -128, 127))


def test_int16_values_that_cannot_be_negative_have_half_a_table():
    net = Net()
    x = net.input(1, 4, 4, 3, name="x")
    variance = net.mean(net.op("MUL", x, x, out="square"), out="variance")
    y = net.op("SIN", variance, out="y")
    planned = plan_of(net.bytes(y), config=config_of("int16x8"))
    assert planned.plan.ops["y"].root == "variance"
    emitted = planned.emit().model
    assert [op.name for op in emitted.main.ops][-3:] == ["CAST", "MAXIMUM", "GATHER"]
    assert emitted.main.ops[-1].input(0).shape == (32768,)
    grid, out = planned.grid("x"), planned.grid("y")
    runner = Runner(emitted.to_bytes())
    checked = 0
    for level in (0, 0.05, 0.1, 0.5, 0.9):
        q = np.full((1, 4, 4, 3), round(level * 32767), np.int16)
        want = np.sin((q[0, 0, 0] * grid.scale[0]) ** 2)
        top = planned.grid("variance").range()[1]
        if (q[0, 0, 0, 0] * grid.scale[0]) ** 2 < top:
            got = runner.run({"x": q})["y"][0] * out.scale[0]
            np.testing.assert_allclose(got, want, atol=2e-3)
            checked += 1
    assert checked >= 3
    # What rounding could make negative reads the first row.
    np.testing.assert_array_equal(emitted.main.ops[-1].input(0).values()[0], 0)


def test_half_a_table_starts_at_zero():
    grid = Grid("int16", (1.0,), (0,))
    np.testing.assert_array_equal(row_values(grid, HALF), np.arange(32768))
    assert row_values(grid, WHOLE)[0] == -32768
    assert not misfit(grid, HALF)
    assert misfit(Grid("int16", (1.0,), (1,)), HALF)
    assert misfit(Grid("int8", (1.0,), (0,)), HALF)
    assert misfit(grid, POWER)
    assert misfit(Grid("int32", (1.0,), (0,)), WHOLE)


def test_a_power_table_has_a_row_for_small_and_a_step_of_256_for_large():
    rows = row_values(Grid("int32", (1.0,), (0,)), POWER)
    assert rows.shape == (3 * 2**15,)
    np.testing.assert_array_equal(rows[: 2**15], np.arange(2**15))
    # The row of x >= 2^15 stands for the middle of the values that share it.
    for x in (2**15, 10**6, 2**23 - 1, 2**23, 2**30, 2**31 - 1):
        shift, part = (8, 1) if x < 2**23 else (16, 2)
        row = rows[(x >> shift) + part * 2**15]
        assert abs(row - x) <= 2 ** (shift - 1)
        assert abs(row - x) / x < 0.004


def test_a_logarithm_of_power_keeps_quiet_sounds():
    """80 dB of dynamic range through an int8 model's power spectrum."""
    net = Net()
    x = net.input(1, 64, name="x")
    squared = net.op("MUL", x, x, out="squared")
    y = net.op("LOG", net.op("ADD", squared, 1e-9), out="y")
    rng = np.random.default_rng(0)
    level = 10.0 ** rng.uniform(-4, 0, (40, 1, 64))
    samples = [{"x": (v * rng.choice([-1, 1], v.shape)).astype(np.float32)} for v in level]
    planned = plan_of(net.bytes(y), samples, config_of("int16x8"))
    emitted = planned.emit().model
    runner, feed = Runner(emitted.to_bytes()), InputQuantizer(emitted)
    out = planned.grid("y")
    step = planned.grid("x").scale[0]
    for sample in samples[:5]:
        got = (runner.run(feed(sample))["y"] - out.zero_point[0]) * out.scale[0]
        loud = np.abs(sample["x"]) > 8 * step
        expected = np.log(sample["x"].astype(float) ** 2 + 1e-9)
        assert np.abs(got - expected)[loud].max() < 2 * math.log(1 + 1 / 16) + 2 * out.scale[0]


ARITHMETIC = {
    "ADD": np.add,
    "ATAN2": np.arctan2,
    "DIV": np.divide,
    "FLOOR_DIV": np.floor_divide,
    "FLOOR_MOD": np.mod,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
    "MUL": np.multiply,
    "POW": np.power,
    "PRELU": lambda x, a: np.where(x > 0, x, a * x),
    "SQUARED_DIFFERENCE": lambda a, b: (a - b) ** 2,
    "SUB": np.subtract,
}


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 1, 1)])
@pytest.mark.parametrize("name", ARITHMETIC)
def test_a_constant_of_one_value_may_have_any_rank(name, shape):
    net = Net()
    root = net.input(1, 3, 4)
    net.op(name, root, net.const(np.full(shape, 0.75)), shape=(1, 3, 4))
    x = np.linspace(0.5, 2, 256, dtype=np.float32)
    want = ARITHMETIC[name](x, np.float32(0.75))
    np.testing.assert_allclose(chain_values(root, net.ops, x), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["SELECT", "SELECT_V2"])
def test_a_choice_between_constants_of_one_value(name):
    net = Net()
    root = net.input(1, 1)
    above = net.op("GREATER", root, net.const([[0.5]]), dtype="bool")
    two, three = net.const([[2.0]]), net.const([[3.0]])
    options = options_type("SelectOptions")() if name == "SELECT" else None
    net.op(name, above, two, three, dtype="float32", shape=(1, 1), options=options)
    x = np.linspace(0, 1, 9, dtype=np.float32)
    np.testing.assert_array_equal(chain_values(root, net.ops, x), np.where(x > 0.5, 2, 3))


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1)])
def test_a_table_over_constants_of_any_rank_is_right(scheme, shape):
    net = Net()
    small = net.const(np.full(shape, 0.25))
    x = net.op("ABS", net.input(2, 3, 4))
    y = net.op("DIV", 1.0, net.op("ADD", net.op("MAXIMUM", x, small), small), out="y")
    far, step = distance(net, y, draw(net.model(y), 5), scheme=scheme)
    assert far * step < (0.05 if scheme == "int8" else 0.001)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_what_a_mask_multiplies_is_a_whole_number(dtype):
    net = Net()
    root = net.input(1, 4)
    net.op("MUL", net.op("SUB", 1.0, root), -1e9)
    grid = activation_grid(0.0, 1.25, dtype)
    table = make_table(root, net.ops, grid, activation_grid(-30.0, 0.0, dtype), snap=True)
    real = (row_values(grid) - grid.zero_point[0]) * grid.scale[0]
    out = activation_grid(-30.0, 0.0, dtype)
    at = {v: int(table[np.argmin(abs(real - v))]) for v in (0.0, 1.0)}
    assert at[1.0] == out.zero_point[0]
    assert (at[0.0] - out.zero_point[0]) * out.scale[0] == pytest.approx(-30, rel=0.01)
