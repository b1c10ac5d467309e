INT = "int32"


def test_a_transpose_between_two_elementwise_ops_sinks(net):
    power = net.op("MUL", x := net.input(2, 3), x)
    moved = net.op("TRANSPOSE", net.op("ADD", power, 1e-3), net.const([1, 0], INT), shape=(3, 2))
    y = net.op("LOG", moved)
    assert net.rewritten(y, "sink_moves") == ["MUL", "ADD", "LOG", "TRANSPOSE"]


def test_what_others_read_stays(net):
    sums = net.op("ADD", net.op("ABS", net.input(2, 3)), 1.0)
    moved = net.op("RESHAPE", sums, net.const([6], INT), shape=(6,))
    y = net.op("LOG", moved)
    assert net.rewritten([y, moved], "sink_moves") == ["ABS", "ADD", "RESHAPE", "LOG"]


def test_only_steep_functions_are_worth_it(net):
    sums = net.op("ADD", net.input(2, 3), 1.0)
    y = net.op("TANH", net.op("RESHAPE", sums, net.const([6], INT), shape=(6,)))
    assert net.rewritten(y, "sink_moves") == ["ADD", "RESHAPE", "TANH"]
