INT = "int32"


def test_reshapes(net):
    x = net.input(2, 3, 4)
    a = net.op("RESHAPE", net.op("TANH", x), net.const([6, 4], INT), shape=(6, 4))
    b = net.op("EXPAND_DIMS", a, net.const(0, INT), shape=(1, 6, 4))
    y = net.op("RESHAPE", b, net.const([24], INT), shape=(24,))
    assert net.rewritten(y, "merge_reshapes") == ["TANH", "RESHAPE"]


def test_transposes_that_cancel_go_away(net):
    x = net.input(2, 3, 4)
    a = net.op("TRANSPOSE", net.op("TANH", x), net.const([2, 0, 1], INT), shape=(4, 2, 3))
    b = net.op("TRANSPOSE", a, net.const([1, 2, 0], INT), shape=(2, 3, 4))
    y = net.op("EXP", b)
    assert net.rewritten(y, "merge_reshapes", "remove_identity") == ["TANH", "EXP"]


def test_transposes_compose(net):
    x = net.input(2, 3, 4)
    a = net.op("TRANSPOSE", x, net.const([2, 0, 1], INT), shape=(4, 2, 3))
    y = net.op("TRANSPOSE", a, net.const([0, 2, 1], INT), shape=(4, 3, 2))
    z = net.op("EXP", a)
    assert net.rewritten([y, z], "merge_reshapes") == ["TRANSPOSE", "TRANSPOSE", "EXP"]
    assert net.model.main.ops[1].input(0).name == "in0"
