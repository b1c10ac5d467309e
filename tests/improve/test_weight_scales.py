"""Scales of weights, proposed by the error they make."""

import dataclasses

import numpy as np
import pytest
from small_models import ACT, Net, config_of, draw, plan_of

import tfq
from tfq.convert.quality import QUALITIES, choose_improvements, choose_weights, first_weights
from tfq.errors import UsageError
from tfq.improve import Context, improve
from tfq.improve.errors import OutputJudge
from tfq.improve.trials import NothingToDoError
from tfq.improve.weight_scales import ChooseWeightScales, integer_weights, with_output_mse
from tfq.plan.scheme import LayerRule, get_scheme


def net(seed=5):
    """A few large weights; inputs of the second layer are correlated; one layer without patches."""
    net = Net(seed)
    x = net.input(1, 8, 8, 3, name="x")
    a = net.conv(x, 8, act=ACT.RELU, weights=net.rng.standard_t(2, (8, 3, 3, 3)), out="a")
    b = net.conv(a, 8, size=1, weights=net.rng.standard_t(2, (8, 1, 1, 8)), out="b")
    up = net.upsample(b, 4, out="up")
    return net.bytes(net.dense(net.mean(up), 4, out="y"))


def context(fit, check, budget=1e10):
    return Context(fit, check, lambda prepared: None, budget, lambda what, done, total: None)


@pytest.fixture(scope="module")
def start():
    source = net()
    return plan_of(source, draw(source, 40), config_of(weight_bits=4)).candidate()


FIT, CHECK = draw(net(), 30, seed=2), draw(net(), 20, seed=3)


def test_both_rules_are_tried_and_the_better_is_kept(start):
    best, (outcome,) = improve(start, [ChooseWeightScales()], context(FIT, CHECK))
    # TRANSPOSE_CONV has no Gram matrix, and it is said.
    whats = [a.what for a in outcome.attempts]
    assert whats == ["mse", "output_mse (1 of 4 layers: mse)"]
    assert outcome.kept in whats
    errors = OutputJudge(start, draw(net(), 40, seed=4))
    (before,), (after,) = errors.errors(start).values(), errors.errors(best).values()
    assert after.errors.mean() < 0.7 * before.errors.mean()


def test_asked_for_it_is_kept_and_nothing_else_tried(start):
    best, (outcome,) = improve(start, [ChooseWeightScales(asked=True)], context(FIT, []))
    assert [a.what for a in outcome.attempts] == ["output_mse (1 of 4 layers: mse)"]
    assert set(best.config.weight_scales) == {"a", "b", "y"}
    for name, scales in best.config.weight_scales.items():
        assert best.plan.ops[name].edges[1].scale == scales
    mse = start.reconfigured(dataclasses.replace(start.config, weights="mse"), start.layout)
    assert best.plan.ops["up"].edges == mse.plan.ops["up"].edges
    assert best.plan.ops["b"].edges[1] != mse.plan.ops["b"].edges[1]


def test_too_dear_or_without_samples_to_judge_by(start):
    with pytest.raises(NothingToDoError, match="too few samples"):
        next(ChooseWeightScales().propose(start, context(FIT, [])))
    _, (outcome,) = improve(start, [ChooseWeightScales()], context(FIT, CHECK, budget=1.0))
    assert "--weights=output_mse" in outcome.attempts[1].why
    with pytest.raises(UsageError, match=r"at least 2 samples\. Use --weights=mse"):
        with_output_mse(start, integer_weights(start), context(FIT[:1], []))


DEFAULT, BEST, FAST = (QUALITIES[n] for n in ("default", "best", "fast"))
INT8, DYNAMIC = get_scheme("int8"), get_scheme("dynamic")


@pytest.mark.parametrize(
    ("asked", "quality", "scheme", "bits", "chosen"),
    [
        (None, DEFAULT, INT8, 8, "minmax"),
        (None, DEFAULT, INT8, 4, "auto"),
        (None, BEST, INT8, 8, "auto"),
        (None, FAST, INT8, 4, "minmax"),
        (None, BEST, DYNAMIC, 4, "minmax"),
        ("minmax", BEST, INT8, 4, "minmax"),
        ("output_mse", FAST, INT8, 8, "output_mse"),
        ("mse", DEFAULT, DYNAMIC, 8, "mse"),
    ],
)
def test_who_decides(asked, quality, scheme, bits, chosen):
    assert choose_weights(asked, quality, scheme, bits, []) == chosen
    rules = [LayerRule(regex="a", weight_bits=bits)]
    assert choose_weights(asked, quality, scheme, 8, rules) == chosen
    assert first_weights(chosen) == {"auto": "minmax", "output_mse": "mse"}.get(chosen, chosen)


def test_what_cannot_be_is_said():
    with pytest.raises(UsageError, match="Did you mean 'output_mse'"):
        choose_weights("output_mes", DEFAULT, INT8, 8, [])
    for asked in ("auto", "output_mse"):
        with pytest.raises(UsageError, match=f"weights={asked} needs an integer scheme"):
            choose_weights(asked, DEFAULT, DYNAMIC, 8, [])
    given = {"calibration": "minmax", "equalization": "none", "bias_correction": "none"}
    for trained, why in ((False, "no samples that say"), (True, "trained with its quantizers")):
        with pytest.raises(UsageError, match=why):
            choose_improvements(
                FAST, weights="output_mse", fresh=True, synthetic=True, trained=trained, **given
            )


@pytest.mark.slow
def test_a_conversion_replays_its_scales(tmp_path):
    source = net()
    path = tmp_path / "net.tflite"
    path.write_bytes(source)
    data = np.concatenate([s["x"] for s in draw(source, 40)])
    options = {"weight_bits": 4, "cache": "none"}
    made = tfq.convert_model(path, data, weights="output_mse", quality="fast", **options)
    assert made.summary["improvements"]["weight_scales"]["kept"].startswith("output_mse")
    made.plan.save(tmp_path / "plan.json")
    again = tfq.convert_model(path, data, plan=tmp_path / "plan.json", **options)
    assert again.model == made.model
    with pytest.raises(UsageError, match="weights=auto would have no effect"):
        tfq.convert_model(path, data, plan=made.plan, weights="auto", **options)
