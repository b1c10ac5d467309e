"""Graphs drawn at random: whatever is converted is integer, right, and the same when replayed."""

import numpy as np
import pytest
from small_models import ACT, Net

from tfq.convert import convert_model

BINARY = ["ADD", "MUL", "SUB", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"]
UNARY = ["LOGISTIC", "TANH", "RELU", "RELU6", "HARD_SWISH", "ELU", "GELU", "ABS", "NEG", "SIN"]


def grow(net, rng, pool):
    """One more tensor from those in the pool."""
    t = pool[rng.integers(len(pool))]
    n, h, w, c = t.shape
    kind = rng.integers(14)
    if kind == 0 and h >= 3:
        size = int(rng.choice([1, 3]))
        act = int(rng.choice([ACT.NONE, ACT.RELU, ACT.RELU6]))
        return net.conv(t, int(rng.integers(2, 8)), size=size, act=act)
    if kind == 1 and h >= 3:
        return net.depthwise(t, act=int(rng.choice([ACT.NONE, ACT.RELU])))
    if kind == 2:
        same = [u for u in pool if u.shape == t.shape]
        return net.op(str(rng.choice(BINARY)), t, same[rng.integers(len(same))])
    if kind == 3:
        fitting = [u for u in pool if u.shape[:-1] == t.shape[:-1]]
        return net.concat(t, fitting[rng.integers(len(fitting))])
    if kind == 4 and h % 2 == 0:
        size = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2, "padding": 1}
        return net.op("MAX_POOL_2D", t, shape=(n, h // 2, w // 2, c), **size)
    if kind == 5:
        return net.op("ADD", t, float(rng.normal() * 3))
    if kind == 6:
        return net.op("MUL", t, net.const(rng.normal(0, 1, (c,))))
    if kind == 7:
        return net.reshape(net.reshape(t, n, h * w, c), n, h, w, c)
    if kind == 8:
        return net.op("TRANSPOSE", t, net.const([0, 2, 1, 3], "int32"), shape=(n, w, h, c))
    if kind == 9:
        return net.op("LOG", net.op("ADD", net.op("EXP", t), 1.0))
    if kind == 10:
        above = net.op("GREATER", t, 0.0, dtype="bool")
        small = net.op("MUL", t, 0.2)
        return net.op("SELECT_V2", above, t, small, dtype="float32", shape=t.shape)
    if kind == 11:
        return net.softmax(t)
    if kind == 12:
        axes = net.const([1, 2], "int32")
        return net.op("MEAN", t, axes, shape=(n, 1, 1, c), keepDims=True)
    return net.op(str(rng.choice(UNARY)), t)


def build(seed):
    rng = np.random.default_rng(seed)
    net = Net(seed)
    pool = [net.input(1, 8, 8, 4, name="x")]
    for _ in range(rng.integers(3, 12)):
        pool.append(grow(net, rng, pool))
    outputs = [t for t in pool[1:-1] if rng.uniform() < 0.15]
    return net.bytes(*outputs, pool[-1])


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
@pytest.mark.parametrize(
    "seed", [n if n < 3 else pytest.param(n, marks=pytest.mark.slow) for n in range(12)]
)
def test_a_random_graph(seed, scheme):
    source = build(seed)
    # Fewer than 16: all of them are calibrated, so nothing lies outside of its range.
    data = np.random.default_rng(seed).normal(0, 1, (12, 8, 8, 4)).astype(np.float32)
    result = convert_model(source, data, scheme=scheme, calibration="minmax")
    assert result.summary["model"]["full_integer"]
    assert result.summary["proof"]["collapsed"] == []
    floor = 12 if scheme == "int8" else 30
    for output in result.summary["proof"]["outputs"]:
        assert output["sqnr_db"] is None or output["sqnr_db"] > floor
    again = convert_model(source, data, scheme=scheme, plan=result.plan)
    assert again.model == result.model
