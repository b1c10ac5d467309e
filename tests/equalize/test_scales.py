"""The scales that are chosen, against brute force and the integer model itself."""

import itertools

import numpy as np
import pytest
from small_models import ACT, Net, draw

from tfq.equalize import choose_scales, find_groups, imbalances, rescale_prepared
from tfq.equalize.channels import Use
from tfq.equalize.noise import Factors, Layer, Reader
from tfq.equalize.scales import _Problem
from tfq.graph.model import Model
from tfq.observe.channels import ChannelStatistics
from tfq.plan.layout import make_layout
from tfq.plan.scheme import Config
from tfq.rewrite.prepare import prepare
from tfq.runtime import Runner


def network(spread=0, seed=0):
    """Two layers whose channels between them differ by up to 2^(2 spread)."""
    net = Net(seed)
    scale = 2.0 ** net.rng.integers(-spread, spread + 1, 6)
    x = net.input(1, 8, 8, 2, name="x")
    first = net.rng.normal(0, 0.3, (6, 3, 3, 2)) * scale[:, None, None, None]
    second = net.rng.normal(0, 0.3, (5, 1, 1, 6)) / scale
    a = net.conv(x, 6, weights=first, bias=np.zeros(6), act=ACT.RELU, out="a")
    y = net.conv(a, 5, size=1, weights=second, out="y")
    return prepare(net.bytes(y)), scale


def choose(prepared, *, dtypes=None, per_tensor=False, groups=None):
    layout = make_layout(prepared.model.main, Config(), {}, {})
    return choose_scales(
        prepared.model.main,
        prepared.bytes,
        find_groups(prepared.model.main) if groups is None else groups,
        draw(prepared.model, 16),
        dtypes=layout.dtypes if dtypes is None else dtypes,
        per_tensor=lambda op: per_tensor,
        weight_bits=lambda op: 8,
    )


@pytest.mark.parametrize("per_tensor", [False, True])
def test_an_imbalance_is_undone(per_tensor):
    plain, _ = network(0)
    prepared, scale = network(5)
    choice = choose(prepared, per_tensor=per_tensor)["a"]
    undone = np.log2(np.array(choice.scales) * scale)
    assert np.ptp(np.log2(scale)) >= 6
    assert np.ptp(undone) <= 4  # What is left are the differences of ordinary channels.
    assert choice.gain > 20
    ordinary = choose(plain, per_tensor=per_tensor).get("a")
    assert ordinary is None or ordinary.gain < 4


def test_scales_are_powers_of_two_and_keep_the_range():
    prepared, _ = network(5)
    t = np.array(choose(prepared)["a"].scales)
    np.testing.assert_array_equal(np.log2(t), np.rint(np.log2(t)))
    other = rescale_prepared(prepared, {"a": tuple(t)})
    assert 0.35 < largest(other) / largest(prepared) < 2.9


def largest(prepared):
    runner = Runner(prepared.bytes, keep_intermediates=True)
    index = next(i for i, t in enumerate(prepared.model.main.tensors()) if t.name == "a")
    top = 0.0
    for sample in draw(prepared.model, 16):
        runner.run(sample)
        top = max(top, float(runner.tensor(index).max()))
    return top


def test_silent_channels_keep_their_scale():
    net = Net()
    first = net.rng.normal(0, 0.3, (4, 3, 3, 2))
    first[:2] *= 64
    x = net.input(1, 8, 8, 2)
    a = net.conv(x, 4, weights=first, bias=[0, 0, 0, -1000.0], act=ACT.RELU, out="a")
    prepared = prepare(net.bytes(net.conv(a, 3, size=1)))
    t = choose(prepared)["a"].scales
    assert t[3] == 1.0
    assert t[2] >= 4


def test_a_channel_that_is_seldom_active_is_not_trusted():
    net = Net()
    x = net.input(1, 8, 8, 2)
    first = net.rng.normal(0, 0.3, (4, 3, 3, 2))
    first[:2] *= 64
    # The last channel is above zero in one of some hundred places.
    bias = [0, 0, 0, -2.5 * np.sqrt(np.sum(first[3] ** 2))]
    a = net.conv(x, 4, weights=first, bias=bias, act=ACT.RELU, out="a")
    prepared = prepare(net.bytes(net.conv(a, 3, size=1)))
    t = choose(prepared)["a"].scales
    assert t[3] < t[2]


def test_nothing_is_chosen_for_float_or_without_samples():
    prepared, _ = network(5)
    assert choose(prepared, dtypes={}) == {}
    assert choose(prepared, groups=[]) == {}


def test_sixteen_bits_do_not_mind():
    prepared, _ = network(3)
    wide = {t: "int16" for t in prepared.model.main.tensors() if not t.is_const}
    narrow = choose(prepared)["a"].gain
    found = choose(prepared, dtypes=wide).get("a")
    assert found is None or found.gain < narrow


def test_only_what_is_worth_it():
    def found(spread, *, every=False):
        prepared, _ = network(spread)
        layout = make_layout(prepared.model.main, Config(), {}, {})
        return imbalances(
            prepared,
            draw(prepared.model, 16),
            dtypes=layout.dtypes,
            per_tensor=lambda op: False,
            weight_bits=lambda op: 8,
            every=every,
        )

    assert list(found(5)) == ["a"]
    assert found(0) == {}


def reader(op_name="CONV_2D", bits=8):
    """A reader with made-up weights and values; the op, the values [n, 3] and the reader."""
    rng = np.random.default_rng(0)
    net = Net()
    x = net.input(1, 4, 4, 3)
    _ = net.conv(x, 64) if op_name == "CONV_2D" else net.depthwise(x)
    values = rng.normal(0, 1, (4000, 3)) * [1, 4, 0.25]
    low, high = values.min(axis=0), values.max(axis=0)
    means = values.mean(axis=0), np.mean(values**2, axis=0), np.ones(3)
    seen = ChannelStatistics(low, high, *means)
    layer = Layer(Use(net.ops[0], np.arange(3)), per_tensor=False, bits=bits)
    return net.ops[0], values, Reader(layer, np.arange(3), seen, 255.0)


@pytest.mark.parametrize(
    ("op_name", "bits"), [("CONV_2D", 8), ("CONV_2D", 4), ("DEPTHWISE_CONV_2D", 8)]
)
def test_predicted_noise_is_that_of_rounding(op_name, bits):
    op, values, r = reader(op_name, bits)
    t = np.array([2.0, 0.5, 4.0])
    w = op.inputs[1].values().astype(np.float64)
    if op_name == "CONV_2D":
        w = w.reshape(-1, 9, 3)
    else:
        w = np.stack([np.where(np.arange(3) == o, w.reshape(9, 3), 0) for o in range(3)])
    # The nine taps see independent values.
    rng = np.random.default_rng(1)
    x = np.stack([rng.permutation(values) for _ in range(9)], 1) * t
    step = np.ptp(x) / 255
    x_q = np.round(x / step) * step
    relative = []
    for row in w / t:
        delta = np.abs(row).max() / (2 ** (bits - 1) - 1)
        error = np.sum(x_q * np.round(row / delta) * delta - x * row, axis=(1, 2))
        relative.append(np.mean(error**2) / np.sum(row**2 * np.mean(x**2, axis=0)))
    rough = 0.15 if op_name == "CONV_2D" else 0.5  # Nine weights are few to average over.
    assert np.exp(r.noise(t)) == pytest.approx(np.exp(np.mean(np.log(relative))), rel=rough)


def test_the_candidates_come_close_to_the_best_of_all():
    _, _, r = reader()
    net = Net()
    a = net.conv(net.input(1, 8, 8, 2), 3, out="a")
    model = Model.from_bytes(net.bytes(net.conv(a)))
    (group,) = find_groups(model.main)
    problem = _Problem(group, [r], [], Factors(np.ones(3)))
    problem.improve()
    grid = [2.0**n for n in range(-5, 6)]
    best = min(r.noise(np.array([1.0, b, c])) for b, c in itertools.product(grid, repeat=2))
    assert problem.noise(problem.factors.t) <= best + np.log(1.3)
    assert problem.gain() > 2
