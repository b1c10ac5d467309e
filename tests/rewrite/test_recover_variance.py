import pytest

from tfq.rewrite.recover_variance import RULE


def variance(net, x, axes=(-1,), other=None):
    shape = (*x.shape[:-1], 1)
    a = net.const(axes, "int32")
    mean = net.op("MEAN", x, a, shape=shape, keepDims=True)
    squares = net.op("MEAN", net.op("SQUARE", x), net.const(other or axes, "int32"), shape=shape,
                     keepDims=True)  # fmt: skip
    return net.op("SUB", squares, net.op("MUL", mean, mean), fusedActivationFunction=1)


@pytest.mark.parametrize("axes", [(-1,), (2,)])
def test_difference_of_means(net, axes):
    y = variance(net, net.input(2, 5, 8), axes)
    assert net.rewritten(y, "recover_variance") == ["MEAN", "SUB", "MUL", "MEAN"]


def test_other_axes_stay(net):
    x = net.input(2, 5, 5)
    a = net.op("MEAN", x, net.const([2], "int32"), shape=(2, 5, 1), keepDims=True)
    b = net.op("MEAN", net.op("MUL", x, x), net.const([1], "int32"), shape=(2, 1, 5),
               keepDims=True)  # fmt: skip
    net.op("SUB", b, net.op("MUL", a, a))
    assert net.reasons(RULE) == ["the means run over different axes"]
