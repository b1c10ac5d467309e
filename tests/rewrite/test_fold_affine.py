import numpy as np
import pytest

from tfq.graph.model import Quant
from tfq.rewrite.fold_affine import RULE

GAMMA = np.array([0.5, 2.0, -1.0, 1.5])
BETA = np.array([1.0, -0.5, 0.0, 2.0])


def affine(net, x, act=0):
    return net.op("ADD", net.op("MUL", x, net.const(GAMMA)), net.const(BETA),
                  fusedActivationFunction=act)  # fmt: skip


def test_conv(net):
    y = affine(net, net.conv(net.input(1, 6, 6, 3)), act=3)
    assert net.rewritten(y, "fold_affine") == ["CONV_2D"]
    assert net.model.main.ops[0].options.fusedActivationFunction == 3


def test_depthwise(net):
    x = net.input(1, 6, 6, 2)
    d = net.op("DEPTHWISE_CONV_2D", x, net.weights(1, 3, 3, 4), net.weights(4), shape=(1, 6, 6, 4),
               padding=0, strideH=1, strideW=1, depthMultiplier=2)  # fmt: skip
    assert net.rewritten(affine(net, d), "fold_affine") == ["DEPTHWISE_CONV_2D"]


@pytest.mark.parametrize("bias", [True, False])
def test_dense(net, bias):
    x, b = net.input(2, 5), net.weights(4) if bias else None
    d = net.op("FULLY_CONNECTED", x, net.weights(4, 5), b, shape=(2, 4))
    assert net.rewritten(affine(net, d), "fold_affine") == ["FULLY_CONNECTED"]


def test_transpose_conv(net):
    x = net.input(1, 4, 4, 3)
    d = net.op("TRANSPOSE_CONV", net.const([1, 8, 8, 4], "int32"), net.weights(4, 3, 3, 3), x,
               shape=(1, 8, 8, 4), dtype="float32", strideH=2, strideW=2)  # fmt: skip
    assert net.rewritten(affine(net, d, act=1), "fold_affine") == ["TRANSPOSE_CONV"]


def test_through_the_reshape_of_a_conv1d(net):
    c = net.conv(net.input(1, 3, 6, 3))
    r = net.op("RESHAPE", c, net.const([1, 4, 4], "int32"), shape=(1, 4, 4))
    y = affine(net, r, act=1)
    assert net.rewritten(y, "fold_affine") == ["CONV_2D", "RESHAPE"]


def test_computed_weights_stay(net):
    x = net.input(2, 5)
    q = net.op("QUANTIZE", net.weights(4, 5), dtype="int8")
    q.quant = Quant.per_tensor(0.05)
    w = net.op("DEQUANTIZE", q, dtype="float32")
    y = affine(net, net.op("FULLY_CONNECTED", x, w, None, shape=(2, 4)))
    assert net.reasons(RULE)[0] == "the weights are not float constants"
    assert net.rewritten(y, "fold_affine")[-2:] == ["MUL", "ADD"]


def test_reasons(net):
    x = net.input(1, 6, 6, 3)
    a = net.op("MUL", net.conv(x, act=1), 2.0)
    b = net.conv(a)
    c = net.op("ADD", b, net.weights(1, 2, 1, 1))
    net.op("MUL", c, b)
    assert net.reasons(RULE) == [
        "no weighted op without activation before it",
        "the weighted op's result is read by others too",
        "not one computed and one constant float side",
    ]


def test_a_constant_per_pixel_stays(net):
    y = net.op("ADD", net.conv(net.input(1, 6, 6, 3)), net.weights(1, 4, 1, 1))
    assert net.reasons(RULE) == ["the constant varies along more than the channels"]
    assert net.rewritten(y, "fold_affine") == ["CONV_2D", "ADD"]
