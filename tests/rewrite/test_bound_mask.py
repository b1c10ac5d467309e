import numpy as np

from tfq.rewrite.bound_mask import RULE

KEEP = np.tri(5, dtype=bool)[None]


def softmax(net, x):
    return net.op("SOFTMAX", x, beta=1.0)


def test_select(net):
    x = net.input(2, 5, 5)
    s = net.op("SELECT_V2", net.const(KEEP, "bool"), x, -2.4e38, shape=(2, 5, 5), dtype="float32")
    names = net.rewritten(softmax(net, s), "bound_mask", tol=2e-5)
    assert names == ["REDUCE_MIN", "ADD", "SELECT_V2", "SOFTMAX"]


def test_select_the_other_way_round(net):
    x = net.input(2, 5, 5)
    drop = net.const(~KEEP, "bool")
    s = net.op("SELECT_V2", drop, -1e9, x, shape=(2, 5, 5), dtype="float32")
    names = net.rewritten(softmax(net, s), "bound_mask", tol=2e-5)
    assert names == ["REDUCE_MIN", "ADD", "SELECT_V2", "SOFTMAX"]


def test_constant_sum(net):
    x = net.input(2, 5, 5)
    s = net.op("ADD", x, net.const(np.where(KEEP, 0.0, -1e9)))
    names = net.rewritten(softmax(net, s), "bound_mask", tol=2e-5)
    assert names == ["REDUCE_MIN", "ADD", "SELECT_V2", "SOFTMAX"]


def test_constant_sum_with_a_relative_bias(net):
    x = net.input(2, 5, 5)
    bias = np.where(KEEP, np.linspace(-1, 1, 25).reshape(1, 5, 5), -1e9)
    s = net.op("ADD", x, net.const(bias))
    names = net.rewritten(softmax(net, s), "bound_mask", tol=2e-5)
    assert names == ["ADD", "REDUCE_MIN", "ADD", "SELECT_V2", "SOFTMAX"]


def test_computed_mask(net):
    x, y = net.input(2, 5, 5), net.input(2, 1, 5)
    dropped = net.op("CAST", net.op("GREATER", y, 0.0, dtype="bool"), dtype="float32")
    s = net.op("ADD", x, net.op("MUL", dropped, -1e9))
    names = net.rewritten(softmax(net, s), "bound_mask", tol=2e-5)
    assert names[2:] == ["REDUCE_MIN", "REDUCE_MAX", "SUB", "ADD", "MUL", "SUB", "SOFTMAX"]


def test_reasons(net):
    x = net.input(2, 5, 5)
    softmax(net, net.op("ADD", x, -3.0))
    net.op("TANH", net.op("ADD", x, -1e9))
    assert net.reasons(RULE) == [
        "it adds nothing large and negative",
        "its result is not for SOFTMAX alone",
    ]
