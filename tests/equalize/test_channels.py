"""Which tensors are scaled together, and which are left alone."""

import numpy as np
import pytest
from small_models import ACT, Net, cnn

from tfq.equalize import find_groups, shown_tensors
from tfq.graph.model import Model, options_type
from tfq.rewrite.prepare import prepare


def groups_of(net, *outputs):
    """(name, writers, readers) of each group."""
    return named(Model.from_bytes(net.bytes(*outputs)))


def named(model):
    return [
        (g.name, [u.op.key for u in g.writers], [u.op.key for u in g.readers])
        for g in find_groups(model.main, shown_tensors(model))
    ]


def test_a_chain(net):
    x = net.input(1, 8, 8, 3)
    a = net.conv(x, 4, act=ACT.RELU, out="a")
    b = net.depthwise(a, act=ACT.RELU, out="b")
    y = net.conv(b, 2, size=1, out="y")
    assert groups_of(net, y) == [("a", ["a"], ["b"]), ("b", ["b"], ["y"])]


def test_a_sum_joins_what_it_is_of(net):
    x = net.input(1, 8, 8, 3)
    a = net.conv(x, 4, size=1, act=ACT.RELU, out="a")
    b = net.conv(a, 4, size=1, out="b")
    s = net.op("ADD", b, a, out="s")
    y = net.conv(s, 2, out="y")
    assert groups_of(net, y) == [("a", ["a", "b"], ["b", "y"])]


def test_a_sum_with_something_else_is_left_alone(net):
    x = net.input(1, 8, 8, 4)
    a = net.conv(x, 4, size=1, out="a")
    y = net.conv(net.op("ADD", a, x), 2, out="y")
    assert groups_of(net, y) == []


@pytest.mark.parametrize("act", [ACT.RELU6, ACT.RELU_N1_TO_1, ACT.TANH])
def test_bounded_activations_are_left_alone(net, act):
    a = net.conv(net.input(1, 8, 8, 3), act=act)
    assert groups_of(net, net.conv(a)) == []


def test_outputs_are_left_alone(net):
    a = net.conv(net.input(1, 8, 8, 3), out="a")
    y = net.conv(a, out="y")
    assert groups_of(net, y) == [("a", ["a"], ["y"])]
    assert groups_of(net, y, a) == []


def pool(net, x):
    n, h, w, c = x.shape
    options = options_type("Pool2DOptions")()
    return net.op("AVERAGE_POOL_2D", x, shape=(n, h // 2, w // 2, c), options=options,
                  padding=1, strideH=2, strideW=2, filterHeight=2, filterWidth=2)  # fmt: skip


def flatten(net, x):
    return net.reshape(x, 1, x.size)


def pad(net, x):
    n, h, w, c = x.shape
    pads = net.const([[0, 0], [1, 1], [2, 2], [0, 0]], "int32")
    return net.op("PAD", x, pads, shape=(n, h + 2, w + 4, c))


def leaky(net, x):
    options = options_type("LeakyReluOptions")()
    return net.op("LEAKY_RELU", x, options=options, alpha=0.2)


def prelu(net, x):
    return net.op("PRELU", x, net.const(net.rng.uniform(0, 1, (1, 1, x.shape[-1]))))


THROUGH = {
    "pool": pool,
    "flatten": flatten,
    "pad": pad,
    "leaky": leaky,
    "prelu": prelu,
    "relu": lambda net, x: net.op("RELU", x),
    "mean": lambda net, x: net.mean(x),
}


@pytest.mark.parametrize("name", THROUGH)
def test_what_scales_go_through(net, name):
    a = net.conv(net.input(1, 8, 8, 3), out="a")
    b = THROUGH[name](net, a)
    y = net.conv(b, out="y") if len(b.shape) == 4 else net.dense(b, 3, out="y")
    assert groups_of(net, y) == [("a", ["a"], ["y"])]


def split_channels(net, x):
    return net.reshape(x, 1, 6, 12, 2)


def pad_channels(net, x):
    n, h, w, c = x.shape
    pads = net.const([[0, 0], [0, 0], [0, 0], [1, 0]], "int32")
    return net.op("PAD", x, pads, shape=(n, h, w, c + 1))


def mean_of_channels(net, x):
    return net.op("MEAN", x, net.const([3], "int32"), shape=x.shape[:3])


NOT_THROUGH = {
    "split": split_channels,
    "pad": pad_channels,
    "mean": lambda net, x: net.reshape(mean_of_channels(net, x), 1, 6, 6, 1),
    "logistic": lambda net, x: net.op("LOGISTIC", x),
    "constant": lambda net, x: net.op("ADD", x, net.const(np.ones(4))),
    "two": lambda net, x: net.op("MUL", x, x),
}


@pytest.mark.parametrize("name", NOT_THROUGH)
def test_what_scales_do_not_go_through(net, name):
    a = net.conv(net.input(1, 8, 8, 3), out="a")
    assert groups_of(net, net.conv(NOT_THROUGH[name](net, a))) == []


def test_another_reader_is_enough(net):
    a = net.conv(net.input(1, 8, 8, 3), out="a")
    other = net.op("LOGISTIC", a)
    assert groups_of(net, net.conv(a), other) == []


def test_weights_of_two_layers_are_left_alone(net):
    w = net.const(net.rng.normal(0, 1, (4, 1, 1, 4)))
    a = net.conv(net.input(1, 8, 8, 4), size=1, weights=w, out="a")
    b = net.conv(a, size=1, weights=w, out="b")
    y = net.conv(b, out="y")
    assert groups_of(net, y) == []


def test_groups_of_a_convolution_are_left_alone(net):
    a = net.conv(net.input(1, 8, 8, 3), 4, out="a")
    y = net.conv(a, 4, weights=net.rng.normal(0, 1, (4, 3, 3, 2)))
    assert groups_of(net, y) == []


def test_flattened_channels_vary_fastest():
    net = Net()
    a = net.conv(net.input(1, 4, 4, 3), 3, out="a")
    y = net.dense(flatten(net, a), 2)
    model = Model.from_bytes(net.bytes(y))
    (group,) = find_groups(model.main)
    np.testing.assert_array_equal(group.readers[0].channels, np.tile([0, 1, 2], 4))


def test_a_small_network():
    found = named(prepare(cnn()).model)
    # `conv` is added to `point`, which RELU6 bounds.
    assert found == [("depthwise", ["depthwise"], ["logits"])]


@pytest.fixture
def net():
    return Net()
