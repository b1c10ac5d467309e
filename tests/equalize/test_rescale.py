"""Rescaling moves channels and leaves the function."""

import numpy as np
import pytest
from small_models import ACT, Net, draw

from tfq.equalize import find_groups, rescale, rescale_prepared
from tfq.errors import UsageError
from tfq.graph.model import Model, options_type
from tfq.rewrite.prepare import prepare
from tfq.runtime import Runner


def transpose_conv(net, x, channels):
    n, h, w, c = x.shape
    shape = (n, 2 * h, 2 * w, channels)
    return net.op(
        "TRANSPOSE_CONV",
        net.const(shape, "int32"),
        net.const(net.rng.normal(0, 0.3, (channels, 2, 2, c))),
        x,
        net.const(net.rng.normal(0, 1, channels)),
        shape=shape,
        dtype="float32",
        options=options_type("TransposeConvOptions")(),
        padding=1,
        strideH=2,
        strideW=2,
    )


def wide_depthwise(net, x, times):
    n, h, w, c = x.shape
    return net.op(
        "DEPTHWISE_CONV_2D",
        x,
        net.const(net.rng.normal(0, 1, (1, 3, 3, c * times))),
        net.const(net.rng.normal(0, 1, c * times)),
        shape=(n, h - 2, w - 2, c * times),
        options=options_type("DepthwiseConv2DOptions")(),
        padding=1,
        strideH=1,
        strideW=1,
        depthMultiplier=times,
        fusedActivationFunction=ACT.RELU,
    )


def network():
    """Every kind of weighted layer as writer and reader, a sum, pooling, flattening."""
    net = Net(1)
    x = net.input(1, 8, 8, 3, name="x")
    a = net.conv(x, 4, act=ACT.RELU, out="a")
    b = wide_depthwise(net, a, 2)
    c = net.conv(b, 4, size=1, out="c")
    d = net.op("ADD", net.conv(c, 4, size=1, out="d"), c, fusedActivationFunction=ACT.RELU)
    e = net.op("RELU", transpose_conv(net, d, 5))
    f = net.dense(net.reshape(e, 1, e.size), 6, act=ACT.RELU, out="f")
    return net.bytes(net.dense(f, 2, out="y"))


def powers(group, seed=0):
    return tuple(2.0 ** np.random.default_rng(seed).integers(-6, 7, group.size))


def test_powers_of_two_leave_the_function_to_the_bit():
    prepared = prepare(network())
    groups = find_groups(prepared.model.main)
    assert [g.size for g in groups] == [4, 8, 4, 5, 6]
    before = prepared.model.to_bytes()
    scales = {g.name: powers(g, i) for i, g in enumerate(groups)}
    other = rescale_prepared(prepared, scales)
    assert prepared.model.to_bytes() == before
    assert other.sha256 != prepared.sha256
    a = Runner(prepared.bytes, keep_intermediates=True)
    b = Runner(other.bytes, keep_intermediates=True)
    index = {t.name: i for i, t in enumerate(prepared.model.main.tensors())}
    for sample in draw(prepared.model, 3):
        np.testing.assert_array_equal(a.run(sample)["y"], b.run(sample)["y"])
        for g in groups:
            factors = np.array(scales[g.name], np.float32)
            for t, channels in g.tensors.items():
                want = a.tensor(index[t.name]) * factors[channels]
                np.testing.assert_array_equal(b.tensor(index[t.name]), want, err_msg=t.name)


def test_any_scales_leave_the_function_up_to_rounding():
    prepared = prepare(network())
    rng = np.random.default_rng(0)
    scales = {
        g.name: tuple(rng.uniform(0.01, 10, g.size)) for g in find_groups(prepared.model.main)
    }
    a, b = Runner(prepared.bytes), Runner(rescale_prepared(prepared, scales).bytes)
    for sample in draw(prepared.model, 3):
        np.testing.assert_allclose(a.run(sample)["y"], b.run(sample)["y"], rtol=2e-4, atol=1e-4)


def test_no_scales_change_nothing():
    prepared = prepare(network())
    assert rescale_prepared(prepared, {}) is prepared


def test_a_bias_of_two_layers_is_scaled_for_one():
    net = Net()
    bias = net.const([1.0, 2.0, -1.0, 0.5], name="shared")
    x = net.input(1, 8, 8, 3)
    a = net.conv(x, 4, bias=bias, out="a")
    y = net.conv(a, 4, bias=bias, out="y")
    model = net.model(y)
    result = rescale(model, {"a": (2.0, 4.0, 0.5, 8.0)})
    first, second = result.main.ops
    np.testing.assert_array_equal(first.inputs[2].values(), [2, 8, -0.5, 4])
    np.testing.assert_array_equal(second.inputs[2].values(), [1, 2, -1, 0.5])
    assert first.inputs[2].name != second.inputs[2].name
    Model.from_bytes(result.to_bytes())


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ({"nothing": (1.0, 2.0)}, "2 channels of 'nothing', which this model does not let"),
        ({"a": (1.0, 2.0)}, "2 channels of 'a', which this model has 4 of"),
    ],
)
def test_scales_of_another_model_are_refused(scales, message):
    with pytest.raises(UsageError, match=message):
        rescale(prepare(network()).model, scales)
