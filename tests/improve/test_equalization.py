"""Equalization and high-bias absorption as improvements."""

import dataclasses

import numpy as np
import pytest
from small_models import ACT, Net, draw, plan_of

import tfq
from tfq.calibrate.run import calibrate
from tfq.equalize import Changes, read_changes, unchanged, with_changes
from tfq.graph.model import Model
from tfq.improve import Context, improve
from tfq.improve.absorb_bias import AbsorbBiases
from tfq.improve.equalization import Equalize
from tfq.rewrite.prepare import prepare

# The ranges of channels that RELU6 stands behind; what reads them makes up for it.
SIZES = np.array([4.0, 0.004, 1.0, 0.01, 2.0, 0.004, 0.5, 1.0])


def through_relu6(reach=1.0):
    net = Net(4)
    x = net.input(1, 6, 6, 4, name="x")
    weights = net.rng.normal(0, 0.1, (8, 1, 1, 4)) * (reach * SIZES).reshape(8, 1, 1, 1)
    a = net.conv(x, 8, size=1, act=ACT.RELU6, weights=weights, bias=0.1 * SIZES, out="a")
    behind = net.rng.normal(0, 1, (6, 1, 1, 8)) / SIZES
    b = net.conv(a, 6, size=1, weights=behind, out="b")
    return net.bytes(net.mean(b, out="y"))


def high_biases():
    net = Net(5)
    x = net.input(1, 6, 6, 4, name="x")
    a = net.conv(x, 4, size=1, act=ACT.RELU, bias=[50, 0, 0, 30], out="a")
    return net.bytes(net.mean(net.conv(a, 4, out="b"), out="y"))


def tried(source, improvement, count=20):
    samples = draw(source, 40)
    planned = plan_of(source, samples)

    def again(prepared, tensors):
        found = calibrate(prepared.bytes, samples, tensors=planned.layout.observed)
        # What is not looked at again has the values that it had.
        for name in set(found) - set(tensors):
            old = planned.statistics[name]
            assert found[name].count == old.count
            assert (found[name].min, found[name].max) == pytest.approx((old.min, old.max), rel=1e-5)
        return dataclasses.replace(found, sketches={n: found[n] for n in tensors})

    context = Context(
        samples[:20], draw(source, count, seed=9), again, 1e10, lambda what, done, total: None
    )
    return improve(planned.candidate(), [improvement], context)


def test_relu6_is_relaxed_where_no_sample_reaches_its_cap():
    source = through_relu6()
    best, (outcome,) = tried(source, Equalize())
    assert outcome.kept == "channels of 1 layer, through 1 RELU6 that no sample reached"
    assert best.plan.relaxed == best.prepared.relaxed == ("a",)
    assert set(best.plan.equalization) == {"a"}
    assert min(c.after_db - c.before_db for c in outcome.changes) > 10
    # Some samples reach it: nothing is proposed.
    capped, outcomes = tried(through_relu6(reach=10.0), Equalize())
    assert outcomes == ()
    assert capped.plan.relaxed == ()


def test_high_biases_are_absorbed_where_there_are_any():
    best, (outcome,) = tried(high_biases(), AbsorbBiases())
    assert outcome.kept == "high biases of 1 layer"
    assert set(best.plan.absorbed) == {"a"}
    assert min(c.after_db - c.before_db for c in outcome.changes) > 3
    _, outcomes = tried(through_relu6(), AbsorbBiases())
    assert outcomes == ()
    same, (outcome,) = tried(high_biases(), AbsorbBiases(), count=0)
    assert "too few samples" in outcome.note
    assert same.plan.absorbed == {}


@pytest.mark.parametrize(
    ("source", "changed"), [(through_relu6(), "relaxed"), (high_biases(), "absorbed")]
)
@pytest.mark.slow
def test_what_was_changed_is_in_the_plan_and_the_file(tmp_path, source, changed):
    path = tmp_path / "net.tflite"
    path.write_bytes(source)
    data = np.concatenate([s["x"] for s in draw(source, 64)])
    made = tfq.convert_model(path, data, cache="none")
    assert getattr(made.plan, changed)
    made.plan.save(tmp_path / "plan.json")
    again = tfq.convert_model(path, data, plan=tmp_path / "plan.json", cache="none")
    assert again.model == made.model
    assert again.plan == made.plan
    found = read_changes(Model.from_bytes(made.model))
    plan = made.plan
    assert found == Changes(plan.relaxed, dict(plan.equalization), dict(plan.absorbed))
    # The proof is against what the source computes.
    assert unchanged(with_changes(prepare(source), plan)) != source
    assert made.summary["proof"]["outputs"][0]["sqnr_db"] > 25
