from tfq.rewrite.recover_logistic import RULE


def test_with_exp(net):
    x = net.input(2, 9)
    y = net.op("DIV", 1.0, net.op("ADD", net.op("EXP", net.op("NEG", x)), 1.0))
    assert net.rewritten(y, "recover_logistic") == ["LOGISTIC"]


def test_with_tanh(net):
    x = net.input(2, 9)
    y = net.op("MUL", net.op("ADD", net.op("TANH", net.op("MUL", x, 0.5)), 1.0), 0.5)
    assert net.rewritten(y, "recover_logistic") == ["LOGISTIC"]


def test_another_base_stays(net):
    x = net.input(2, 9)
    net.op("DIV", 1.0, net.op("ADD", net.op("EXP", net.op("MUL", x, -1.1)), 1.0))
    assert net.reasons(RULE)[-1] == "what it computes is not the sigmoid"
