import numpy as np

from tfq.rewrite.recover_gelu import RULE


def gelu(net, x, inner=0.044715):
    cube = net.op("MUL", net.op("MUL", x, x), net.op("MUL", x, inner))
    t = net.op("TANH", net.op("MUL", net.op("ADD", x, cube), float(np.sqrt(2 / np.pi))))
    return net.op("MUL", net.op("MUL", x, 0.5), net.op("ADD", t, 1.0))


def test_tanh_form(net):
    y = gelu(net, net.input(2, 9))
    assert net.rewritten(y, "recover_gelu") == ["GELU"]
    assert net.model.main.ops[0].options.approximate


def test_another_constant_stays(net):
    gelu(net, net.input(2, 9), inner=0.05)
    assert net.reasons(RULE)[-1] == "what it computes is not GELU"
