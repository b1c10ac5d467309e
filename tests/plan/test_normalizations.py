"""Normalizations inside an int8 model are computed in int16."""

import numpy as np
import pytest
from small_models import Net, plan_of

from tfq.convert import convert_model
from tfq.plan.normalizations import REASON, wide_ops


def layer_norm(net, x, *, square="SQUARED_DIFFERENCE"):
    axes = net.const([-1], "int32")
    narrow = (*x.shape[:-1], 1)
    mean = net.op("MEAN", x, axes, shape=narrow, keepDims=True, out="mean")
    if square == "SQUARED_DIFFERENCE":
        squared = net.op("SQUARED_DIFFERENCE", x, mean, out="squared")
    else:
        off = net.op("SUB", x, mean)
        squared = net.op("MUL", off, off, out="squared")
    variance = net.op("MEAN", squared, axes, shape=narrow, keepDims=True, out="variance")
    inverse = net.op("RSQRT", net.op("ADD", variance, 1e-3), out="inverse")
    return net.op("MUL", net.op("SUB", x, mean, out="off"), inverse, out="normal")


@pytest.mark.parametrize("square", ["SQUARED_DIFFERENCE", "MUL"])
def test_the_ops_of_a_layer_norm_are_wide(square):
    net = Net()
    y = net.dense(layer_norm(net, net.dense(net.input(1, 8), 8), square=square), 4, out="y")
    wide = wide_ops(net.graph(y))
    assert set(wide.values()) == {REASON}
    names = {op.outputs[0].name for op in wide}
    assert {"mean", "squared", "variance", "inverse", "off", "normal"} <= names
    assert "y" not in names


def test_a_square_root_of_something_else_is_not():
    net = Net()
    y = net.op("SQRT", net.op("RELU", net.input(1, 8)))
    assert wide_ops(net.graph(y)) == {}


def test_the_plan_says_so_and_the_layers_around_stay_int8():
    net = Net()
    x = net.dense(net.input(1, 8, name="x"), 8, out="before")
    y = net.dense(layer_norm(net, x), 4, out="y")
    planned = plan_of(net.bytes(y))
    assert planned.grid("variance").dtype == "int16"
    assert planned.grid("before").dtype == "int8"
    assert planned.grid("y").dtype == "int8"
    assert planned.plan.ops["variance"].reason == REASON


def test_small_and_large_variances_come_out_right():
    net = Net()
    y = layer_norm(net, net.input(1, 16, name="x"))
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (64, 16)) * np.geomspace(0.1, 3, 64)[:, None]
    data = x.astype(np.float32)
    result = convert_model(net.bytes(y), data, output_type="int16", calibration="minmax")
    (output,) = result.summary["proof"]["outputs"]
    assert output["sqnr_db"] > 25
    assert result.summary["model"]["full_integer"]
