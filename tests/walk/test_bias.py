"""Bias correction: what it solves, and what it leaves."""

import dataclasses

import numpy as np
import pytest
from small_models import ACT, Net, cnn, config_of, draw, plan_of

from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.model import options_type
from tfq.quantize.emit import emit
from tfq.runtime import Runner
from tfq.walk import correct_biases, obstacle_to_walk, solve_biases
from tfq.walk.bias import bisect, sureness


def setup(source, count=24, scheme="int8", **options):
    samples = draw(source, count)
    planned = plan_of(source, samples, config_of(scheme, **options))
    return planned, planned.emit(spare_biases=True), samples


def with_biases(planned, emitted, biases):
    """The model with some biases in place of those it has."""
    held = {n: b.values() for n, b in emitted.biases.items()}
    plan = dataclasses.replace(planned.plan, biases=held | dict(biases))
    return emit(planned.prepared.model, plan)


def planted(planned, emitted, name, steps):
    """The model with a bias moved by so many steps of the output, channel by channel."""
    bias, out = emitted.biases[name], planned.grid(name)
    shift = np.rint(np.array(steps) * out.scale[0] / bias.quant.scale)
    moved = bias.values() + shift.astype(bias.values().dtype)
    return with_biases(planned, emitted, {name: moved})


def mean_error(planned, emitted, samples, name):
    """Mean over samples and positions of (integer - float) at output `name`, in its steps."""
    model = emitted.model
    a, b, feed = Runner(planned.prepared.bytes), Runner(model.to_bytes()), InputQuantizer(model)
    off = [dequantized(model, b.run(feed(s)))[name] - a.run(s)[name] for s in samples]
    return (
        np.mean(off, axis=0).reshape(-1, off[0].shape[-1]).mean(axis=0)
        / (planned.grid(name).scale[0])
    )


def two_layers(act=ACT.RELU):
    net = Net(2)
    a = net.conv(net.input(1, 8, 8, 3, name="x"), 6, act=ACT.RELU, out="a")
    return net.bytes(net.conv(a, 4, act=act, out="y"))


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
@pytest.mark.parametrize("act", [ACT.NONE, ACT.RELU6])
def test_planted_shifts_are_taken_back(scheme, act):
    planned, emitted, samples = setup(two_layers(act), scheme=scheme)
    unit = 1 if scheme == "int8" else 256
    bad = planted(planned, emitted, "a", np.array([0, 12, 0, -7, 0, 0]) * unit)
    bad = planted(planned, bad, "y", np.array([0, 10, 0, -30]) * unit)
    assert np.abs(mean_error(planned, bad, samples, "y")).max() > 4 * unit
    found = correct_biases(planned.prepared.model, bad, samples)
    assert list(found.biases) == ["a", "y"]
    assert found.declined == {}
    assert found.biases["y"].dtype == emitted.biases["y"].values().dtype
    fixed = with_biases(planned, bad, found.biases)
    np.testing.assert_allclose(mean_error(planned, fixed, samples, "y"), 0, atol=0.2 * unit)


def test_given_models_stay_as_they_are_and_prefixes_apply():
    planned, emitted, samples = setup(cnn())
    bad = planted(planned, emitted, "conv", [9] * 6)
    float_bytes, bytes_ = planned.prepared.model.to_bytes(), bad.model.to_bytes()
    found = correct_biases(planned.prepared.model, bad, samples)
    assert bad.model.to_bytes() == bytes_
    assert planned.prepared.model.to_bytes() == float_bytes
    order = [op.outputs[0].name for op in planned.graph.ops]
    assert sorted(found.biases, key=order.index) == list(found.biases)
    first = with_biases(planned, bad, {"conv": found.biases["conv"]})
    assert first.model.main.ops[0].inputs[2] is first.biases["conv"]
    np.testing.assert_array_equal(first.biases["conv"].values(), found.biases["conv"])
    np.testing.assert_array_equal(first.biases["point"].values(), bad.biases["point"].values())
    # Each layer is solved behind those before it: of the first alone it is the same.
    alone = correct_biases(planned.prepared.model, bad, samples, layers=["conv"])
    assert list(alone.biases) == ["conv"]
    np.testing.assert_array_equal(alone.biases["conv"], found.biases["conv"])


def test_what_was_solved_stays_when_one_stops():
    planned, emitted, samples = setup(cnn())
    bad = planted(planned, emitted, "conv", [9] * 6)
    whole = correct_biases(planned.prepared.model, bad, samples)
    solving = solve_biases(planned.prepared.model, bad, samples)
    name, bias, reason = next(solving)
    solving.close()
    assert (name, reason) == ("conv", "")
    np.testing.assert_array_equal(bias, whole.biases["conv"])


def test_layers_without_a_bias_get_one_and_shared_weights_one_each():
    net = Net(5)
    x = net.input(1, 24, name="x")
    w = net.const(net.rng.normal(0, 0.2, (24, 24)))
    options = {"shape": (1, 24), "fusedActivationFunction": ACT.RELU}

    def dense(x, out):
        given = options_type("FullyConnectedOptions")()
        return net.op("FULLY_CONNECTED", x, w, None, out=out, options=given, **options)

    source = net.bytes(dense(dense(x, "a"), "b"))
    planned, emitted, samples = setup(source)
    assert set(emitted.biases) == {"a", "b"}
    bad = planted(planned, emitted, "a", [6] * 24)
    found = correct_biases(planned.prepared.model, bad, samples)
    a = found.biases["a"] * emitted.biases["a"].quant.scale / planned.grid("a").scale[0]
    assert np.median(np.abs(a)) < 0.5
    fixed = with_biases(planned, bad, found.biases)
    assert np.abs(mean_error(planned, fixed, samples, "b")).max() < 0.5


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_a_transposed_convolution_behind_a_depthwise_one(granularity):
    net = Net(4)
    a = net.depthwise(net.input(1, 6, 6, 3, name="x"), act=ACT.RELU6, out="a")
    y = net.upsample(a, out="y")
    planned, emitted, samples = setup(net.bytes(y), granularity=granularity)
    bad = planted(planned, emitted, "a", [8, 0, -8])
    bad = planted(planned, bad, "y", [9, -20])
    found = correct_biases(planned.prepared.model, bad, samples)
    assert set(found.biases) == {"a", "y"}
    fixed = with_biases(planned, bad, found.biases)
    np.testing.assert_allclose(mean_error(planned, fixed, samples, "y"), 0, atol=0.2)


def test_one_sample_or_an_obstacle_corrects_nothing():
    planned, emitted, samples = setup(cnn())
    bad = planted(planned, emitted, "conv", [9] * 6)
    found = correct_biases(planned.prepared.model, bad, samples[:1])
    assert found.biases == {}
    assert "2 samples" in found.declined[""]
    handle = dataclasses.replace(bad.model.main.ops[0].outputs[0], dtype="resource")
    ops = [*bad.model.main.ops, dataclasses.replace(bad.model.main.ops[0], outputs=[handle])]
    main = dataclasses.replace(bad.model.main, ops=ops)
    stuck = dataclasses.replace(bad, model=dataclasses.replace(bad.model, graphs=[main]))
    found = correct_biases(planned.prepared.model, stuck, samples)
    assert found.biases == {}
    assert found.declined[""] == obstacle_to_walk(stuck.model) != ""


def test_noise_is_not_corrected_and_what_is_off_is():
    """Two samples that are off by the same, on one channel; in turn, on another."""
    shifts = np.array([[2.0, 3.0, 0.0, 1.0], [2.0, -3.0, 0.0, 1.5]])
    factor = sureness(shifts)
    assert factor[0] == 1
    assert factor[1] == 0
    assert factor[2] == 0
    assert factor[3] == pytest.approx(1 - 0.25**2 / 1.25**2)


def test_channels_that_are_always_clipped_get_the_analytic_shift():
    net = Net(2)
    x = net.input(1, 6, 6, 3, name="x")
    bias = np.array([0.1, -50.0, 0.1, 0.1])
    source = net.bytes(net.conv(x, 4, act=ACT.RELU, bias=bias, out="y"))
    planned, emitted, samples = setup(source)
    bad = planted(planned, emitted, "y", [0, -4, 5, 0])
    found = correct_biases(planned.prepared.model, bad, samples)
    assert not mean_error(planned, emitted, samples, "y")[1]
    steps = (found.biases["y"] - emitted.biases["y"].values()) * emitted.biases["y"].quant.scale
    np.testing.assert_allclose(steps / planned.grid("y").scale[0], 0, atol=0.25)


@pytest.mark.parametrize("reach", [(-128, 127), (0, 255), (0, 61)])
def test_bisection_against_brute_force(reach):
    rng = np.random.default_rng(0)
    z = rng.normal(0, 60, (5, 400)).astype(np.float32)
    start = rng.uniform(-20, 20, 5)
    true = start + rng.uniform(-100, 100, 5)
    goal = np.clip(z + true[:, None], *reach).mean(axis=1)
    found = bisect(z, start, goal, reach, 15)
    half = (reach[1] - reach[0] + 1) / 2
    candidates = start[:, None] + np.linspace(-half, half, 4001)
    for c in range(5):
        means = np.clip(z[c][None] + candidates[c][:, None], *reach).mean(axis=1)
        best = np.abs(means - goal[c]).min()
        got = np.abs(np.clip(z[c] + found[c], *reach).mean() - goal[c])
        assert got <= best + 0.02


def test_biases_stay_far_from_the_ends_of_their_type():
    planned, emitted, samples = setup(two_layers())
    large = emitted.biases["y"].values().copy()
    large[1] = 2**30 + 5
    bad = with_biases(planned, emitted, {"y": large})
    found = correct_biases(planned.prepared.model, bad, samples)
    assert found.biases.get("y", large)[1] == large[1]


def test_correction_helps_samples_it_did_not_see():
    planned, emitted, _ = setup(cnn(), weight_bits=4)
    samples = draw(planned.prepared.bytes, 80, seed=9)
    seen, unseen = samples[:40], samples[40:]
    found = correct_biases(planned.prepared.model, emitted, seen)
    fixed = with_biases(planned, emitted, found.biases)
    exact = Runner(planned.prepared.bytes)

    def error(model):
        run, feed = Runner(model.to_bytes()), InputQuantizer(model)
        return sum(
            ((dequantized(model, run.run(feed(s)))[n] - v) ** 2).sum()
            for s in unseen
            for n, v in exact.run(s).items()
        )

    assert error(fixed.model) < error(emitted.model)
