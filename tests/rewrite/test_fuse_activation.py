import pytest

from tfq.rewrite.fuse_activation import RULE


@pytest.mark.parametrize(("name", "code"), [("RELU", 1), ("RELU_N1_TO_1", 2), ("RELU6", 3)])
def test_into_a_convolution_and_an_addition(net, name, code):
    x = net.input(1, 6, 6, 3)
    a = net.op(name, net.conv(x))
    y = net.op(name, net.op("ADD", a, 0.25))
    assert net.rewritten(y, "fuse_activation") == ["CONV_2D", "ADD"]
    assert [op.options.fusedActivationFunction for op in net.model.main.ops] == [code, code]


def test_two_clamps_in_one(net):
    x = net.input(1, 6, 6, 3)
    y = net.op("RELU6", net.conv(x, act=1), shape=(1, 4, 4, 4))
    assert net.rewritten(y, "fuse_activation") == ["CONV_2D"]
    assert net.model.main.ops[0].options.fusedActivationFunction == 3


def test_reasons(net):
    x = net.input(2, 3)
    a = net.op("RELU", net.op("TANH", x))
    b = net.op("ADD", a, 0.5)
    c = net.op("RELU", b)
    d = net.op("RELU", net.op("ADD", b, 0.5, fusedActivationFunction=2))
    net.op("ADD", c, d)
    assert net.reasons(RULE) == [
        "the op before it cannot clamp",
        "what it clamps is read by others too",
        "the op before it has another activation",
    ]
