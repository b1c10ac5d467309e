import pytest

from tfq.rewrite.recover_upsampling import RULE


def upsample(net, x, a, b, rows_first=True):
    n, h, w, c = x.shape
    steps = [((n, h, 1, w, c), 2, a), ((n, a * h, w, 1, c), 3, b)]
    if not rows_first:
        steps = [((n, h, w, 1, c), 3, b), ((n, h, 1, b * w, c), 2, a)]
    for shape, axis, times in steps:
        x = net.op("RESHAPE", x, net.const(shape, "int32"), shape=shape)
        tiles = [1] * 5
        tiles[axis] = times
        shape = tuple(d * t for d, t in zip(shape, tiles, strict=True))
        x = net.op("TILE", x, net.const(tiles, "int32"), shape=shape)
    out = (n, a * h, b * w, c)
    return net.op("RESHAPE", x, net.const(out, "int32"), shape=out)


@pytest.mark.parametrize("rows_first", [True, False])
def test_both_orders(net, rows_first):
    y = upsample(net, net.input(2, 3, 4, 5), 2, 3, rows_first)
    assert net.rewritten(y, "recover_upsampling") == ["RESIZE_NEAREST_NEIGHBOR"]


def test_tiling_whole_rows_stays(net):
    x = net.input(1, 4, 4, 2)
    t = net.op("TILE", x, net.const([1, 2, 1, 1], "int32"), shape=(1, 8, 4, 2))
    net.op("RESHAPE", t, net.const([1, 4, 8, 2], "int32"), shape=(1, 4, 8, 2))
    assert net.reasons(RULE) == ["not two repeats, each a RESHAPE and a TILE"]
