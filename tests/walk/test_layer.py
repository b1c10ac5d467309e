"""Accumulators against sums by hand, and what a layer says of itself."""

import dataclasses

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from small_models import ACT, Net, config_of, draw, plan_of

from tfq.graph.model import Quant
from tfq.runtime import Runner
from tfq.walk import Walk


def layers_of(source, count=3, float_model=False, **options):
    """The layers of a walk, kept alive by the walk."""
    samples = draw(source, count, seed=3)
    planned = plan_of(source, samples, config_of(**options))
    given = planned.prepared.model if float_model else None
    walk = Walk(planned.emit(), samples, float_model=given)
    return walk, planned, samples


def patches(x, size, stride=1, dilation=1, same=False):
    """[positions, size, size, channels] of int64 [1, h, w, c]."""
    reach = (size - 1) * dilation
    if same:
        out = -(-x.shape[1] // stride)
        total = max((out - 1) * stride + reach + 1 - x.shape[1], 0)
        x = np.pad(x, ((0, 0), *[(total // 2, total - total // 2)] * 2, (0, 0)))
    out = (x.shape[1] - reach - 1) // stride + 1
    return np.stack(
        [
            x[0, i : i + reach + 1 : dilation, j : j + reach + 1 : dilation]
            for i in range(0, out * stride, stride)
            for j in range(0, out * stride, stride)
        ]
    )


def centred(layer, n):
    return layer.inputs[n].astype(np.int64) - int(layer.x.quant.zero_point[0])


def conv_sums(layer, n):
    o, w = layer.op.options, layer.weights.values().astype(np.int64)
    same = o.padding == schema.Padding.SAME
    p = patches(centred(layer, n), w.shape[1], o.strideH, o.dilationHFactor, same)
    if layer.op.name == "DEPTHWISE_CONV_2D":
        return np.einsum("phwc,hwc->pc", p, w[0])
    return np.einsum("phwc,ohwc->po", p, w)


def dense_sums(layer, n):
    w = layer.weights.values().astype(np.int64)
    return centred(layer, n).reshape(-1, w.shape[1]) @ w.T


def strided(net, x, **fields):
    y = net.conv(x, 5, act=ACT.RELU, out="y")
    h = -(-x.shape[1] // 2)
    net.ops[-1].outputs[0].shape = (1, h, h, 5)
    for key, value in {"padding": schema.Padding.SAME, "strideH": 2, "strideW": 2}.items():
        setattr(net.ops[-1].options, key, value)
    return y


def dilated(net, x):
    y = net.depthwise(x, act=ACT.RELU6, out="y")
    net.ops[-1].outputs[0].shape = (1, x.shape[1] - 4, x.shape[1] - 4, x.shape[3])
    net.ops[-1].options.dilationHFactor = net.ops[-1].options.dilationWFactor = 2
    return y


CASES = {
    "conv": (lambda net, x: net.conv(x, 5, act=ACT.RELU, out="y"), conv_sums),
    "strided": (strided, conv_sums),
    "depthwise": (lambda net, x: net.depthwise(x, out="y"), conv_sums),
    "dilated": (dilated, conv_sums),
    "dense": (lambda net, x: net.dense(net.mean(x), 6, out="y"), dense_sums),
}
SCHEMES = {
    "int8": {},
    "per_tensor": {"granularity": "per_tensor", "dense_granularity": "per_tensor"},
    "int16x8": {"scheme": "int16x8"},
    "int4": {"weight_bits": 4},
}


@pytest.mark.parametrize("options", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_accumulators_are_the_sums(case, options):
    make, sums = case
    net = Net(4)
    source = net.bytes(make(net, net.input(1, 8, 8, 3, name="x")))
    walk, *_ = layers_of(source, **options)
    with walk:
        layer = next(walk)
        assert layer.without_accumulators() == ""
        # No sum of so few products of 8 bits is more than float32 holds.
        exact = layer.x.dtype == "int8"
        for n, z in enumerate(layer.accumulators()):
            assert z.shape == (layer.y.size // layer.channels, layer.channels)
            tolerance = {"atol": 0} if exact else {"rtol": 1e-5, "atol": 8}
            np.testing.assert_allclose(z, sums(layer, n), **tolerance)


def test_a_transposed_convolution():
    net = Net(4)
    y = net.upsample(net.input(1, 4, 4, 3, name="x"), size=2, out="y")
    walk, *_ = layers_of(net.bytes(y))
    with walk:
        layer = next(walk)
        assert layer.without_accumulators() == ""
        w = layer.weights.values().astype(np.int64)
        for n, z in enumerate(layer.accumulators()):
            # Kernel and stride are equal: every input value makes a block of its own.
            blocks = np.einsum("ijc,ohwc->ihjwo", centred(layer, n)[0], w)
            np.testing.assert_array_equal(z, blocks.reshape(64, 2))


def test_reach_is_that_of_grid_and_activation():
    net = Net()
    a = net.conv(net.input(1, 6, 6, 2, name="x"), 3, act=ACT.RELU, out="a")
    source = net.bytes(net.conv(a, 3, act=ACT.RELU6, out="b", bias=[8.0, 8.0, 8.0]))
    walk, *_ = layers_of(source)
    with walk:
        a, b = walk
        assert a.reach == (0, 255)
        step = float(b.y.quant.scale[0])
        assert b.reach == (0, round(6 / step))


def test_a_kernel_that_computes_something_else_is_noticed():
    net = Net()
    source = net.bytes(net.dense(net.input(1, 16, name="x"), 4, out="y"))
    walk, *_ = layers_of(source)
    with walk:
        layer = next(walk)
        scales = layer.weights.quant.scale.copy()
        real = layer.op
        layer.replace(1, dataclasses.replace(layer.weights, quant=Quant(scales * 8, scales * 0)))
        assert layer.without_accumulators() == ""
        # What the kernel ran with, beside what the layer believes.
        layer.outputs = lambda samples: _outputs_of(layer, real, samples)
        assert "steps from the rounded accumulator" in layer.without_accumulators()


def _outputs_of(layer, op, samples):
    return type(layer).outputs(dataclasses.replace(layer, op=op), samples)


def test_targets_are_means_before_and_after_the_activation():
    net = Net(1)
    a = net.conv(net.input(1, 6, 6, 2, name="x"), 70, act=ACT.RELU6, out="a")
    walk, planned, samples = layers_of(net.bytes(net.conv(a, 3, out="b")), float_model=True)
    net = Net(1)
    plain = net.conv(net.input(1, 6, 6, 2, name="x"), 70, out="a")
    argument = Runner(net.bytes(plain))
    whole = Runner(planned.prepared.bytes, keep_intermediates=True)
    with walk:
        a, b = walk
        for n, sample in enumerate(samples):
            before = argument.run(sample)["a"]
            np.testing.assert_allclose(
                a.target.arguments[n], before.mean(axis=(0, 1, 2)), rtol=1e-5, atol=1e-6
            )
            np.testing.assert_allclose(
                a.target.outputs[n],
                np.clip(before, 0, 6).mean(axis=(0, 1, 2)),
                rtol=1e-5,
                atol=1e-6,
            )
            whole.run(sample)
            after = whole.run(sample)["b"]
            np.testing.assert_allclose(
                b.target.outputs[n], after.mean(axis=(0, 1, 2)), rtol=1e-5, atol=1e-6
            )
            assert b.target.arguments is b.target.outputs
