from tfq.rewrite.replace_div import RULE


def test_two_computed_sides(net):
    a, b = net.input(2, 3), net.input(2, 1)
    away = net.op("ADD", net.op("ABS", b), 0.5)
    y = net.op("DIV", a, away, fusedActivationFunction=1)
    assert net.rewritten(y, "replace_div") == ["ABS", "ADD", "DIV", "MUL"]
    assert net.model.main.ops[2].outputs[0].shape == (2, 1)


def test_reasons(net):
    x = net.input(2, 3)
    net.op("DIV", 2.0, net.op("DIV", x, 3.0))
    assert net.reasons(RULE) == ["it divides by a constant", "it is a reciprocal already"]
