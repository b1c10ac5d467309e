import pytest

from tfq.rewrite.recover_l2_norm import RULE


def norm(net, x, guard, axis=-1, shape=(2, 3, 1)):
    total = net.op("SUM", net.op("MUL", x, x), net.const([axis], "int32"), shape=shape,
                   keepDims=True)  # fmt: skip
    if guard == "MAXIMUM":
        r = net.op("RSQRT", net.op("MAXIMUM", total, 1e-12))
    elif guard == "ADD":
        r = net.op("RSQRT", net.op("ADD", total, 1e-7))
    elif guard == "MINIMUM":
        r = net.op("MINIMUM", net.op("RSQRT", total), 1e7)
    else:
        r = net.op("RSQRT", net.op("ADD", total, 0.1))
    return net.op("MUL", x, r)


@pytest.mark.parametrize("guard", ["MAXIMUM", "ADD", "MINIMUM"])
def test_forms(net, guard):
    y = norm(net, net.input(2, 3, 8), guard)
    assert net.rewritten(y, "recover_l2_norm") == ["L2_NORMALIZATION"]


def test_another_axis(net):
    y = norm(net, net.input(2, 3, 8), "MAXIMUM", axis=1, shape=(2, 1, 8))
    assert net.rewritten(y, "recover_l2_norm") == ["TRANSPOSE", "L2_NORMALIZATION", "TRANSPOSE"]


def test_a_large_eps_stays(net):
    norm(net, net.input(2, 3, 8), "large")
    assert net.reasons(RULE)[-1] == "eps is too large to be left out"
