import pytest


@pytest.mark.parametrize("radius", [1, 2, 9])
def test_local_response_normalization(net, radius):
    x = net.input(1, 3, 3, 6)
    y = net.op("LOCAL_RESPONSE_NORMALIZATION", x, radius=radius, bias=1.5, alpha=0.2, beta=0.75)
    assert net.rewritten(y, "replace_lrn") == ["MUL", "CONV_2D", "POW", "MUL"]
