"""Scales of weights, given by name."""

import dataclasses
import json

import numpy as np
import pytest
from small_models import ACT, Net, config_of, draw, plan_of

from tfq.errors import UsageError


def net(bias=None):
    net = Net(3)
    x = net.input(1, 6, 6, 3, name="x")
    a = net.conv(x, 4, act=ACT.RELU, bias=bias, out="a")
    b = net.depthwise(a, out="b")
    return net.bytes(net.dense(net.mean(b), 5, out="y"))


# Powers of two: float32 as they are.
SCALES = (2.0**-6, 2.0**-7, 2.0**-8, 2.0**-5)


@pytest.mark.parametrize("scheme", ["int8", "int16x8", "dynamic", "weight_only"])
def test_scales_of_one_op_by_its_name(scheme):
    source = net()
    plain = plan_of(source, config=config_of(scheme))
    given = plan_of(source, config=config_of(scheme, weight_scales={"a": SCALES}))
    assert plain.plan.ops["a"].edges[1].scale != SCALES
    assert given.plan.ops["a"].edges[1] == dataclasses.replace(
        plain.plan.ops["a"].edges[1], scale=SCALES
    )
    assert given.plan.ops["y"] == plain.plan.ops["y"]
    op = next(
        op for op in given.emit().model.main.ops if op.name == "CONV_2D"
    )  # What a DEQUANTIZE reads in schemes that compute in float.
    w = op.input(1)
    if scheme == "weight_only":
        w = next(o for o in given.emit().model.main.ops if o.outputs[0].name == w.name).input(0)
    assert w.quant.scale.tolist() == list(SCALES)
    exact = given.op("a").input(1).values()
    q = np.clip(np.rint(exact / np.array(SCALES, np.float32).reshape(4, 1, 1, 1)), -127, 127)
    np.testing.assert_array_equal(w.values(), q)
    # The model says of which layers, the plan holds the scales.
    text = json.dumps(given.config.as_dict())
    assert json.loads(text)["weight_scales"] == ["a"]
    assert "weight_scales" not in plain.config.as_dict()


def test_one_scale_where_the_granularity_is_per_tensor():
    options = {"granularity": "per_tensor", "weight_scales": {"a": (0.25,)}}
    assert plan_of(net(), config=config_of(**options)).plan.ops["a"].edges[1].scale == (0.25,)


def test_scales_that_no_kernel_holds_are_widened_and_it_is_said():
    bias = np.array([0, 0, 1e4, 0])
    given = {"a": (2.0**-6, 2.0**-6, 2.0**-20, 2.0**-6)}
    plan = plan_of(net(bias), config=config_of(weight_scales=given)).plan
    scale = plan.ops["a"].edges[1].scale
    assert scale[0] == scale[1] == scale[3] == 2.0**-6
    assert scale[2] > 2.0**-20
    assert "1 given scale(s) widened" in plan.ops["a"].reason


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ({"a": (0.1, 0.2)}, r"CONV_2D at 'a' have 4 scale\(s\). Received: 2"),
        ({"x": (0.1,)}, "no op with constant weights at 'x'"),
        ({"a": (0.1, 0.2, 0.0, 0.1)}, "positive numbers"),
        ({"a": ()}, "positive numbers"),
        ({"a": (0.1, float("nan"), 0.1, 0.1)}, "positive numbers"),
    ],
)
@pytest.mark.parametrize("scheme", ["int8", "weight_only"])
def test_scales_that_fit_no_weights(scheme, scales, message):
    with pytest.raises(UsageError, match=message):
        plan_of(net(), config=config_of(scheme, weight_scales=scales))


def test_a_constant_that_is_read_as_activations_has_no_scales_of_its_own():
    net = Net(1)
    table = net.const(net.rng.normal(0, 1, (5, 40)))
    x = net.input(3, name="x", dtype="int32")
    y = net.op("GATHER", table, x, shape=(3, 40), dtype="float32", out="y")
    source = net.bytes(y)
    samples = [{"x": np.array([0, 3, 4], np.int32)}]
    with pytest.raises(UsageError, match="no op with constant weights at 'y'"):
        plan_of(source, samples, config_of(weight_scales={"y": (0.5,)}))
    plan = plan_of(source, config=config_of("weight_only", weight_scales={"y": (0.5,)})).plan
    assert plan.ops["y"].edges[0].scale == (0.5,)


def test_all_of_a_layer_by_name():
    """Type, bits, scale and rounding."""
    from tfq.plan.scheme import LayerRule

    source = net()
    rules = (
        LayerRule(regex="^a$", weight_bits=4),
        LayerRule(regex="^b$", activations="int16"),
    )
    planned = plan_of(source, draw(source, 5), config_of(rules=rules, weight_scales={"a": SCALES}))
    edge = planned.plan.ops["a"].edges[1]
    assert (edge.dtype, edge.scale) == ("int4", SCALES)
    assert planned.grid("b").dtype == "int16"
    chosen = planned.emit().model.main
    nearest = next(op for op in chosen.ops if op.name == "CONV_2D").input(1).values()
    other = np.where(nearest > 0, nearest - 1, nearest).astype(np.int8)
    planned.plan = dataclasses.replace(planned.plan, weights={"a": other})
    op = next(op for op in planned.emit().model.main.ops if op.name == "CONV_2D")
    np.testing.assert_array_equal(op.input(1).values(), other)
