"""Ranges that kernels could not do with are widened."""

import pathlib

import numpy as np
import pytest
from small_models import Net, draw, plan_of

from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.plan.planner import make_plan
from tfq.runtime import Runner


def test_arguments_of_a_softmax_that_are_all_alike_get_a_scale_that_its_kernel_takes():
    net = Net()
    x = net.input(1, 8)
    w = np.full((4, 8), 1e-8, np.float32)
    y = net.softmax(net.dense(x, 4, weights=w, bias=np.zeros(4), out="logits"), out="y")
    planned = plan_of(net.bytes(y))
    assert planned.grid("logits").scale[0] >= 2**-4 / 256
    assert planned.emit().model.main.outputs[0].name == "y"


def test_a_layer_that_is_narrow_beside_its_weights_keeps_its_multiplier_below_256():
    net = Net()
    x = net.input(1, 4)
    w = np.array([[300.0, -300, 300, -300]], np.float32)
    # The inputs are all alike, so that large weights cancel.
    samples = [{"in0": np.full((1, 4), v, np.float32)} for v in (1.0, 2.0, 3.0)]
    y = net.dense(x, 1, weights=w, bias=np.array([1e-3]), out="y")
    planned = plan_of(net.bytes(y), samples)
    s_in, s_out = planned.grid("in0").scale[0], planned.grid("y").scale[0]
    assert s_in * 300 / 127 / s_out < 256


@pytest.mark.parametrize("bound", [10.0, np.inf])
def test_a_bound_that_values_do_not_reach_takes_no_part_of_the_range(bound):
    net = Net()
    x = net.input(1, 8)
    clipped = net.op("MAXIMUM", net.op("MINIMUM", net.dense(x, 8), bound), -bound, out="clipped")
    samples = [{"in0": np.linspace(-v, v, 8, dtype=np.float32)[None]} for v in (0.1, 0.2, 0.3)]
    planned = plan_of(net.bytes(net.dense(clipped, 4, out="y")), samples)
    low, high = planned.grid("clipped").range()
    assert -1 < low < high < 1
    # One that they reach acts.
    net = Net()
    total = net.op("ADD", net.input(1, 8), net.input(1, 8))
    y = net.op("MAXIMUM", net.op("MINIMUM", total, 0.5), 0.25, out="y")
    ramps = [np.linspace(-v, v, 8, dtype=np.float32)[None] for v in (0.5, 1, 2)]
    samples = [{"in0": v, "in1": v} for v in ramps]
    planned = plan_of(net.bytes(y), samples)
    emitted = planned.emit().model
    q = Runner(emitted.to_bytes()).run(InputQuantizer(emitted)(samples[2]))
    expected = np.clip(2 * ramps[2], 0.25, 0.5)
    np.testing.assert_allclose(dequantized(emitted, q)["y"], expected, atol=0.02)


def test_a_range_reaches_past_its_few_samples_but_not_where_a_sigmoid_squashes_it():
    """What lies beyond the end of a sigmoid's argument, the sigmoid maps to the same value."""
    net = Net()
    gate = net.dense(net.input(1, 4), 4, out="gate")
    other = net.dense(gate, 4, out="other")
    y = net.op("LOGISTIC", net.dense(other, 4, out="argument"), out="y")
    rng = np.random.default_rng(0)
    samples = [{"in0": rng.normal(size=(1, 4)).astype(np.float32)} for _ in range(16)]
    planned = plan_of(net.bytes(y), samples)
    for name, further in (("gate", True), ("argument", False)):
        sketch = planned.statistics[name]
        low, high = planned.grid(name).range()
        step = planned.grid(name).scale[0]
        reaches = low < sketch.min - step and high > sketch.max + step
        assert reaches == further, name


UNROLLED = pathlib.Path(__file__).parents[1] / "unroll" / "data"


@pytest.mark.parametrize("name", ["simple_rnn", "lstm_stacked", "fused_lstm"])
def test_steps_of_an_unrolled_loop_see_their_neighbours_values(name):
    """A step's few values do not reach their extremes; the steps around it see more of them."""
    source = (UNROLLED / f"{name}.tflite").read_bytes()
    planned = plan_of(source, draw(source, 4))
    steps = [t for t in planned.graph.tensors() if t.step is not None]
    for t in steps:
        t.step = None
    args = planned.graph, planned.layout, planned.statistics, planned.config, {}
    alone = make_plan(*args, model_sha256="")
    ratios = [planned.grid(n).scale[0] / p.grid.scale[0] for n, p in alone.tensors.items()]
    assert min(ratios) >= 1 - 1e-6
    assert sum(r > 1.01 for r in ratios) >= 8


def test_a_name_that_looks_like_a_step_is_none():
    net = Net()
    x = net.input(1, 4)
    small = net.dense(x, 4, weights=np.eye(4), bias=np.zeros(4), out="body/step_0")
    large = net.dense(small, 4, weights=1000 * np.eye(4), bias=np.zeros(4), out="body/step_1")
    planned = plan_of(net.bytes(net.dense(large, 2, out="y")))
    low, high = planned.grid("body/step_0").range()
    assert -10 < low < high < 10
    low, high = planned.grid("body/step_1").range()
    assert high - low > 1000
