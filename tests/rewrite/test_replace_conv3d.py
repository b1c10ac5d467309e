import pytest

from tfq.rewrite.replace_conv3d import RULE


def conv3d(net, x, out, padding, strides=(1, 1, 1), dilation=1, taps=3, act=0, bias=True):
    d, h, w = strides
    b = [net.weights(4)] if bias else []
    return net.op("CONV_3D", x, net.weights(taps, 3, 3, 2, 4), *b, shape=(*out, 4),
                  padding=padding, strideD=d, strideH=h, strideW=w, dilationDFactor=dilation,
                  dilationHFactor=dilation, dilationWFactor=dilation,
                  fusedActivationFunction=act)  # fmt: skip


@pytest.mark.parametrize(
    ("size", "out", "padding", "more"),
    [
        ((1, 5, 6, 7, 2), (1, 5, 6, 7), 0, {}),
        ((2, 5, 6, 7, 2), (2, 3, 4, 5), 1, {"act": 1}),
        ((2, 6, 7, 7, 2), (2, 3, 4, 4), 0, {"strides": (2, 2, 2)}),
        ((1, 7, 7, 7, 2), (1, 4, 3, 3), 1, {"strides": (1, 2, 2), "taps": 4, "bias": False}),
        ((1, 7, 7, 7, 2), (1, 3, 3, 3), 1, {"dilation": 2}),
        ((1, 3, 6, 6, 2), (1, 3, 6, 6), 0, {"taps": 1}),
    ],
)
def test_one_convolution(net, size, out, padding, more):
    y = conv3d(net, net.input(*size), out, padding, **more)
    names = net.rewritten(y, "replace_conv3d")
    assert names.count("CONV_2D") == 1
    assert set(names) <= {"RESHAPE", "PAD", "STRIDED_SLICE", "CONCATENATION", "CONV_2D"}


def test_the_bias_behind_it_folds(net):
    y = conv3d(net, net.input(1, 5, 6, 7, 2), (1, 5, 6, 7), 0, bias=False)
    y = net.op("ADD", y, net.weights(4), fusedActivationFunction=1)
    assert "ADD" not in net.rewritten(y, "replace_conv3d", "fold_affine")


def test_computed_weights_stay(net):
    net.op("CONV_3D", net.input(1, 3, 3, 3, 2), net.input(3, 3, 3, 2, 4), shape=(1, 1, 1, 1, 4))
    assert net.reasons(RULE) == ["not static floats with constant weights"]
