import pytest

from tfq.rewrite.recover_hard_swish import RULE


def relu6(n, x):
    return n.op("ADD", x, 3.0, fusedActivationFunction=3)


FORMS = [
    lambda n, x: n.op("DIV", n.op("MUL", x, relu6(n, x)), 6.0),
    lambda n, x: n.op("MUL", x, n.op("MUL", relu6(n, x), 1 / 6)),
    lambda n, x: n.op("MUL", relu6(n, x), n.op("DIV", x, 6.0)),
    lambda n, x: n.op("MUL", n.op("MUL", 1 / 6, x), n.op("RELU6", n.op("ADD", 3.0, x))),
    lambda n, x: n.op(
        "MUL", x, n.op("MINIMUM", n.op("RELU", n.op("ADD", n.op("DIV", x, 6.0), 0.5)), 1.0)
    ),
]


@pytest.mark.parametrize("form", FORMS)
def test_every_spelling(net, form):
    y = form(net, net.input(1, 4, 4, 3))
    assert net.rewritten(y, "recover_hard_swish", spread=4.0) == ["HARD_SWISH"]


def test_after_a_shift_the_shifted_tensor_is_the_source(net):
    x = net.input(1, 4, 4, 3)
    y = FORMS[1](net, net.op("ADD", x, 0.7))
    assert net.rewritten(y, "recover_hard_swish", spread=4.0) == ["ADD", "HARD_SWISH"]


def test_a_wrong_constant_or_another_factor_stays(net):
    x, z = net.input(1, 4), net.input(1, 4)
    a = net.op("MUL", x, net.op("MUL", relu6(net, x), 0.17))
    b = net.op("MUL", z, net.op("MUL", relu6(net, x), 1 / 6))
    assert net.rewritten([a, b], "recover_hard_swish").count("HARD_SWISH") == 0
    assert set(net.reasons(RULE)) == {"what it computes is not x relu6(x + 3) / 6"}
