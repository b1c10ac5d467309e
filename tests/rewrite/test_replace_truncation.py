from tfq.rewrite.replace_truncation import RULE


def test_towards_zero(net):
    x = net.input(4, 9)
    y = net.op("CAST", net.op("CAST", x, dtype="int32"), dtype="float32")
    assert net.rewritten(y, "replace_truncation") == ["ABS", "FLOOR", "SIGN", "MUL"]


def test_floor_of_a_quotient(net):
    a, b = net.input(4, 9), net.input(4, 9)
    y = net.op("FLOOR_DIV", a, net.op("ADD", net.op("ABS", b), 0.5))
    assert net.rewritten(y, "replace_truncation") == ["ABS", "ADD", "DIV", "FLOOR"]


def test_reasons(net):
    net.op("CAST", net.input(2, 3, dtype="int32"), dtype="float32")
    net.op("FLOOR_DIV", net.input(2, 3), 0.3)
    assert net.reasons(RULE) == [
        "it does not come from float by way of an integer",
        "by or of a constant it is elementwise as it is",
    ]
