import pytest


@pytest.mark.parametrize(("padding", "size"), [(0, 3), (1, 2)])
@pytest.mark.parametrize(("act", "clamp"), [(0, []), (1, []), (3, ["RELU6"])])
def test_l2_pool(net, padding, size, act, clamp):
    y = net.op("L2_POOL_2D", net.input(1, 5, 5, 3), shape=(1, size, size, 3), padding=padding,
               strideH=2, strideW=2, filterHeight=2, filterWidth=2,
               fusedActivationFunction=act)  # fmt: skip
    names = net.rewritten(y, "replace_l2_pool", spread=5.0)
    assert names == ["MUL", "AVERAGE_POOL_2D", "SQRT", *clamp]
