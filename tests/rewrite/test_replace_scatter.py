from tfq.rewrite.replace_scatter import RULE


def test_rows(net):
    updates = net.input(3, 4)
    y = net.op("SCATTER_ND", net.const([[4], [0], [2]], "int32"), updates,
               net.const([6, 4], "int32"), shape=(6, 4), dtype="float32")  # fmt: skip
    assert net.rewritten(y, "replace_scatter") == ["RESHAPE", "CONCATENATION", "GATHER", "RESHAPE"]


def test_single_elements(net):
    updates = net.input(2)
    y = net.op("SCATTER_ND", net.const([[1, 2], [0, 1]], "int32"), updates,
               net.const([2, 3], "int32"), shape=(2, 3), dtype="float32")  # fmt: skip
    assert net.rewritten(y, "replace_scatter")[2] == "GATHER"


def test_two_updates_at_one_place_stay(net):
    net.op("SCATTER_ND", net.const([[1], [1]], "int32"), net.input(2, 3),
           net.const([2, 3], "int32"), shape=(2, 3), dtype="float32")  # fmt: skip
    assert net.reasons(RULE) == ["two updates go to one place"]
