"""High biases move into the layer behind."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from small_models import ACT, Net, draw

from tfq.equalize import absorb, absorb_prepared, find_amounts
from tfq.equalize.absorb import amounts, find_absorptions, pads
from tfq.errors import UsageError
from tfq.observe.channels import ChannelStatistics
from tfq.rewrite.prepare import prepare
from tfq.runtime import Runner


def test_by_hand():
    """y = W2 relu(W1 x + b1) + b2."""
    net = Net()
    x = net.input(1, 2, name="x")
    h = net.dense(x, 2, act=ACT.RELU, weights=[[1.0, 0.0], [0.0, 2.0]], bias=[10.0, 0.5], out="h")
    y = net.dense(h, 2, weights=[[1.0, 3.0], [-2.0, 1.0]], bias=[0.25, 0.0], out="y")
    model = net.model(y)
    first, second = absorb(model, {"h": (8.0, 0.0)}).main.ops
    np.testing.assert_array_equal(first.inputs[2].values(), [2.0, 0.5])
    np.testing.assert_array_equal(second.inputs[2].values(), [8.25, -16.0])
    np.testing.assert_array_equal(model.main.ops[0].inputs[2].values(), [10.0, 0.5])
    for name, values in (("h", (1.0,)), ("y", (1.0, 2.0)), ("none", (1.0, 2.0))):
        with pytest.raises(UsageError, match=f"biases of '{name}', which this model does not let"):
            absorb(model, {name: values})


def network(reader, shared=False):
    net = Net(2)
    x = net.input(1, 4, 4, 3, name="x")
    bias = net.const([30.0, 20.0, 0.0, 0.0])
    h = net.conv(x, 4, size=1, act=ACT.RELU, bias=bias, out="h")
    own = bias if shared else None
    if reader == "flat":
        weights, zeros = net.const(net.rng.normal(0, 1, (3, 64))), net.const(np.zeros(3))
        y = net.op("FULLY_CONNECTED", h, weights, zeros, shape=(1, 3), out="y")
    elif reader == "depthwise":
        y = net.depthwise(h, out="y")
    else:
        y = net.conv(h, 4, bias=own, size=1 if reader == "point" else 3, out="y")
    return net, y


@pytest.mark.parametrize("reader", ["conv", "point", "depthwise", "flat", "shared"])
def test_the_function_stays_on_the_samples(reader):
    net, y = network(reader, shared=reader == "shared")
    prepared = prepare(net.bytes(y))
    samples = draw(prepared.model, 10)
    moved = find_amounts(prepared, samples)
    assert set(moved) == {"h"}
    assert moved["h"][0] > 10
    assert moved["h"][2:] == (0.0, 0.0)
    other = absorb_prepared(prepared, moved)
    assert other.absorbed == moved
    was, now = (Runner(p.bytes, keep_intermediates=True) for p in (prepared, other))
    place = [t.name for t in other.model.main.tensors()].index("h")
    assert [t.name for t in prepared.model.main.tensors()].index("h") == place
    for sample in samples:
        np.testing.assert_allclose(now.run(sample)["y"], was.run(sample)["y"], rtol=1e-4, atol=1e-4)
        shift = was.tensor(place) - now.tensor(place)
        np.testing.assert_allclose(shift, np.broadcast_to(moved["h"], shift.shape), atol=1e-5)
    assert absorb_prepared(prepared, {}) is prepared


def test_padding_bounded_activations_and_other_readers_are_left_alone():
    for change in ("padding", "cap", "shown", "other reader", "not high"):
        net, y = network("conv")
        first, second = net.ops
        outputs = [y]
        if change == "padding":
            second.options.padding = schema.Padding.SAME
            y.shape = (1, 4, 4, 4)
        elif change == "cap":
            first.options.fusedActivationFunction = ACT.RELU6
        elif change == "shown":
            outputs.append(first.outputs[0])
        elif change == "other reader":
            outputs.append(net.op("ADD", first.outputs[0], first.outputs[0], out="z"))
        else:
            first.inputs[2] = net.const([1.0, 2.0, 0.0, 0.0])
        prepared = prepare(net.bytes(*outputs))
        assert find_amounts(prepared, draw(prepared.model, 4)) == {}, change
        assert bool(find_absorptions(prepared.model.main)) == (change == "not high"), change


@pytest.mark.parametrize(
    ("padding", "size", "stride", "length", "outputs", "reads_zeros"),
    [
        (schema.Padding.VALID, 3, 1, 8, 6, False),
        (schema.Padding.SAME, 1, 1, 8, 8, False),
        (schema.Padding.SAME, 3, 1, 8, 8, True),
        (schema.Padding.SAME, 2, 2, 8, 4, False),
        (schema.Padding.SAME, 3, 2, 8, 4, True),
        (schema.Padding.SAME, 1, 2, 7, 4, False),
    ],
)
def test_where_zeros_are_read(padding, size, stride, length, outputs, reads_zeros):
    net = Net()
    net.conv(net.input(1, length, length, 2), 4, size=size)
    (op,) = net.ops
    op.outputs[0].shape = (1, outputs, outputs, 4)
    op.options.padding = padding
    op.options.strideH = op.options.strideW = stride
    assert pads(op) == reads_zeros


def seen(low, high):
    nothing = np.zeros(len(low))
    return ChannelStatistics(np.array(low), np.array(high), nothing, nothing, nothing)


def test_no_more_moves_than_the_range_gains():
    # The second channel fills 4 whatever moves; the first comes down to that, no further.
    np.testing.assert_array_equal(amounts(seen([9.0, 0.0, 1.0], [10.0, 4.0, 3.0])), [6.0, 0, 0])
    np.testing.assert_array_equal(amounts(seen([2.0, 0.0], [10.0, 4.0])), [2.0, 0])
    for low, high in (([0.5, 0.0], [10.0, 4.0]), ([9.0, 0.0], [10.0, 9.5]), ([0.0], [0.0])):
        assert not amounts(seen(low, high)).any()
    # What is never positive is not high.
    assert not amounts(seen([-9.0, -1.0], [-3.0, -0.5])).any()
