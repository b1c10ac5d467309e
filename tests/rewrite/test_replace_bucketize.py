import pytest

from tfq.rewrite.replace_bucketize import RULE

BOUNDARIES = [-1.5, 0.0, 0.25, 2.0]


@pytest.mark.parametrize("shape", [(40,), (2, 20), (2, 3, 7)])
def test_counts_the_boundaries_reached(net, shape):
    y = net.op("BUCKETIZE", net.input(*shape), dtype="int32", boundaries=BOUNDARIES)
    assert net.rewritten(y, "replace_bucketize") == ["RESHAPE", "GREATER_EQUAL", "CAST", "SUM"]


def test_on_a_boundary(net):
    x = net.op("ROUND", net.input(2, 20))
    y = net.op("BUCKETIZE", x, dtype="int32", boundaries=[-1.0, 0.0, 1.0])
    assert net.rewritten(y, "replace_bucketize")[0] == "ROUND"


def test_four_dimensions_stay(net):
    net.op("BUCKETIZE", net.input(1, 2, 3, 4), dtype="int32", boundaries=BOUNDARIES)
    assert net.reasons(RULE) == ["not of static floats with at most three dimensions"]
