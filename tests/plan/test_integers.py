"""Integers that are cast keep the range that they have through what only moves them."""

import numpy as np
import pytest
from small_models import Net, distance, options_type, plan_of

from tfq.graph.model import Quant

PADS = [[0, 0], [1, 1], [1, 1], [0, 0]]
HALF = {"strideW": 2, "strideH": 2, "filterWidth": 2, "filterHeight": 2, "padding": 1}


def image(net, dtype="uint8"):
    return net.op("CAST", net.input(1, 6, 6, 3, dtype=dtype), dtype="float32")


def moved(name, shape, *indices, options="", **fields):
    """Makes `name` of a tensor [1, 6, 6, 3] and constant indices."""

    def make(net, t):
        constants = [net.const(i, "int32") for i in indices]
        chosen = options_type(f"{options}Options")() if options else None
        return net.op(name, t, *constants, shape=shape, options=chosen, **fields)

    return make


# What keeps a scale: one that loses the range of a uint8 image leaves two levels of it.
# fmt: off
SAME = {
    "maximum": lambda n, t: n.op("MAXIMUM", t, 10.0),
    "minimum": lambda n, t: n.op("MINIMUM", t, 100.5),
    "max_pool": moved("MAX_POOL_2D", (1, 3, 3, 3), **HALF),
    "average_pool": moved("AVERAGE_POOL_2D", (1, 3, 3, 3), options="Pool2D", **HALF),
    "bilinear": moved("RESIZE_BILINEAR", (1, 12, 12, 3), [12, 12], options="ResizeBilinear"),
    "nearest": moved("RESIZE_NEAREST_NEIGHBOR", (1, 9, 9, 3), [9, 9],
                     options="ResizeNearestNeighbor"),
    "slice": moved("SLICE", (1, 4, 4, 3), [0, 1, 1, 0], [1, 4, 4, 3]),
    "reverse": moved("REVERSE_V2", (1, 6, 6, 3), [3]),
    "transpose": moved("TRANSPOSE", (1, 6, 6, 3), [0, 2, 1, 3]),
    "reshape": moved("RESHAPE", (1, 4, 9, 3), [1, 4, 9, 3]),
    "gather": moved("GATHER", (1, 6, 6, 2), [2, 0], options="Gather", axis=3),
    "space_to_depth": moved("SPACE_TO_DEPTH", (1, 3, 3, 12), options="SpaceToDepth", blockSize=2),
    "pad": moved("PAD", (1, 8, 8, 3), PADS),
    "pad_with": lambda n, t: n.op(
        "PADV2", t, n.const(PADS, "int32"), n.const(7.5), shape=(1, 8, 8, 3)),
    "tile": moved("TILE", (1, 6, 6, 6), [1, 1, 1, 2]),
    "reduce_max": moved("REDUCE_MAX", (1, 6, 6, 1), [3], keepDims=True),
    "pack": lambda n, t: n.op("PACK", t, t, shape=(2, 1, 6, 6, 3), options=options_type(
        "PackOptions")(), valuesCount=2, axis=0),
    "two": lambda n, t: n.concat(moved("REVERSE_V2", (1, 6, 6, 3), [3])(n, t), image(n, "int32")),
    "mask": lambda n, t: n.concat(t, n.op("CAST", n.input(1, 6, 6, 2, dtype="bool"),
                                          dtype="float32")),
    "float": lambda n, t: n.concat(t, n.op("MUL", n.input(1, 6, 6, 2), 1.5)),
}
# fmt: on


def drawn(net, rng, high=256):
    return {
        t.name: (rng.random(t.shape) * high).astype(t.dtype)
        if t.dtype != "bool"
        else rng.random(t.shape) < 0.5
        for t in net.inputs
    }


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_what_keeps_the_scale_of_an_image_keeps_its_range(name, scheme):
    net = Net()
    y = net.op("MUL", SAME[name](net, image(net)), 0.5, out="y")
    rng = np.random.default_rng(0)
    far, step = distance(net, y, [drawn(net, rng) for _ in range(4)], scheme=scheme)
    if scheme == "int16x8" and name == "space_to_depth":
        assert far * step <= 0.5  # Its kernel computes in 8 bits: half of a pixel's step of 1.
    else:
        # Averages and what lies between integers are rounded twice.
        assert far <= (2.01 if name in ("average_pool", "bilinear", "minimum") else 1.01)
    assert step <= 255 / 100


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
@pytest.mark.parametrize("options", [{}, {"input_type": "uint8"}], ids=["", "uint8 interface"])
def test_integers_of_every_type_keep_their_range(dtype, options):
    net = Net()
    beside = net.input(1, 6, 6, 3)
    y = net.op("ADD", SAME["transpose"](net, image(net, dtype)), beside, out="y")
    rng = np.random.default_rng(0)
    samples = [drawn(net, rng, 100) for _ in range(4)]
    far, step = distance(net, y, samples, **options)
    assert far <= 1.01
    assert step < 1


def test_a_mask_of_integers_is_no_zero():
    net = Net()
    mask = net.op("CAST", net.input(1, 6, dtype="int32"), dtype="float32")
    wide = net.reshape(mask, 1, 1, 6)
    y = net.op("MUL", net.input(1, 4, 6), wide, out="y")
    rng = np.random.default_rng(0)
    masks = [(rng.random((1, 6)) < 0.5).astype(np.int32) for _ in range(4)]
    samples = [{"in0": m, "in1": rng.normal(size=(1, 4, 6)).astype(np.float32)} for m in masks]
    assert distance(net, y, samples)[0] <= 1.01


def test_a_mask_that_no_sample_sets_has_a_one_nonetheless():
    net = Net()
    mask = net.op("CAST", net.input(1, 6, dtype="int32"), dtype="float32")
    y = net.op("MUL", net.op("ADD", net.reshape(mask, 1, 1, 6), 0.5), 2.0, out="y")
    planned = plan_of(net.bytes(y), [{"in0": np.zeros((1, 6), np.int32)}])
    edges = [e for op in planned.plan.ops.values() for e in op.edges.values()]
    assert any(np.isclose(e.range()[1], 1.0, atol=0.01) for e in edges if e.dtype == "int8")


def test_constants_beyond_a_fixed_grid_are_not_cut_off():
    net = Net()
    x = net.op("LOGISTIC", net.input(1, 6), out="s")
    pads = net.const([[0, 0], [1, 1]], "int32")
    y = net.op("PADV2", x, pads, net.const(-1.0), shape=(1, 8), out="y")
    rng = np.random.default_rng(0)
    samples = [{"in0": rng.normal(size=(1, 6)).astype(np.float32)} for _ in range(4)]
    assert distance(net, y, samples)[0] <= 1.01


@pytest.mark.parametrize("between", [False, True], ids=["at once", "moved"])
def test_the_grid_that_training_chose_for_integers_is_theirs(between):
    net = Net()
    x = on_grid(net, image(net), 200 / 255)
    x = SAME["transpose"](net, x) if between else x
    y = on_grid(net, net.conv(x, 4), 2000 / 255, 0)
    planned = plan_of(net.bytes(y), [])
    assert not planned.layout.observed
    assert any(
        edge.dtype == "int8" and edge.scale == (float(np.float32(200 / 255)),)
        for op in planned.plan.ops.values()
        for edge in op.edges.values()
    )
    # The float model clamps at 200 too, where training did.
    rng = np.random.default_rng(0)
    assert distance(net, y, [drawn(net, rng) for _ in range(4)])[0] <= 1.01


def on_grid(net, t, scale, zero=-128):
    """`t` through a QUANTIZE and a DEQUANTIZE, as training leaves them."""
    options = options_type("QuantizeOptions")()
    q = net.op("QUANTIZE", t, dtype="int8", options=options)
    q.quant = Quant.per_tensor(np.float32(scale), zero)
    return net.op("DEQUANTIZE", q, dtype="float32", options=options_type("DequantizeOptions")())
