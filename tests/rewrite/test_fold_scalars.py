import numpy as np

from tfq.rewrite.fold_scalars import RULE


def test_products_and_sums(net):
    x = net.input(2, 3)
    y = net.op("MUL", net.op("DIV", x, 4.0), net.const([1.0, 2, 3]), fusedActivationFunction=1)
    z = net.op("SUB", net.op("ADD", y, 0.5), 2.0)
    assert net.rewritten(z, "fold_scalars") == ["MUL", "ADD"]
    mul, add = net.model.main.ops
    np.testing.assert_allclose(mul.input(1).data, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(add.input(1).data, -1.5)


def test_reasons(net):
    x = net.input(2, 3)
    a = net.op("DIV", 1.0, x)
    b = net.op("DIV", a, 0.0)
    c = net.op("MUL", b, 2.0, fusedActivationFunction=1)
    net.op("MUL", c, 2.0)
    assert net.reasons(RULE) == [
        "the constant is on the left",
        "it divides by zero",
        "no plain MUL before it",
        "no plain MUL before it",
    ]


def test_a_product_that_others_read_stays(net):
    x = net.input(2, 3)
    a = net.op("MUL", x, 3.0)
    y = net.op("MUL", a, 2.0)
    assert net.rewritten([y, net.op("TANH", a)], "fold_scalars") == ["MUL", "MUL", "TANH"]
