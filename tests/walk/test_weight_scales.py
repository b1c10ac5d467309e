"""Scales solved on a walk."""

import dataclasses

import numpy as np
import pytest
from small_models import ACT, Net, config_of, draw, plan_of

from tfq.walk import Walk, solve_weight_scales
from tfq.walk.gram import gram_matrices
from tfq.walk.patches import weight_rows
from tfq.walk.weight_scales import layer_scales, rescale


def net(act=ACT.RELU):
    net = Net(6)
    x = net.input(1, 8, 8, 3, name="x")
    a = net.conv(x, 6, act=act, weights=net.rng.standard_t(2, (6, 3, 3, 3)), out="a")
    b = net.depthwise(a, act=act, out="b")
    return net.bytes(net.dense(net.mean(b), 4, out="y"))


def setup(count=12, **options):
    source = net()
    # One channel of the input hardly moves, and the others move together.
    samples = [
        {"x": (s["x"][..., :1] + 0.2 * s["x"]) * np.array([0.02, 1, 1.5], np.float32)}
        for s in draw(source, count, seed=3)
    ]
    planned = plan_of(source, samples, config_of(weight_bits=4, **options))
    return planned, planned.emit(), samples


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_scales_lower_the_error_of_accumulators(granularity):
    planned, emitted, samples = setup(
        granularity=granularity, dense_granularity=granularity, weights="mse"
    )
    before = emitted.model.to_bytes()
    found = dict.fromkeys("aby")
    for name, scales, reason in solve_weight_scales(
        planned.prepared.model, emitted, samples, {"a": 4, "b": 4, "y": 4}
    ):
        assert reason == ""
        assert scales.dtype == np.float32
        assert scales.shape == emitted_weights(emitted, name).quant.scale.shape
        found[name] = scales
    assert emitted.model.to_bytes() == before
    with Walk(emitted, samples, float_model=planned.prepared.model) as walk:
        layer = next(walk)
        gram = gram_matrices(layer, centred=True)
        exact = weight_rows(layer.op, layer.float_op.input(1).values())

        def error(layer):
            scale = layer.weights.quant.scale.reshape(1, -1, 1)
            e = weight_rows(layer.op, layer.weights.values()) * scale - exact
            return np.einsum("gci,gij,gcj->gc", e, gram, e)

        was, bias, step = error(layer), layer.bias_steps, layer.ratio.max()
        np.testing.assert_array_equal(layer_scales(layer, 4), found["a"])
        rescale(layer, found["a"], 4)
        now = error(layer)
        assert now.sum() < 0.97 * was.sum()
        assert layer.without_accumulators() == ""
        np.testing.assert_allclose(layer.bias_steps, bias, atol=(step + layer.ratio.max()) / 2)


def emitted_weights(emitted, name):
    return next(op for op in emitted.model.main.ops if op.outputs[0].name == name).input(1)


def test_zeros_and_large_biases_keep_their_scale():
    planned, emitted, samples = setup()
    with Walk(emitted, samples, float_model=planned.prepared.model) as walk:
        layer = next(walk)
        free = layer_scales(layer, 4)
        old = layer.weights.quant.scale
        finer = int(np.argmin(free / old))
        other = int(np.argsort(free / old)[1])
        assert free[finer] < old[finer]
        bias = layer.bias.values().copy()
        bias[finer] = 2**26
        layer.replace(2, dataclasses.replace(layer.bias, data=bias))
        weights = layer.float_op.input(1).values().copy()
        weights[other] = 0
        inputs = list(layer.float_op.inputs)
        inputs[1] = dataclasses.replace(inputs[1], data=weights)
        layer.float_op = dataclasses.replace(layer.float_op, inputs=inputs)
        held = layer_scales(layer, 4)
        assert held[finer] == old[finer]
        assert held[other] == old[other]
        rest = [c for c in range(6) if c not in (finer, other)]
        np.testing.assert_array_equal(held[rest], free[rest])


def test_layers_without_patches_say_so():
    planned, emitted, samples = setup()
    solved = solve_weight_scales(planned.prepared.model, emitted, samples, {"b": 4})
    assert [name for name, *_ in solved] == ["b"]
