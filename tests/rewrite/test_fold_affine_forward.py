import pytest

from tfq.rewrite.fold_affine_forward import RULE


def affine(net, x):
    c = x.shape[-1]
    return net.op("ADD", net.op("MUL", x, net.weights(c)), net.weights(1, c))


def test_conv(net):
    y = net.conv(affine(net, net.input(1, 6, 6, 3)), act=1)
    assert net.rewritten(y, "fold_affine_forward") == ["CONV_2D"]


def depthwise(net, x, padding):
    size = x.shape[1] - 2 * padding
    return net.op("DEPTHWISE_CONV_2D", x, net.weights(1, 3, 3, 6), net.weights(6),
                  shape=(1, size, size, 6), padding=padding, strideH=1, strideW=1,
                  depthMultiplier=2)  # fmt: skip


def test_depthwise_with_a_multiplier(net):
    y = depthwise(net, affine(net, net.input(1, 6, 6, 3)), padding=1)
    assert net.rewritten(y, "fold_affine_forward") == ["DEPTHWISE_CONV_2D"]


def test_same_padding_takes_a_scale_but_no_shift(net):
    x = net.input(1, 6, 6, 3)
    y = depthwise(net, net.op("MUL", affine(net, x), 0.5), padding=0)
    assert net.rewritten(y, "fold_affine_forward") == ["MUL", "ADD", "DEPTHWISE_CONV_2D"]


@pytest.mark.parametrize("bias", [True, False])
def test_dense(net, bias):
    x, b = affine(net, net.input(2, 5)), net.weights(4) if bias else None
    y = net.op("FULLY_CONNECTED", x, net.weights(4, 5), b, shape=(2, 4))
    assert net.rewritten(y, "fold_affine_forward") == ["FULLY_CONNECTED"]


def test_reasons(net):
    x = net.input(1, 6, 6, 3)
    shared = net.op("MUL", x, 2.0)
    net.conv(net.op("ADD", net.conv(shared), shared, shape=(1, 4, 4, 4)))
    net.conv(net.op("MUL", x, net.weights(1, 6, 1, 1)))
    depthwise(net, net.op("ADD", x, 1.0), padding=0)
    assert net.reasons(RULE) == [
        "no plain scale or shift of its own before it",
        "not one computed and one constant float side",
        "the constant varies along more than the channels",
        "it pads with zeros, which the shift would have changed",
    ]
