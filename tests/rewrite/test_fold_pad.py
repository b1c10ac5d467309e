import numpy as np
import pytest

from tfq.rewrite.fold_pad import RULE, same_padding


def padded(net, x, pads, stride, kernel=3, dilation=1):
    table = np.zeros((4, 2), np.int32)
    table[1] = table[2] = pads
    n, h, w, c = x.shape
    h, w = h + sum(pads), w + sum(pads)
    p = net.op("PAD", x, net.const(table, "int32"), shape=(n, h, w, c))
    reach = (kernel - 1) * dilation + 1
    return net.op(
        "CONV_2D", p, net.weights(4, kernel, kernel, c), net.weights(4),
        shape=(n, (h - reach) // stride + 1, (w - reach) // stride + 1, 4), padding=1,
        strideH=stride, strideW=stride, dilationHFactor=dilation, dilationWFactor=dilation,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("size", "pads", "stride", "kernel", "dilation"),
    [(6, (1, 1), 1, 3, 1), (6, (0, 1), 2, 3, 1), (7, (1, 1), 2, 3, 1), (6, (2, 2), 1, 3, 2)],
)
def test_what_same_would_pad(net, size, pads, stride, kernel, dilation):
    y = padded(net, net.input(1, size, size, 3), pads, stride, kernel, dilation)
    assert net.rewritten(y, "fold_pad") == ["CONV_2D"]
    assert net.model.main.ops[0].options.padding == 0


@pytest.mark.parametrize(("pads", "stride"), [((1, 1), 2), ((2, 1), 1), ((2, 2), 1)])
def test_anything_else_stays(net, pads, stride):
    y = padded(net, net.input(1, 6, 6, 3), pads, stride)
    assert "SAME would pad by" in net.reasons(RULE)[0]
    assert net.rewritten(y, "fold_pad") == ["PAD", "CONV_2D"]


def test_same_padding():
    assert same_padding(5, 3, 1, 1) == (1, 1)
    assert same_padding(6, 3, 2, 1) == (0, 1)
    assert same_padding(4, 1, 2, 1) == (0, 0)
