from tfq.rewrite.replace_transpose import RULE

INT = "int32"


def test_sizes_of_one(net):
    x = net.input(1, 5, 1, 3)
    t = net.op("TRANSPOSE", x, net.const([2, 1, 0, 3], INT), shape=(1, 5, 1, 3))
    y = net.op("TRANSPOSE", t, net.const([1, 0, 3, 2], INT), shape=(5, 1, 3, 1))
    assert net.rewritten(y, "replace_transpose") == ["RESHAPE", "RESHAPE"]
    assert net.rewritten(y, "replace_transpose", "merge_reshapes") == ["RESHAPE"]


def test_values_that_move_stay(net):
    net.op("TRANSPOSE", net.input(1, 5, 3), net.const([0, 2, 1], INT), shape=(1, 3, 5))
    assert net.reasons(RULE) == ["it moves values"]
