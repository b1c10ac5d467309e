"""Ops are sorted by what they read."""

import numpy as np
from small_models import Net

from tfq.graph.order import sort_ops
from tfq.runtime import Runner
from tfq.sources import load_source

X = np.linspace(-3, 3, 64, dtype=np.float32).reshape(1, 64)


def unordered():
    net = Net()
    a = net.op("RELU", net.input(1, 64, name="x"))
    y = net.op("MUL", net.op("ADD", a, 1.0), 2.0, out="y")
    net.ops = [net.ops[2], net.ops[1], net.ops[0]]
    return net.model(y)


def test_a_file_is_loaded_in_order_and_then_right_on_every_kernel():
    loaded = load_source(unordered().to_bytes())
    assert "stand before what they read" in loaded.warnings[0]
    for kernels in ("xnnpack", "builtin", "reference"):
        runner = Runner(loaded.model, kernels=kernels)
        np.testing.assert_allclose(runner.run({"x": X})["y"], (np.maximum(X, 0) + 1) * 2)


def test_xnnpack_computes_the_unordered_file_as_the_sorted_one():
    """And LiteRT's own kernels do not: when this fails they sort, and nobody needs to be told."""
    want = (np.maximum(X, 0) + 1) * 2
    content = unordered().to_bytes()
    np.testing.assert_allclose(Runner(content, kernels="xnnpack").run({"x": X})["y"], want)
    builtin = Runner(content, kernels="builtin")
    builtin.run({"x": 0 * X})
    assert not np.allclose(builtin.run({"x": X})["y"], want)


def test_what_is_in_order_stays():
    model = unordered()
    assert sort_ops(model.main)
    order = list(model.main.ops)
    assert [op.name for op in order] == ["RELU", "ADD", "MUL"]
    assert not sort_ops(model.main)
    assert model.main.ops == order


def test_a_cycle_is_left_for_the_check_to_name():
    model = unordered()
    relu, mul = model.main.ops[2], model.main.ops[0]
    relu.inputs = [mul.outputs[0]]
    order = list(model.main.ops)
    assert not sort_ops(model.main)
    assert model.main.ops == order
