"""Activations tiny, huge, cancelled: every kernel gets scales that its arithmetic can do."""

import numpy as np
import pytest
from small_models import ACT, Net, config_of, distance, draw, options_type, plan_of

from tfq.graph.optable import OP_TABLE
from tfq.plan.multipliers import smallest_output_scale
from tfq.runtime import KERNELS, Runner

SHAPE = (1, 4, 4, 3)


def of_input(name, options="", **fields):
    chosen = options_type(f"{options}Options") if options else None

    def make(net, k):
        x = net.op("MUL", net.input(*SHAPE), k)
        return net.op(name, x, options=chosen() if chosen else None, **fields)

    return make


def of_two(name, **fields):
    def make(net, k):
        a, b = net.op("MUL", net.input(*SHAPE), k), net.op("MUL", net.input(*SHAPE), k)
        return net.op(name, a, b, **fields)

    return make


def convolution(act):
    return lambda n, k: n.conv(n.op("MUL", n.input(*SHAPE), k), act=act, bias=np.zeros(4))


# How the result scales with the argument is said where bounds of 6 or 1 are not reached.
NETS = {
    "conv": convolution(ACT.NONE),
    "conv_relu6": convolution(ACT.RELU6),
    "conv_relu_n1": convolution(ACT.RELU_N1_TO_1),
    "relu6": of_input("RELU6"),
    "relu_n1": of_input("RELU_N1_TO_1"),
    "leaky": of_input("LEAKY_RELU", "LeakyRelu", alpha=0.2),
    "add_relu6": of_two("ADD", fusedActivationFunction=ACT.RELU6),
    "sub": of_two("SUB"),
    "maximum": of_two("MAXIMUM"),
    "dense": lambda n, k: n.dense(n.op("MUL", n.input(1, 6), k), 4, bias=np.zeros(4)),
}


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
@pytest.mark.parametrize("name", NETS)
def test_activations_as_small_as_those_of_untrained_networks_keep_their_bits(name, scheme):
    far = {}
    for k in (1e-12, 1e-3):
        net = Net()
        y = NETS[name](net, k)
        far[k], step = distance(net, y, draw(net.model(y), 3), scheme=scheme)
        assert step < k
    assert far[1e-12] <= far[1e-3] + 1.01


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
@pytest.mark.parametrize("k", [0.0, 1e-30, 1e30])
def test_every_kernel_runs_whatever_the_magnitude(k, scheme):
    for make in (*NETS.values(), lambda n, k: n.softmax(n.op("MUL", n.input(1, 6), k))):
        net = Net()
        y = make(net, k)
        samples = draw(net.model(y), 2)
        model = plan_of(net.bytes(y), samples, config_of(scheme)).emit().model
        zeros = {t.name: np.zeros(t.shape, t.dtype) for t in model.main.inputs}
        for kernels in KERNELS:
            Runner(model.to_bytes(), kernels=kernels).run(zeros)


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_a_gate_that_no_sample_opens_leaves_a_multiplier_that_kernels_do(scheme):
    net = Net()
    x, gate = net.input(1, 6), net.input(1, 6)
    big = net.op("MUL", x, 1e6, out="big")
    y = net.op("MUL", big, gate, out="y")
    samples = [{"in0": s["in0"], "in1": 0 * s["in1"]} for s in draw(net.model(y), 3)]
    planned = plan_of(net.bytes(y), samples, config_of(scheme))
    assert "widened for the kernel of MUL" in planned.plan.tensors["y"].reason
    row, dtype = OP_TABLE["MUL"], planned.grid("y").dtype
    read = [planned.grid(name).scale[0] for name in ("big", "in1")]
    assert planned.grid("y").scale[0] >= smallest_output_scale("MUL", row, dtype, read) > 0


def test_integers_beside_a_finer_output_do_not_overflow_a_sum():
    net = Net()
    m = net.op("CAST", net.input(1, 6, dtype="int32"), dtype="float32")
    y = net.op("SUB", 1.0, m, out="y")
    masks = [{"in0": np.arange(6, dtype=np.int32).reshape(1, 6) % 2}]
    assert distance(net, y, masks, scheme="int16x8")[0] <= 1.01
