"""Errors by output, part and sample."""

import numpy as np
import pytest
from small_models import Net, config_of, draw, plan_of

from tests.improve.contexts import several
from tfq.calibrate.rules import get_rule
from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.improve.errors import OutputJudge
from tfq.runtime import Runner


def decibels(planned, emitted, samples):
    """Of every output, and of both halves of the last."""
    model = emitted.model
    a, b, feed = Runner(planned.prepared.bytes), Runner(model.to_bytes()), InputQuantizer(model)
    sums = {}
    for s in samples:
        expected, got = a.run(s), dequantized(model, b.run(feed(s)))
        for name, e in expected.items():
            parts = {name: slice(None)}
            if name == "joint":
                parts |= {"boxes": slice(0, 4), "scores": slice(4, 8)}
            for part, at in parts.items():
                power, error = sums.get(part, (0.0, 0.0))
                off = e[..., at].astype(float) - got[name][..., at]
                sums[part] = (power + (e[..., at] ** 2).sum(), error + (off**2).sum())
    return {n: 10 * np.log10(p / max(e, 1e-30)) for n, (p, e) in sums.items()}


@pytest.mark.parametrize("io", ["int8", "float32"])
def test_errors_are_those_of_a_calculation_by_hand(io):
    planned = plan_of(several(0), config=config_of(output_type=io))
    candidate = planned.candidate()
    emitted = candidate.emitted
    samples = draw(planned.prepared.bytes, 12, seed=4)
    found = OutputJudge(candidate, samples).errors(candidate)
    assert ("score", "before LOGISTIC") in found
    wanted = decibels(planned, emitted, samples)
    for name in ("score", "y0", "y1", "y2", "joint"):
        e = found[name, ""]
        assert e.errors.shape == (12,)
        assert 10 * np.log10(e.powers.sum() / e.errors.sum()) == pytest.approx(wanted[name], 1e-4)
        if name != "score":
            size = 8 if name == "joint" else 5
            step = planned.grid(name).scale[0]
            assert e.floor == pytest.approx(size * step**2 / 12, 1e-6)
    parts = [p for o, p in found if o == "joint" and p]
    assert parts == ["[..., 0:4]", "[..., 4:8]"]


def test_of_a_rescaled_model_the_same_outputs_are_compared():
    planned = plan_of(several(1))
    first = planned.candidate()
    other = first.reconfigured(config_of(output_type="float32", calibration=get_rule("mse")))
    judge = OutputJudge(first, draw(planned.prepared.bytes, 4, seed=4))
    assert judge.errors(first).keys() == judge.errors(other).keys()


def test_an_output_that_hardly_leaves_zero_is_judged_before_its_sigmoid():
    net = Net(0)
    x = net.input(1, 16, name="x")
    low = net.dense(x, 1, weights=net.rng.normal(0, 0.2, (1, 16)), bias=np.full(1, -5.0))
    high = net.dense(x, 1, weights=net.rng.normal(0, 0.5, (1, 16)), bias=np.zeros(1))
    source = net.bytes(net.op("LOGISTIC", low, out="idle"), net.op("LOGISTIC", high, out="busy"))
    candidate = plan_of(source).candidate()
    found = OutputJudge(candidate, draw(source, 12, seed=4)).errors(candidate)
    assert set(found) == {
        ("idle", "before LOGISTIC"),
        ("busy", ""),
        ("busy", "before LOGISTIC"),
    }
