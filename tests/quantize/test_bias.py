"""Bias correction on emitted models."""

import numpy as np
import pytest
from small_models import ACT, Net, cnn, config_of, draw, plan_of

from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.model import Model, Quant, options_type
from tfq.quantize.bias import _channel_means, affordable, correct_biases
from tfq.runtime import Runner


def setup(source, scheme="int8", count=40):
    samples = draw(source, count)
    planned = plan_of(source, samples, config_of(scheme))
    return planned, planned.emit(), samples[: count * 3 // 4], samples[count * 3 // 4 :]


def correct(planned, emitted, fit, check, **options):
    return correct_biases(
        planned.prepared.model, planned.prepared.bytes, emitted, fit, check, **options
    )


def biases(emitted):
    return {n: b.values().copy() for n, b in emitted.biases.items()}


def mean_error(planned, emitted, samples, name):
    """Mean over samples of (integer - float) at output `name`, per channel."""
    model = emitted.model
    a, b, feed = Runner(planned.prepared.bytes), Runner(model.to_bytes()), InputQuantizer(model)
    off = [dequantized(model, b.run(feed(s)))[name] - a.run(s)[name] for s in samples]
    return np.mean(off, axis=0).reshape(-1, off[0].shape[-1]).mean(axis=0)


def two_layers():
    net = Net(2)
    x = net.input(1, 8, 8, 3, name="x")
    a = net.conv(x, 6, act=ACT.RELU, out="a")
    return net.bytes(net.conv(a, 4, out="y"))


def of_output(result):
    """The change of the whole of the only output."""
    (change,) = [c for c in result.changes if not c.part]
    return change


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_a_planted_shift_is_taken_back(scheme):
    planned, emitted, fit, check = setup(two_layers(), scheme)
    bias = emitted.biases["y"]
    untouched = bias.values().copy()
    out = planned.grid("y")
    # Ten 8-bit steps of the output on channel 1, minus five on channel 3.
    step = out.scale[0] * (1 if scheme == "int8" else 256)
    planted = np.array([0, 10, 0, -5]) * step
    scale = np.array(planned.plan.ops["y"].edges[2].scale)
    bias.data = untouched + np.rint(planted / scale).astype(untouched.dtype)
    off = mean_error(planned, emitted, check, "y")
    np.testing.assert_allclose(off, planted, atol=step)
    result = correct(planned, emitted, fit, check)
    assert result.layers >= 1
    assert result.rounds[0] >= 1
    assert result.rounds[1] == 3
    assert of_output(result).after_db > of_output(result).before_db + 5
    assert emitted.biases["y"].data.dtype == untouched.dtype
    np.testing.assert_allclose(mean_error(planned, emitted, check, "y"), 0, atol=step)


def test_a_shift_in_the_first_layer_is_found_there():
    planned, emitted, fit, check = setup(two_layers())
    bias = emitted.biases["a"]
    before = bias.values().copy()
    scale = np.array(planned.plan.ops["a"].edges[2].scale)
    shift = np.zeros(6)
    shift[2] = 0.5
    bias.data = before + np.rint(shift / scale).astype(np.int32)
    result = correct(planned, emitted, fit, check)
    assert of_output(result).after_db > of_output(result).before_db + 3
    left = (emitted.biases["a"].values() - before) * scale
    assert abs(left[2]) < 0.15
    assert np.abs(np.delete(left, 2)).max() < 0.1


def test_nothing_is_kept_that_does_not_help_on_unseen_samples():
    planned, emitted, fit, check = setup(two_layers())
    before = biases(emitted)
    # Far outside the ranges: what is clipped looks like a shift, on these samples only.
    loud = [{"x": s["x"] * np.float32(40) + 20} for s in fit]
    result = correct(planned, emitted, loud, check)
    assert (result.layers, result.rounds) == (0, (0, 3))
    assert not any(c.gains for c in result.changes)
    for name, values in biases(emitted).items():
        np.testing.assert_array_equal(values, before[name])


def test_what_is_kept_loses_nothing_on_unseen_samples():
    for seed in range(4):
        planned, emitted, fit, check = setup(cnn(seed))
        result = correct(planned, emitted, fit, check)
        if result.layers:
            assert not any(c.loses for c in result.changes)
            assert any(c.gains for c in result.changes)
        before = plan_of(cnn(seed), draw(cnn(seed), 40)).emit().model.to_bytes()
        if result.layers == 0:
            assert emitted.model.to_bytes() == before
        else:
            assert emitted.model.to_bytes() != before


def test_without_samples_or_layers_nothing_is_done():
    planned, emitted, fit, check = setup(two_layers())
    before = biases(emitted)
    for a, b in (([], check), (fit, [])):
        result = correct(planned, emitted, a, b)
        assert (result.layers, result.rounds) == (0, (0, 0))
    for name, values in before.items():
        np.testing.assert_array_equal(emitted.biases[name].values(), values)
    net = Net()
    planned, emitted, fit, check = setup(net.bytes(net.op("TANH", net.input(1, 4))))
    assert correct(planned, emitted, fit, check).layers == 0


def test_it_is_deterministic():
    models = []
    for _ in range(2):
        planned, emitted, fit, check = setup(cnn())
        correct(planned, emitted, fit, check)
        models.append(emitted.model.to_bytes())
    assert models[0] == models[1]


def test_progress_counts_to_its_end():
    planned, emitted, fit, check = setup(two_layers(), count=8)
    seen = []
    correct(planned, emitted, fit, check, progress=lambda done, total: seen.append((done, total)))
    totals = {total for _, total in seen}
    assert len(totals) == 1
    assert [done for done, _ in seen] == list(range(1, totals.pop() + 1))


def test_layers_that_share_a_bias_are_corrected_apart():
    net = Net(4)
    x = net.input(1, 6, name="x")
    bias = net.const(np.linspace(-0.2, 0.2, 6))
    weights = net.const(net.rng.normal(0, 0.4, (6, 6)))
    a = net.dense(x, 6, weights=weights, bias=bias, act=ACT.RELU, out="a")
    y = net.dense(a, 6, weights=weights, bias=bias, out="y")
    planned, emitted, fit, check = setup(net.bytes(y))
    assert emitted.biases["a"] is not emitted.biases["y"]
    b = emitted.biases["y"]
    scale = np.array(planned.plan.ops["y"].edges[2].scale)
    b.data = b.values() + np.rint(0.5 / scale).astype(np.int32)
    before = emitted.biases["a"].values().copy()
    correct(planned, emitted, fit, check)
    moved = (emitted.biases["a"].values() - before) * planned.plan.ops["a"].edges[2].scale
    assert np.abs(moved).max() < 0.2
    assert np.abs(mean_error(planned, emitted, check, "y")).max() < 2 * planned.grid("y").scale[0]


# --- what it is made of ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3), (1, 7, 5, 3), (2, 40, 40, 16), (1, 100, 2000)])
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32])
def test_channel_means_are_exact(shape, dtype):
    rng = np.random.default_rng(0)
    values = (rng.normal(0, 30, shape)).astype(dtype)
    got = _channel_means(values, shape[-1])
    want = values.astype(np.float64).reshape(-1, shape[-1]).mean(axis=0)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_inputs_are_put_on_their_grids_and_integers_left_alone():
    net = Net()
    x, i = net.input(1, 4, name="x"), net.input(1, name="i", dtype="int32")
    y = net.op("GATHER", net.reshape(x, 4), i, shape=(1,), dtype="float32", out="y")
    model = net.model(y)
    net.ops[-1].options = options_type("GatherOptions")()
    emitted = Model.from_bytes(model.to_bytes())
    emitted.main.inputs[0].dtype = "int8"
    emitted.main.inputs[0].quant = Quant.per_tensor(0.5, 3)
    fed = InputQuantizer(emitted)(
        {"x": np.array([[0.0, 1, -1, 100]], np.float32), "i": np.array([2], np.int32)}
    )
    np.testing.assert_array_equal(fed["x"], np.array([[3, 5, 1, 127]], np.int8))
    assert fed["x"].dtype == np.int8
    np.testing.assert_array_equal(fed["i"], [2])
    already = np.zeros((1, 4), np.int8)
    assert InputQuantizer(emitted)({"x": already})["x"] is already


def test_large_models_use_fewer_samples():
    source = cnn()
    graph = Model.from_bytes(source).main
    samples = draw(source, 8)
    fit, check = affordable(graph, samples * 9, samples * 3)
    assert (len(fit), len(check)) == (72, 24)
    net = Net()
    x = net.input(1, 1024, name="x")
    big = x
    weights = net.const(np.zeros((1024, 1024)))
    for _ in range(400):
        big = net.dense(big, 1024, weights=weights)
    fit, check = affordable(net.graph(big), samples * 9, samples * 3)
    assert 1 <= len(check) < len(fit) < 72
    assert len(fit) + len(check) >= 15
