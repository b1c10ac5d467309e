def test_twins_with_equal_constants_become_one(net):
    x = net.input(1, 4)
    a = net.op("MUL", net.op("ADD", x, 0.5), net.const([1.0, 2, 3, 4]))
    b = net.op("MUL", net.op("ADD", x, 0.5), net.const([1.0, 2, 3, 4]))
    y = net.op("TANH", net.op("SUB", a, net.op("EXP", b)))
    assert net.rewritten(y, "merge_duplicates") == ["ADD", "MUL", "EXP", "SUB", "TANH"]


def test_different_options_or_constants_stay(net):
    x = net.input(1, 4)
    a = net.op("ADD", x, 0.5, fusedActivationFunction=1)
    b = net.op("ADD", x, 0.5)
    c = net.op("ADD", x, 0.25)
    y = net.op("MUL", net.op("MUL", a, b), c)
    assert len(net.rewritten(y, "merge_duplicates")) == 5


def test_outputs_keep_their_names(net):
    x = net.input(1, 4)
    a, b = net.op("TANH", x), net.op("TANH", x)
    assert net.rewritten([a, b], "merge_duplicates") == ["TANH", "TANH"]
