import pytest

from tfq.rewrite.replace_cumsum import RULE


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_every_direction(net, axis, exclusive, reverse):
    x = net.input(3, 4, 5)
    y = net.op("CUMSUM", x, net.const(axis, "int32"), shape=(3, 4, 5), exclusive=exclusive,
               reverse=reverse)  # fmt: skip
    assert net.rewritten(y, "replace_cumsum") == ["RESHAPE", "BATCH_MATMUL", "RESHAPE"]


def test_segment_sum_with_a_placeholder_shape(net):
    x = net.input(5, 2, 3)
    s = net.op("SEGMENT_SUM", x, net.const([0, 0, 1, 1, 2], "int32"), shape=(1, 2, 3))
    y = net.op("TANH", s, shape=(3, 2, 3))
    assert net.rewritten(y, "replace_cumsum")[:3] == ["RESHAPE", "BATCH_MATMUL", "RESHAPE"]
    assert net.model.main.ops[2].outputs[0].shape == (3, 2, 3)


def test_unsorted_segment_sum(net):
    x = net.input(4, 3)
    y = net.op("UNSORTED_SEGMENT_SUM", x, net.const([2, 0, 2, 1], "int32"),
               net.const(5, "int32"), shape=(5, 3))  # fmt: skip
    assert net.rewritten(y, "replace_cumsum") == ["RESHAPE", "BATCH_MATMUL", "RESHAPE"]


def test_computed_segments_stay(net):
    net.op("SEGMENT_SUM", net.input(4, 3), net.input(4, dtype="int32"), shape=(1, 3))
    assert net.reasons(RULE) == ["the segments are computed"]
