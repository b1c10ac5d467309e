"""Equalization on the whole way: when it is tried, when it is kept, and that a plan repeats it."""

import json

import numpy as np
import pytest
from small_models import ACT, Net, cnn

from tfq.convert import convert_model
from tfq.convert.summary import lines
from tfq.errors import UsageError
from tfq.graph.model import Model
from tfq.improve import PartError
from tfq.plan.plan import Plan
from tfq.plan.scheme import LayerRule

SHAPE = (8, 8, 2)


def computing(model):
    """The file without its account of how it was made: the options, and what was tried."""
    read = Model.from_bytes(model)
    del read.metadata["tfq_config"]
    read.metadata.pop("tfq_improvements", None)
    return read.to_bytes()


def unbalanced(exponent=5, seed=0):
    """A small CNN whose channels in two places are scaled by random powers of two."""
    net = Net(seed)
    first, second = (2.0 ** net.rng.integers(-exponent, exponent + 1, 8) for _ in range(2))
    x = net.input(1, *SHAPE, name="image")
    w = net.rng.normal(0, 0.3, (8, 3, 3, 2)) * first[:, None, None, None]
    a = net.conv(x, 8, weights=w, bias=net.rng.normal(0, 0.1, 8) * first, act=ACT.RELU, out="a")
    w = net.rng.normal(0, 0.15, (8, 3, 3, 8)) / first * second[:, None, None, None]
    b = net.conv(a, 8, weights=w, bias=net.rng.normal(0, 0.1, 8) * second, act=ACT.RELU, out="b")
    w = net.rng.normal(0, 0.4, (5, 8)) / second
    return net.bytes(net.dense(net.mean(b), 5, weights=w, out="logits"))


def images(count, seed=1):
    return np.random.default_rng(seed).normal(0, 1, (count, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def source():
    return unbalanced()


@pytest.fixture(scope="module")
def result(source):
    return convert_model(source, images(64))


def decibels(result):
    return result.summary["proof"]["outputs"][0]["sqnr_db"]


def test_an_imbalance_is_equalized_and_said(source, result):
    done = result.summary["improvements"]["equalization"]
    assert done["kept"] == "channels of 2 layers"
    (change,) = [c for c in done["outputs"] if not c["part"]]
    assert change["after_db"] > change["before_db"] + 10
    assert not any(c["loses"] for c in done["outputs"])
    assert set(result.plan.equalization) == {"a", "b"}
    without = convert_model(source, images(64), equalization="none")
    assert "equalization" not in without.summary["improvements"]
    assert without.plan.equalization == {}
    assert decibels(result) > decibels(without) + 10
    assert decibels(result) > 30
    (line,) = [row for row in lines(result.summary) if "equalized" in row]
    assert line.startswith("  equalized channels of 2 layers rescaled; ")
    assert not any("equalized" in row for row in lines(without.summary))


def test_twice_gives_the_same(source, result):
    again = convert_model(source, images(64))
    assert again.model == result.model
    assert again.plan.to_json() == result.plan.to_json()


def test_a_replayed_plan_gives_identical_bytes(source, result):
    plan = Plan.from_json(result.plan.to_json())
    assert plan.equalization == result.plan.equalization
    replayed = convert_model(source, images(64), plan=plan)
    assert replayed.model == result.model
    assert replayed.summary["improvements"] == {}
    assert convert_model(source, plan=plan).model == result.model
    with pytest.raises(UsageError, match="so bias_correction=none would have no effect"):
        convert_model(source, plan=plan, bias_correction="none")


@pytest.mark.slow
def test_statistics_are_of_the_model_as_it_is(source, result):
    options = {"calibration": "robust", "keep_histograms": True}
    plain = convert_model(source, images(64), equalization="none", **options)
    assert result.statistics == plain.statistics
    again = convert_model(source, images(64), plan=result.plan, statistics=result.statistics)
    assert again.model == result.model
    from_statistics = convert_model(source, statistics=result.statistics, **options)
    assert "not tried" in from_statistics.summary["improvements"]["equalization"]["note"]
    assert from_statistics.plan.tensors == plain.plan.tensors
    with pytest.raises(UsageError, match="equalization=cross_layer rescales the model"):
        convert_model(source, statistics=result.statistics, equalization="cross_layer")


@pytest.mark.slow
def test_ordinary_models_come_out_as_without():
    stages = set()
    auto = convert_model(cnn(), images(64), progress=lambda stage, done, total: stages.add(stage))
    plain = convert_model(cnn(), images(64), equalization="none")
    assert computing(auto.model) == computing(plain.model)
    assert "equalization" not in auto.summary["improvements"]
    assert "Calibrating again" not in stages


@pytest.mark.slow
def test_cross_layer_is_done_also_where_little_is_gained():
    source = unbalanced(1)
    assert "equalization" not in convert_model(source, images(64)).summary["improvements"]
    always = convert_model(source, images(64), equalization="cross_layer")
    assert always.summary["improvements"]["equalization"]["kept"] == "channels of 2 layers"
    assert decibels(always) > 20


def test_data_that_can_be_read_once_is_enough(source):
    result = convert_model(source, ({"x0": x[None]} for x in images(64)))
    assert result.summary["improvements"]["equalization"]["kept"] == "channels of 2 layers"
    assert decibels(result) > 25


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"granularity": "per_tensor"}, {"scheme": "int16x8"}])
def test_with_other_settings(source, options):
    auto = convert_model(source, images(64), **options)
    without = convert_model(source, images(64), equalization="none", **options)
    assert decibels(auto) >= decibels(without)
    if "granularity" in options:
        options = {**options, "dense_granularity": "per_tensor"}
        assert decibels(convert_model(source, images(64), **options)) > 20


@pytest.mark.slow
def test_what_does_not_help_is_not_kept(source, monkeypatch):
    errors = iter([1.0, 2.0])
    monkeypatch.setattr(
        "tfq.improve.errors.OutputJudge.errors",
        lambda *_: {
            ("y", ""): PartError("y", "", np.full(4, next(errors)), np.full(4, 100.0)),
        },
    )
    options = {"calibration": "robust", "bias_correction": "none"}
    result = convert_model(source, images(64), **options)
    (change,) = result.summary["improvements"]["equalization"]["outputs"]
    assert (change["output"], change["loses"]) == ("y", True)
    assert result.summary["improvements"]["equalization"]["kept"] == ""
    plain = convert_model(source, images(64), equalization="none", **options)
    assert computing(result.model) == computing(plain.model)
    (line,) = [row for row in lines(result.summary) if "equalized" in row]
    assert line == "  equalized not rescaled: y would lose 3.0 dB on other samples"


def test_edited_scales_are_checked(source, result):
    body = json.loads(result.plan.to_json())
    body["equalization"]["a"] = [1.0, 2.0]
    with pytest.raises(UsageError, match="2 channels of 'a', which this model has 8 of"):
        convert_model(source, images(64), plan=Plan.from_json(json.dumps(body)))
    for wrong, text in (
        ([0.0] * 8, "lacks or garbles a field"),
        ([float("inf")] * 8, "Infinity is no number"),
        (["x"] * 8, "lacks or garbles a field"),
        (3, "lacks or garbles a field"),
    ):
        body["equalization"]["a"] = wrong
        with pytest.raises(UsageError, match=text):
            Plan.from_json(json.dumps(body))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"equalization": "yes"}, "equalization"),
        ({"equalization": "cross_layer", "scheme": "dynamic"}, "needs an integer scheme"),
    ],
)
def test_wrong_choices(source, options, message):
    with pytest.raises(UsageError, match=message):
        convert_model(source, images(8), **options)


@pytest.mark.slow
def test_a_plan_without_it_is_not_replayed_with_it(source):
    plan = convert_model(source, images(20), equalization="none").plan
    with pytest.raises(UsageError, match="so equalization=cross_layer would have no effect"):
        convert_model(source, images(20), plan=plan, equalization="cross_layer")


def test_layers_in_16_bits(source):
    rules = [LayerRule(regex="^a$", activations="int16")]
    result = convert_model(source, images(64), rules=rules)
    assert result.plan.tensors["a"].grid.dtype == "int16"
    assert result.summary["model"]["full_integer"]
