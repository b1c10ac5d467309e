import pytest

from tfq.rewrite.recover_rsqrt import RULE


def positive(net, *shape):
    return net.op("ADD", net.op("ABS", net.input(*shape)), 0.1)


@pytest.mark.parametrize(("exponent", "name"), [(0.5, "SQRT"), (-0.5, "RSQRT")])
def test_powers(net, exponent, name):
    y = net.op("POW", positive(net, 2, 5), exponent)
    assert net.rewritten(y, "recover_rsqrt") == ["ABS", "ADD", name]


def test_division_by_a_root(net):
    x = net.input(2, 5)
    root = net.op("SQRT", positive(net, 2, 1))
    y = net.op("DIV", x, root, fusedActivationFunction=1)
    assert net.rewritten(y, "recover_rsqrt") == ["ABS", "ADD", "RSQRT", "MUL"]


def test_reciprocal_of_a_root(net):
    y = net.op("DIV", 1.0, net.op("SQRT", positive(net, 2, 5)))
    assert net.rewritten(y, "recover_rsqrt") == ["ABS", "ADD", "RSQRT"]


def test_reasons(net):
    x = positive(net, 2, 5)
    net.op("DIV", net.op("POW", x, 3.0), x)
    assert net.reasons(RULE) == [
        "the exponent is not 1/2 or -1/2",
        "it does not divide by a square root",
    ]
