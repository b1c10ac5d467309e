import numpy as np
import pytest

from tfq.rewrite.recover_prelu import RULE

SLOPES = [0.1, -0.2, 0.3, 1.5]


def abs_form(n, x, a):
    half = n.op("MUL", n.op("MUL", n.op("SUB", x, n.op("ABS", x)), n.const(a)), 0.5)
    return n.op("ADD", n.op("RELU", x), half)


def neg_form(n, x, a):
    return n.op("SUB", n.op("RELU", x), n.op("MUL", n.const(a), n.op("RELU", n.op("NEG", x))))


def min_form(n, x, a):
    return n.op("ADD", n.op("RELU", x), n.op("MUL", n.op("MINIMUM", x, 0.0), n.const(a)))


@pytest.mark.parametrize("form", [abs_form, neg_form, min_form])
@pytest.mark.parametrize("shape", [(4,), (1, 1, 4), (1, 1, 1, 4), (3, 3, 4)])
def test_slope_per_channel_or_element(net, form, shape):
    slopes = np.resize(SLOPES, shape)
    y = form(net, net.input(1, 3, 3, 4), slopes)
    assert net.rewritten(y, "recover_prelu") == ["PRELU"]
    alpha = net.model.main.ops[0].input(1)
    assert alpha.shape == (shape if len(shape) < 4 else shape[1:])
    np.testing.assert_allclose(alpha.data, slopes.reshape(alpha.shape), rtol=1e-6)


@pytest.mark.parametrize("form", [abs_form, neg_form, min_form])
def test_one_slope(net, form):
    y = form(net, net.conv(net.input(1, 5, 5, 3)), 0.25)
    assert net.rewritten(y, "recover_prelu") == ["CONV_2D", "LEAKY_RELU"]
    assert net.model.main.ops[1].options.alpha == pytest.approx(0.25)


def test_maximum(net):
    x = net.input(2, 5)
    y = net.op("MAXIMUM", net.op("MUL", x, 0.2), x)
    assert net.rewritten(y, "recover_prelu") == ["LEAKY_RELU"]


def test_what_only_looks_like_it_stays(net):
    x = net.input(2, 5)
    net.op("MAXIMUM", net.op("MUL", x, 1.5), x)
    z = net.op("ADD", net.op("RELU", x), net.op("MUL", net.op("MINIMUM", x, 0.1), 0.3))
    assert set(net.reasons(RULE)) == {"what it computes is not x above zero and a x below"}
    assert "PRELU" not in net.rewritten(z, "recover_prelu")
