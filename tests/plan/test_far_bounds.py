"""A clamp beyond the grid is the grid's end: the same integers, and kernels that take it."""

import numpy as np
import pytest
from small_models import ACT, Net

from tfq.graph.model import Graph, Model, Op, Quant, Tensor
from tfq.plan.far_bounds import Unbounded, far_bound, without_far_bound
from tfq.runtime import Runner


def ran(op, x, scale):
    inner = [Tensor("x", x.shape, "int8", None, Quant.per_tensor(np.float32(scale * 2), 3))]
    out = Tensor("y", x.shape, "int8", None, Quant.per_tensor(np.float32(scale), -100))
    op = Op(op.name, inner * len(op.inputs), [out], op.options)
    model = Model([Graph("main", [op], inner, [out])])
    return Runner(model.to_bytes(), kernels="builtin").run({"x": x})["y"]


@pytest.mark.parametrize("name", ["RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ADD"])
@pytest.mark.parametrize("act", [ACT.RELU6, ACT.RELU_N1_TO_1])
def test_the_same_integers_without_the_bound(name, act):
    net = Net()
    x = net.input(1, 256)
    if name == "ADD":
        net.op("ADD", x, x, fusedActivationFunction=act)
    else:
        net.op(name, x)
    op = net.ops[0]
    values = np.arange(-128, 128).astype(np.int8).reshape(1, 256)
    # Where kernels still do it: 6 is 2^26 steps away.
    scale = 1e-7
    plain = without_far_bound(op, far_bound(op, scale))
    assert plain.name != op.name or plain.options.fusedActivationFunction != act
    np.testing.assert_array_equal(ran(plain, values, scale), ran(op, values, scale))


def test_a_bound_within_reach_stays():
    net = Net()
    net.op("RELU6", net.input(1, 4))
    op = net.ops[0]
    assert far_bound(op, 0.02) == Unbounded()
    assert without_far_bound(op, Unbounded()) is op
