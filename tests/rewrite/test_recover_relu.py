import pytest

from tfq.rewrite.recover_relu import RULE


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda n, x: n.op("MINIMUM", n.op("MAXIMUM", x, 0.0), 6.0), "RELU6"),
        (lambda n, x: n.op("RELU", n.op("MINIMUM", 6.0, x)), "RELU6"),
        (lambda n, x: n.op("MAXIMUM", n.op("MINIMUM", x, 1.0), -1.0), "RELU_N1_TO_1"),
        (lambda n, x: n.op("MAXIMUM", x, 0.0), "RELU"),
        (lambda n, x: n.op("MUL", n.op("ADD", x, n.op("ABS", x)), 0.5), "RELU"),
        (
            lambda n, x: n.op("SELECT_V2", n.op("GREATER", x, 0.0, dtype="bool"), x, 0.0,
                              dtype="float32"),
            "RELU",
        ),
    ],
)  # fmt: skip
def test_clamps(net, make, name):
    y = make(net, net.op("TANH", net.input(2, 5)))
    assert net.rewritten(y, "recover_relu", spread=6.0) == ["TANH", name]


def test_other_bounds_stay(net):
    x = net.input(2, 5)
    y = net.op("MINIMUM", net.op("MAXIMUM", x, 0.0), 5.0)
    net.op("RELU", net.op("ADD", y, 1.0))
    assert net.reasons(RULE)[1:] == ["what it computes is none of the clamps"] * 2
