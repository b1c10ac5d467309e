"""Infinite constants: as good as a large number where they bound or mask, an error elsewhere."""

import numpy as np
import pytest
from small_models import Net, draw

from tfq.errors import ModelError
from tfq.graph.model import Model
from tfq.rewrite.bound_constants import bound_constants
from tfq.runtime import Runner

LOWEST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize("low", [-np.inf, LOWEST])
def test_masks_and_bounds_compute_the_same(low):
    net = Net()
    x = net.input(1, 4, name="x")
    one_place = net.const([[0, low, 0, 0]])
    masked = net.op("ADD", net.op("ADD", x, one_place), one_place)
    y = net.op("MINIMUM", net.op("MAXIMUM", net.softmax(masked), low), -low, out="y")
    model = Model.from_bytes(net.bytes(y))
    before = Runner(model.to_bytes())
    bound_constants(model)
    constants = [t for t in model.main.tensors() if t.is_const]
    assert all(np.abs(t.values()).max() == np.float32(1e30) for t in constants)
    for sample in draw(model, 3):
        after = Runner(model.to_bytes()).run(sample)["y"]
        np.testing.assert_array_equal(after, before.run(sample)["y"])


def test_a_product_with_the_lowest_float_is_a_mask():
    net = Net()
    y = net.op("MUL", net.op("SUB", 1.0, net.input(1, 4)), LOWEST, out="y")
    model = net.model(y)
    bound_constants(model)
    assert model.main.ops[1].input(1).values() == np.float32(-1e30)


def test_ordinary_constants_are_left_as_they_are():
    net = Net()
    const = net.const([[0.0, 1e20, -1e9, 3]])
    model = net.model(net.op("ADD", net.input(1, 4), const, out="y"))
    bound_constants(model)
    assert model.main.ops[0].input(1) is const


@pytest.mark.parametrize(
    ("value", "op", "message"),
    [
        (np.nan, "ADD", "holds NaN, for which no integer stands"),
        (np.nan, "FULLY_CONNECTED", "holds NaN"),
        (np.inf, "FULLY_CONNECTED", "holds infinity, and zero times infinity is NaN"),
        (-np.inf, "MUL", "holds infinity"),
    ],
)
def test_what_no_integer_stands_for_is_named(value, op, message):
    net = Net()
    x = net.input(1, 4)
    const = net.const(np.full((2, 4) if op == "FULLY_CONNECTED" else (1, 4), value), name="k")
    y = (
        net.dense(x, 2, weights=const, out="y")
        if const.shape[0] == 2
        else net.op(op, x, const, out="y")
    )
    with pytest.raises(ModelError, match=f"constant 'k' of {op} at 'y' {message}"):
        bound_constants(net.model(y))
