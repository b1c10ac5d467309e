"""Masks in front of a softmax do not become part of a range."""

import numpy as np
import pytest
from small_models import Net, config_of, distance, plan_of

from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.model import options_type
from tfq.runtime import Runner

MASK = np.array([[0, 0, 0, -1e9, 0, -1e9]], np.float32)


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
@pytest.mark.parametrize("low", [-1e9, -1e4])
def test_an_added_constant_mask(scheme, low):
    net = Net()
    x = net.input(1, 6, name="x")
    masked = net.op("ADD", x, net.const(np.where(MASK < 0, low, 0)), out="masked")
    planned = plan_of(net.bytes(net.softmax(masked, out="y")), config=config_of(scheme))
    lo, hi = planned.grid("masked").range()
    assert -40 < lo < -5
    assert hi < 40
    check(planned)


def check(planned):
    emitted = planned.emit()
    x = np.array([[1.0, -1, 2, 2, 0, 3]], np.float32)
    (given,) = emitted.model.main.inputs
    (out,) = emitted.model.main.outputs
    q = np.clip(
        np.round(x / given.quant.scale[0]) + given.quant.zero_point[0],
        *((-128, 127) if given.dtype == "int8" else (-32768, 32767)),
    ).astype(given.dtype)
    got = Runner(emitted.model.to_bytes(), kernels="builtin").run({"x": q})["y"]
    real = (got.astype(float) - out.quant.zero_point[0]) * out.quant.scale[0]
    e = np.exp(np.where(MASK < 0, 0, x)) * (MASK == 0)
    np.testing.assert_allclose(real, e / e.sum(), atol=0.03)
    assert (real[MASK < 0] <= 0.5 / 256).all()


def test_a_computed_mask():
    net = Net()
    x = net.input(1, 6, name="x")
    m = net.input(1, 6, name="m")
    computed = net.op("MUL", m, -1e9, out="mask")
    y = net.softmax(net.op("ADD", x, computed, out="masked"), out="y")
    rng = np.random.default_rng(0)
    samples = [
        {
            "x": rng.normal(0, 1, (1, 6)).astype(np.float32),
            "m": (rng.uniform(size=(1, 6)) < 0.3).astype(np.float32),
        }
        for _ in range(20)
    ]
    planned = plan_of(net.bytes(y), samples)
    for name in ("mask", "masked"):
        lo, hi = planned.grid(name).range()
        assert -40 < lo < -5, name
        assert hi < 10


def test_a_selected_constant():
    net = Net()
    x = net.input(1, 6, name="x")
    keep = net.const(MASK == 0, "bool")
    low = net.const(np.full((1, 6), -1e9))
    masked = net.op("SELECT_V2", keep, x, low, dtype="float32", shape=(1, 6), out="masked")
    planned = plan_of(net.bytes(net.softmax(masked, out="y")))
    lo, hi = planned.grid("masked").range()
    assert -40 < lo < -5
    assert hi < 40
    check(planned)


def test_large_logits_without_a_mask_keep_their_range():
    net = Net()
    x = net.input(1, 6, name="x")
    total = net.op("ADD", x, net.const(np.full((1, 6), -50.0)), out="sum")
    lo, _ = plan_of(net.bytes(net.softmax(total))).grid("sum").range()
    assert lo < -50


def test_a_mask_on_values_that_were_only_moved():
    """They have no statistics of their own; those of what they were moved from count."""
    net = Net()
    x = net.input(1, 4, 6, name="x")
    top = net.op("REDUCE_MAX", x, net.const([1], "int32"), shape=(1, 1, 6), keepDims=True)
    options = options_type("PadOptions")()
    padded = net.op(
        "PAD", top, net.const([[0, 0], [1, 1], [0, 0]], "int32"), shape=(1, 3, 6), options=options
    )
    masked = net.op("ADD", padded, net.const(MASK[None]), shape=(1, 3, 6), out="masked")
    planned = plan_of(net.bytes(net.softmax(masked, out="y")))
    lo, hi = planned.grid("masked").range()
    assert -40 < lo < -5
    assert 0 < hi < 40


def test_a_mask_on_probabilities():
    net = Net()
    p = net.softmax(net.input(1, 6, name="x"), out="p")
    masked = net.op("ADD", p, net.const(MASK), out="masked")
    lo, hi = plan_of(net.bytes(net.softmax(masked, out="y"))).grid("masked").range()
    assert -12 < lo < -5
    assert 0 < hi < 2


def test_a_mask_behind_a_dense_layer_does_not_become_its_bias():
    net = Net()
    scores = net.dense(net.input(1, 8, name="x"), 6, out="scores")
    masked = net.op("ADD", scores, net.const(MASK), out="masked")
    planned = plan_of(net.bytes(net.softmax(masked, out="y")))
    assert [op.name for op in planned.graph.ops] == ["FULLY_CONNECTED", "ADD", "SOFTMAX"]
    lo, hi = planned.grid("masked").range()
    assert -40 < lo < -5
    assert hi < 40


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_a_mask_that_is_also_a_bias_by_position(scheme):
    bias = np.array([[3.0, -4, 2, -1e9, 0, -1e9]], np.float32)
    net = Net()
    x = net.input(1, 6, name="x")
    masked = net.op("ADD", x, net.const(bias), out="masked")
    planned = plan_of(net.bytes(net.softmax(masked, out="y")), config=config_of(scheme))
    x_lo, x_hi = planned.grid("x").range()
    lo, hi = planned.grid("masked").range()
    assert x_lo - 30 < lo < x_lo - 4 - 5
    assert hi > x_hi + 2.5
    model = planned.emit().model
    feed = InputQuantizer(model)
    sample = {"x": np.array([[0.5, 1, -1, 1, 0, 1]], np.float32)}
    got = dequantized(model, Runner(model.to_bytes()).run(feed(sample)))["y"]
    e = np.exp(sample["x"] + bias)
    np.testing.assert_allclose(got, e / e.sum(), atol=0.04)


# Masks as models write them, of a score [1, 4, 4] and of which places [1, 1, 4] count.
LOWER = np.tril(np.ones((1, 4, 4))) == 1


def negated(net, low):
    return net.op("MUL", net.op("SUB", 1.0, net.input(1, 1, 4, name="m")), low)


def causal(net, low):
    return net.const(np.where(LOWER, 0, low))


def chosen(net, low):
    m = net.input(1, 1, 4, dtype="bool", name="m")
    zero, low = net.const(0.0), net.const(low)
    return net.op("SELECT_V2", m, zero, low, dtype="float32", shape=(1, 1, 4))


FORMS = {
    "causal": lambda n, x, low: n.op("ADD", x, causal(n, low)),
    "input": lambda n, x, low: n.op("ADD", x, n.input(1, 1, 4, name="m")),
    "product": lambda n, x, low: n.op("ADD", x, negated(n, low)),
    "subtracted": lambda n, x, low: n.op("SUB", x, negated(n, -low)),
    "choice": lambda n, x, low: n.op("ADD", x, chosen(n, low)),
    "clipped": lambda n, x, low: n.op("MAXIMUM", n.op("ADD", x, causal(n, low)), low),
    "two": lambda n, x, low: n.op("ADD", x, n.op("ADD", causal(n, low), negated(n, low))),
    "lower": lambda n, x, low: n.op("ADD", x, n.op("MINIMUM", causal(n, low), negated(n, low))),
    "before a bias": lambda n, x, low: n.op(
        "ADD", n.op("ADD", x, causal(n, low)), n.const(n.rng.normal(size=(1, 4, 4)))
    ),
    "integers": lambda n, x, low: n.op(
        "ADD",
        x,
        n.op(
            "MUL",
            n.op("SUB", 1.0, n.op("CAST", n.input(1, 1, 4, dtype="int32", name="m"),
                                  dtype="float32")),
            low,
        ),
    ),
}  # fmt: skip


def scored(net, low, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(6):
        sample = {"x": rng.normal(size=(1, 4, 4)).astype(np.float32)}
        for t in net.inputs[1:]:
            keep = np.arange(4) < rng.integers(1, 5)
            added = any(op.name == "ADD" and t in op.inputs for op in net.ops)
            value = np.where(keep, 0, low) if added else keep
            sample["m"] = np.broadcast_to(value, t.shape).astype(t.dtype)
        yield sample


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
@pytest.mark.parametrize("low", [-1e4, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize("form", FORMS)
def test_a_mask_costs_no_accuracy(form, low, scheme):
    net = Net()
    x = net.op("MUL", net.input(1, 4, 4, name="x"), 2.0)
    y = net.softmax(FORMS[form](net, x, low), out="y")
    far, step = distance(net, y, list(scored(net, low)), scheme=scheme)
    assert far * step < (0.05 if scheme == "int8" else 0.002)


def shut(net, x, low):
    return net.op("ADD", x, net.op("MUL", net.input(1, 1, 4, name="m"), low))


BEHIND = {
    "product": lambda n, t: n.softmax(n.op("MUL", t, 0.5), out="y"),
    "quotient": lambda n, t: n.softmax(n.op("DIV", t, 2.0), out="y"),
    "sigmoid": lambda n, t: n.op("LOGISTIC", t, out="y"),
}


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
@pytest.mark.parametrize("low", [-1e4, -1e9])
@pytest.mark.parametrize("form", BEHIND)
def test_what_stands_behind_a_mask_keeps_its_accuracy(form, low, scheme):
    net = Net()
    x = net.op("MUL", net.input(1, 4, 4, name="x"), 2.0)
    y = BEHIND[form](net, shut(net, x, low))
    samples = [{**s, "m": 1 - s["m"]} for s in scored(net, 0)]
    far, step = distance(net, y, samples, scheme=scheme)
    assert far * step < (0.05 if scheme == "int8" else 0.002)


def test_what_others_read_as_well_is_not_cut():
    net = Net()
    total = shut(net, net.input(1, 4, 4, name="x"), -1e4)
    y = net.op("MUL", total, net.op("LOGISTIC", net.op("MUL", total, 1.7)), out="y")
    planned = plan_of(net.bytes(y, total), [*scored(net, 0)])
    assert planned.grid(total.name).range()[0] < -9000


@pytest.mark.parametrize("low", [-1e7, -1e9, -np.inf])
def test_the_largest_of_masked_values_is_exact(low):
    net = Net()
    x = net.input(1, 4, 4, name="x")
    m = net.input(1, 1, 4, dtype="bool", name="m")
    masked = net.op("SELECT_V2", m, x, net.const(low), dtype="float32", shape=(1, 4, 4))
    y = net.op("REDUCE_MAX", masked, net.const([2], "int32"), shape=(1, 4), out="y")
    far, step = distance(net, y, list(scored(net, low)))
    assert far < 1.01
    assert step < 0.1


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_infinite_bounds_are_the_ends_of_the_grid(scheme):
    net = Net()
    x = net.op("MUL", net.input(1, 4, 4, name="x"), 3.0)
    low = net.const(np.full((1, 4, 4), -np.inf))
    y = net.op("MINIMUM", net.op("MAXIMUM", x, low), np.inf, out="y")
    assert distance(net, y, list(scored(net, 0)), scheme=scheme)[0] < 2.01
