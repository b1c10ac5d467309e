"""Each cause: a model that has exactly it is found to have it, and the remedy mends the tensor.

The models are converted, analysed and judged; then the call of the first finding's remedy is made
as it is printed, and the tensor's error is measured again.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import ACT, Net, cnn

import tfq
from tfq.convert.command import FLAGS
from tfq.equalize import rescale_prepared
from tfq.evaluate.causes import Finding, find_causes
from tfq.evaluate.causes.remedies import wider, wider_layers
from tfq.evaluate.causes.view import View
from tfq.evaluate.figures import LayerAnalysis
from tfq.evaluate.layers import analyse_layers
from tfq.graph.model import Model
from tfq.plan.config_record import read_config
from tfq.rewrite.prepare import prepare
from tfq.sources import load_source

SAMPLES = 32
DIGITS = Path(__file__).parents[3] / "examples/digits/saved_model"


@dataclasses.dataclass
class Case:
    """A model with a fault.

    Attributes:
      model: float bytes.
      data: samples, [n, *input shape without the batch].
      options: of the conversion that makes the fault.
      seen: what calibration saw, if not `data`.
    """

    model: bytes
    data: np.ndarray
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seen: np.ndarray | None = None

    def analyse(self, **options: Any) -> LayerAnalysis:
        """Of the model that is made with these options besides the case's."""
        return self.convert(**options)[0]

    def convert(self, **options: Any) -> tuple[LayerAnalysis, Mapping[str, Any]]:
        """The analysis, and what the file says of how it was made."""
        seen = self.data if self.seen is None else self.seen
        given = {"equalization": "none", **self.options, **options}
        result = tfq.convert_model(self.model, {"x0": seen}, **given)
        activations = "int16" if given.get("scheme") == "int16x8" else "int8"
        name = Model.from_bytes(self.model).main.inputs[0].name
        prepared = prepare(self.model, activations=activations)
        analysis = analyse_layers(
            rescale_prepared(prepared, result.plan.equalization).bytes,
            result.model,
            ({name: row[None]} for row in self.data),
        )
        return analysis, read_config(Model.from_bytes(result.model))


def options_of(finding: Finding) -> dict[str, Any]:
    """The options in a remedy's call, evaluated as Python would."""
    assert finding.remedy.call is not None
    call = ast.parse(finding.remedy.call, mode="eval").body
    assert isinstance(call, ast.Call)
    assert ast.unparse(call.func) == "tfq.convert_model"
    return {
        str(k.arg): eval(compile(ast.Expression(k.value), "call", "eval"), {"tfq": tfq})
        for k in call.keywords
    }


def decibels(analysis: LayerAnalysis, name: str) -> float:
    """Of a tensor as the model runs."""
    reading = next(t for t in analysis.tensors if t.name == name).accumulated
    assert reading is not None
    return reading.sqnr_db


def normal(*shape: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def outlier_range() -> Case:
    """One calibration sample has one huge value, which the model never sees again."""
    net = Net(3)
    x = net.input(1, 24, 24, 4, name="image")
    y = net.conv(x, 8, size=1, act=ACT.RELU, out="first")
    y = net.conv(y, 8, size=1, out="second")
    data = normal(SAMPLES, 24, 24, 4)
    seen = np.concatenate([data, data[:1]])
    seen[-1, 8, 8, 0] = 300.0
    return Case(net.bytes(y), data, {"calibration": "minmax"}, seen)


def saturating() -> Case:
    net = Net(4)
    x = net.input(1, 12, 12, 4, name="image")
    y = net.conv(x, 8, act=ACT.RELU, out="first")
    y = net.conv(y, 8, out="second")
    return Case(net.bytes(y), normal(SAMPLES, 12, 12, 4), {"calibration": "mean_std:1.2"})


def unlike_data() -> Case:
    """Calibration saw a quarter of the contrast."""
    case = saturating()
    return Case(case.model, case.data, {}, case.data / 4)


def weight_imbalance() -> Case:
    """Inputs are nearly alike, so that an average of 64 is as large as a single one of them."""
    net = Net(5)
    x = net.input(1, 64, name="x")
    weights = np.full((8, 64), 1 / 100, np.float32)
    weights += net.rng.normal(0, 1e-3, weights.shape)
    weights[:2] = 0
    weights[0, 3] = weights[1, 5] = 1.0
    y = net.dense(x, 8, weights=weights, bias=np.zeros(8), out="mixed")
    y = net.dense(y, 4, out="answer")
    data = normal(SAMPLES, 1) + 0.1 * normal(SAMPLES, 64, seed=6)
    return Case(
        net.bytes(y), data, {"granularity": "per_tensor", "dense_granularity": "per_tensor"}
    )


def coarse_weights() -> Case:
    """One of 64 output channels reads a small input channel only, with twelve times the weights."""
    net = Net(6)
    x = net.input(1, 10, 10, 4, name="image")
    weights = net.rng.normal(0, 0.2, (64, 3, 3, 4))
    weights[0, ..., :3] = 0
    weights[0] *= 12
    y = net.conv(x, 64, weights=weights, bias=np.zeros(64), out="conv")
    data = normal(SAMPLES, 10, 10, 4)
    data[..., 3] /= 6
    return Case(net.bytes(y), data, {"granularity": "per_tensor"})


def bias_error() -> Case:
    """Inputs far from zero and weights that sum to zero: rounding leaves a shift of the sum."""
    net = Net(7)
    x = net.input(1, 32, name="x")
    weights = net.rng.normal(0, 1, (16, 32))
    weights -= weights.mean(axis=1, keepdims=True)
    y = net.dense(x, 16, weights=weights, bias=np.zeros(16), out="sum")
    y = net.dense(y, 8, out="answer")
    return Case(net.bytes(y), 12 + normal(128, 32), {"bias_correction": "none"})


def shared_scale() -> Case:
    """A branch thirty times as wide as the other, which the next layer needs as much."""
    net = Net(8)
    x = net.input(1, 10, 10, 4, name="image")
    wide = net.conv(x, 4, weights=30 * net.rng.normal(0, 0.2, (4, 3, 3, 4)), out="wide")
    narrow = net.conv(x, 4, out="narrow")
    joint = net.concat(wide, narrow, out="joint")
    weights = net.rng.normal(0, 0.2, (8, 1, 1, 8))
    weights[..., :4] /= 30
    y = net.conv(joint, 8, size=1, weights=weights, out="answer")
    return Case(net.bytes(y), normal(SAMPLES, 10, 10, 4))


def hidden_branch() -> Case:
    """The same, but an average lies between the concatenation and what needs the narrow branch."""
    net = Net(18)
    x = net.input(1, 10, 10, 4, name="image")
    wide = net.conv(x, 8, weights=60 * net.rng.normal(0, 0.2, (8, 3, 3, 4)), out="wide")
    narrow = net.conv(x, 8, out="narrow")
    means = net.mean(net.concat(wide, narrow, out="joint"), out="means")
    weights = net.rng.normal(0, 0.2, (8, 16))
    weights[:4, 8:] = 0
    weights[4:, :8] = 0
    weights[:4] /= 60
    y = net.dense(means, 8, weights=weights, bias=np.zeros(8), out="answer")
    data = normal(SAMPLES, 10, 10, 4) + 3 * normal(SAMPLES, 1, 1, 4, seed=6)
    # Ranges that average the samples would cut off what this case is about.
    return Case(net.bytes(y), data, {"calibration": "robust"})


def faint_pixels() -> Case:
    """The last column of the image is 400 times fainter; half of the answers are read from it."""
    net = Net(19)
    x = net.input(1, 4, 4, 2, name="image")
    y = net.conv(x, 8, size=1, bias=np.zeros(8), out="pixels")
    y = net.reshape(y, 1, 128, out="flat")
    weights = net.rng.normal(0, 0.1, (8, 4, 4, 8))
    weights[:4, :, 3] = 0
    weights[4:, :, :3] = 0
    weights[4:] *= 400
    y = net.dense(y, 8, weights=weights.reshape(8, 128), bias=np.zeros(8), out="answer")
    data = normal(SAMPLES, 4, 4, 2)
    data[:, :, 3] /= 400
    return Case(net.bytes(y), data, {"input_type": "int16"})


def fixed_grid() -> Case:
    """A gate that is nearly shut: its values use 2 % of what the kernel writes."""
    net = Net(9)
    x = net.input(1, 32, name="x")
    a = net.dense(x, 32, bias=np.full(32, -6.0), out="argument")
    gate = net.op("LOGISTIC", a, out="gate")
    y = net.dense(gate, 8, bias=np.zeros(8), out="answer")
    return Case(net.bytes(y), normal(SAMPLES, 32))


def many_classes() -> Case:
    """Of 400 classes none has more than a few steps of probability."""
    net = Net(17)
    x = net.input(1, 32, name="x")
    logits = net.dense(x, 400, out="logits")
    return Case(net.bytes(net.softmax(logits, out="probabilities")), normal(SAMPLES, 32))


def cancels() -> Case:
    """The difference of two nearly equal layers."""
    net = Net(10)
    x = net.input(1, 32, name="x")
    weights = net.rng.normal(0, 0.2, (16, 32))
    a = net.dense(x, 16, weights=weights, out="one")
    b = net.dense(x, 16, weights=weights + net.rng.normal(0, 0.004, (16, 32)), out="other")
    return Case(net.bytes(net.op("SUB", a, b, out="difference")), normal(SAMPLES, 32))


def rare_but_needed() -> Case:
    """One value in 8,000 is a hundred times as large as the others, and right."""
    net = Net(15)
    x = net.input(1, 16, 16, 4, name="image")
    peaks = net.conv(x, 4, size=1, weights=np.eye(4).reshape(4, 1, 1, 4), out="peaks")
    data = normal(SAMPLES, 16, 16, 4)
    data.reshape(-1)[::8191] *= 100
    return Case(net.bytes(peaks), data, {"input_type": "int16", "calibration": "minmax"})


def far_from_zero() -> Case:
    """Values between 100 and 108, and then their differences."""
    net = Net(16)
    x = net.input(1, 32, name="x")
    y = net.dense(x, 16, bias=np.full(16, 104.0), out="offset")
    weights = net.rng.normal(0, 1, (8, 16))
    weights -= weights.mean(axis=1, keepdims=True)
    y = net.dense(y, 8, weights=weights, bias=np.zeros(8), out="answer")
    return Case(net.bytes(y), normal(SAMPLES, 32))


def channel_imbalance() -> Case:
    """Most channels are 50 times smaller than the widest; the next layer evens that out."""
    net = Net(11)
    x = net.input(1, 10, 10, 4, name="image")
    size = np.where(np.arange(16) < 3, 1.0, 1 / 50)
    first = net.rng.normal(0, 0.2, (16, 3, 3, 4)) * size[:, None, None, None]
    y = net.conv(x, 16, weights=first, bias=np.zeros(16), act=ACT.RELU, out="uneven")
    y = net.conv(y, 8, size=1, weights=net.rng.normal(0, 0.3, (8, 1, 1, 16)) / size, out="answer")
    return Case(net.bytes(y), normal(SAMPLES, 10, 10, 4))


def silenced_channels() -> Case:
    """Three channels of 16 are a thousand times smaller; the next layer evens that out."""
    net = Net(12)
    x = net.input(1, 10, 10, 4, name="image")
    size = np.where(np.arange(16) < 3, 1 / 1000, 1.0)
    first = net.rng.normal(0, 0.2, (16, 3, 3, 4)) * size[:, None, None, None]
    y = net.conv(x, 16, weights=first, bias=np.zeros(16), act=ACT.RELU, out="uneven")
    y = net.conv(y, 8, size=1, weights=net.rng.normal(0, 0.3, (8, 1, 1, 16)) / size, out="answer")
    return Case(net.bytes(y), normal(SAMPLES, 10, 10, 4))


def accumulates() -> Case:
    """Forty layers that only turn the signal."""
    net = Net(13)
    y = net.input(1, 24, name="x")
    for i in range(40):
        q, _ = np.linalg.qr(net.rng.normal(0, 1, (24, 24)))
        y = net.dense(y, 24, weights=q, bias=np.zeros(24), out=f"turned{i}")
    return Case(net.bytes(net.dense(y, 8, out="answer")), normal(SAMPLES, 24))


def dead_channels() -> Case:
    net = Net(14)
    x = net.input(1, 8, 8, 2, name="image")
    bias = np.where(np.arange(8) < 4, -100.0, 0.0)
    y = net.conv(x, 8, bias=bias, act=ACT.RELU, out="half")
    return Case(net.bytes(net.conv(y, 4, out="answer")), normal(SAMPLES, 8, 8, 2))


def uneven_output() -> Case:
    """Boxes and scores of one layer: scores have a step and a half."""
    net = Net(20)
    x = net.input(1, 32, name="x")
    size = np.where(np.arange(10) < 4, 150.0, 1.0)
    # Exact in 8 bits: what is lost, the output's grid loses.
    weights = net.rng.integers(-126, 127, (10, 32)) / 350
    weights[:, 0] = 127 / 350
    weights *= size[:, None]
    return Case(
        net.bytes(net.dense(x, 10, weights=weights, bias=np.zeros(10), out="answer")),
        normal(SAMPLES, 32),
    )


def joined_output(axis: int) -> Case:
    """The same of two layers in one concatenation, along any axis, moved behind it."""
    net = Net(21)
    x = net.input(1, 32, name="x")
    weights = net.rng.normal(0, 30, (24, 32))
    boxes = net.dense(x, 24, weights=weights, bias=np.zeros(24), out="boxes")
    other = net.dense(x, 36, bias=np.zeros(36), out="scores")
    shapes = [(1, 6, 4), (1, 6, 6)] if axis == 2 else [(1, 4, 6), (1, 6, 6)]
    parts = [net.reshape(t, *s) for t, s in zip((boxes, other), shapes, strict=True)]
    shape = (1, 6, 10) if axis == 2 else (1, 10, 6)
    joint = net.op("CONCATENATION", *parts, shape=shape, axis=axis, out="joint")
    return Case(net.bytes(joint), normal(SAMPLES, 32))


# Builder, cause, the tensor that has it.
CASES: list[tuple[Callable[[], Case], str, str]] = [
    (outlier_range, "outlier_range", "second"),
    (saturating, "saturating", "first"),
    (weight_imbalance, "channel_imbalance", "mixed"),
    (channel_imbalance, "channel_imbalance", "uneven"),
    (silenced_channels, "silenced_channels", "uneven"),
    (coarse_weights, "weights_too_coarse", "conv"),
    (bias_error, "bias_error", "sum"),
    (shared_scale, "shared_scale", "narrow"),
    (hidden_branch, "shared_scale", "narrow"),
    (faint_pixels, "silenced_channels", "flat"),
    (uneven_output, "starved_part", "answer"),
    (fixed_grid, "fixed_grid", "gate"),
    (many_classes, "fixed_grid", "probabilities"),
    (cancels, "too_few_bits", "difference"),
    (rare_but_needed, "too_few_bits", "peaks"),
    (far_from_zero, "too_few_bits", "offset"),
    (accumulates, "accumulates", "answer"),
]

# Their loss does not show at the tensor itself, but in what reads it.
HIDDEN = ("channel_imbalance", "silenced_channels")


@pytest.fixture(scope="module")
def judged():
    """Cases by builder, with their analysis and findings; each is made once."""
    made: dict[str, tuple[Case, LayerAnalysis, tuple[Finding, ...]]] = {}

    def get(builder):
        if builder.__name__ not in made:
            case = builder()
            analysis, config = case.convert()
            made[builder.__name__] = (case, analysis, find_causes(analysis, options=config))
        return made[builder.__name__]

    return get


@pytest.mark.parametrize(("builder", "cause", "where"), CASES)
def test_the_cause_is_named_first(judged, builder, cause, where):
    _, _, findings = judged(builder)
    assert findings, "nothing found"
    assert findings[0].cause == cause
    assert findings[0].tensor == where
    assert {f.cause for f in findings if f.severity > findings[0].severity / 2} == {cause}
    assert 0 < findings[0].severity <= 1
    assert findings[0].remedy.call is not None


@pytest.mark.slow
@pytest.mark.parametrize(("builder", "cause", "where"), CASES)
def test_the_remedy_mends_the_tensor_and_the_model(judged, builder, cause, where):
    case, before, findings = judged(builder)
    after, config = case.convert(**options_of(findings[0]))
    output = before.tensors[-1].name
    # Of a starved part the gain is in the part; the whole is the others', whose grid was fine.
    gain = 2 if cause == "starved_part" else 3
    assert decibels(after, output) > decibels(before, output) + gain
    if where != output and cause not in HIDDEN:
        assert decibels(after, where) > decibels(before, where) + 3
    left = [f for f in find_causes(after, options=config) if f.tensor == where and f.cause == cause]
    # The weights' 8 bits add up, too, with any activations: that only training can mend.
    assert not left or cause == "accumulates"
    for finding in left:
        assert finding.severity < findings[0].severity
        assert finding.remedy.flag is None


@pytest.mark.parametrize(("builder", "cause", "where"), CASES)
def test_the_flag_says_what_the_call_says(judged, builder, cause, where):
    finding = judged(builder)[2][0]
    said = {}
    for argument in shlex.split(finding.remedy.flag):
        name, _, value = argument.removeprefix("--").partition("=")
        FLAGS[name].parse(value)  # exists, and takes the value
        FLAGS[name].unparse()
        if name == "int16":
            said["rules"] = [tfq.LayerRule(regex=value, activations="int16")]
        else:
            said[name] = value
    assert options_of(finding) == said
    assert said.keys() <= inspect.signature(tfq.convert_model).parameters.keys()


def test_calibration_on_other_data_is_said_where_ranges_are_not_to_blame(judged):
    case, before, findings = judged(unlike_data)
    (told,) = findings
    assert told.cause == "unscaled_input"
    assert told.remedy.flag is None
    assert told.remedy.call is None
    assert "samples like those" in told.remedy.text
    better = dataclasses.replace(case, seen=None).analyse()
    assert decibels(better, "second") > decibels(before, "second") + 20
    assert find_causes(better) == ()


def test_an_outlier_that_is_never_evaluated_is_left_out_by_the_default_rule(judged):
    case, before, _ = judged(outlier_range)
    told = find_causes(before, options={"calibration": {"rule": "minmax"}})
    assert told[0].cause == "outlier_range"
    assert told[0].remedy.flag == "--calibration=robust"
    after = case.analyse(**options_of(told[0]))
    assert decibels(after, told[0].tensor) > decibels(before, told[0].tensor) + 20


@pytest.mark.parametrize("io", ["int8", "float32"])
def test_bytes_where_0_to_1_are_meant_are_the_one_thing_said(io):
    case = saturating()
    seen = np.abs(case.data) / np.abs(case.data).max()
    options = {"calibration": "robust", "input_type": io}
    analysis, config = Case(case.model, 255 * seen, options, seen).convert()
    (finding,) = find_causes(analysis, options=config)
    assert "--scale=0.00392157" in finding.remedy.text
    assert (finding.severity, finding.remedy.flag) == (1.0, None)


def test_all_layers_that_a_shared_scale_needs_are_in_its_rule(judged):
    case, _, findings = judged(hidden_branch)
    (layers,) = [f.remedy.layers for f in findings if f.cause == "shared_scale"]
    assert set(layers) == {"wide", "narrow", "joint", "means", "answer"}
    # Without what makes the grid, or what reads it, less is mended.
    whole = decibels(case.analyse(**options_of(findings[0])), "answer")
    for part in (["means", "answer"], ["wide", "narrow", "joint"]):
        half = case.analyse(**options_of(Finding("", "", "", "", 0, "", wider_layers(part, ""))))
        assert whole > decibels(half, "answer") + 3


def test_rules_of_the_file_stay_and_what_they_lack_is_added(judged):
    case, _, _ = judged(hidden_branch)
    rule = tfq.LayerRule(regex="^(means|answer)$", activations="int16")
    half, config = case.convert(rules=[rule])
    (finding,) = find_causes(half, options=config)
    assert finding.remedy.layers == ("wide", "narrow", "joint")
    options = options_of(finding)
    assert [r.matches("answer") for r in options["rules"]] == [False, True]
    after, config = case.convert(**options)
    assert decibels(after, "answer") > decibels(half, "answer") + 3
    assert find_causes(after, options=config) == ()


def test_a_rule_behind_the_layer_that_makes_the_grid_is_completed(judged):
    case, before, findings = judged(faint_pixels)
    assert findings[0].remedy.layers[:2] == ("pixels", "flat")
    rule = tfq.LayerRule(regex="^(flat|answer)$", activations="int16")
    vain, config = case.convert(rules=[rule])
    assert decibels(vain, "answer") < decibels(before, "answer") + 1
    told = find_causes(vain, options=config)[0]
    assert (told.tensor, told.remedy.flag) == ("flat", "--int16='^pixels$'")


@pytest.mark.parametrize("axis", [1, 2])
def test_a_part_of_the_output_that_starves_is_told_to_split(axis):
    case = joined_output(axis)
    before, config = case.convert()
    told = find_causes(before, options=config, outputs={"joint": "my output"})[0]
    assert (told.cause, told.tensor) == ("starved_part", "joint")
    assert told.severity > 0.5
    assert decibels(before, "joint") > 35
    assert told.text.startswith("my output[..., 4:10] reaches" if axis == 2 else "my output from ")
    assert shlex.split(told.remedy.flag) == ["--split_output=my output"]
    finding = find_causes(before, options=config)[0]
    assert options_of(finding) == {"split_output": "joint"}
    result = tfq.convert_model(case.model, {"x0": case.data}, **options_of(finding))
    assert min(o["sqnr_db"] for o in result.summary["proof"]["outputs"]) > 30
    assert not any("LOST" in w for w in result.summary["warnings"])


def test_scores_of_one_sigmoid_do_not_starve():
    net = Net(22)
    x = net.input(1, 32, name="x")
    bias = np.where(np.arange(10) < 4, 0.0, -7.0)
    y = net.op("LOGISTIC", net.dense(x, 10, bias=bias, out="logits"), out="scores")
    found = find_causes(Case(net.bytes(y), normal(SAMPLES, 32)).analyse())
    assert "starved_part" not in {f.cause for f in found}


def test_dead_channels_are_a_note():
    (finding,) = find_causes(dead_channels().analyse())
    assert (finding.tensor, finding.cause) == ("half", "dead_channels")
    assert finding.severity < 0.05
    assert finding.text.startswith("4 of 8 channels are zero")
    assert finding.remedy.flag is None


@pytest.mark.parametrize("seed", range(3))
def test_a_healthy_model_has_no_findings(seed):
    data = normal(SAMPLES, 8, 8, 2, seed=seed)
    assert find_causes(Case(cnn(seed), data).analyse(equalization="auto")) == ()


@pytest.mark.slow
def test_the_example_has_no_findings_and_its_layers_can_be_named():
    source = load_source(DIGITS)
    with np.load(next(DIGITS.glob("assets.extra/*.npz"))) as file:
        data = file["image"].astype(np.float32)
    result = tfq.convert_model(source.model, {"image": data})
    prepared = rescale_prepared(prepare(source.model), result.plan.equalization)
    name = prepared.model.main.inputs[0].name
    analysis = analyse_layers(
        prepared.bytes,
        result.model,
        ({name: row.reshape(prepared.model.main.inputs[0].shape)} for row in data[:64]),
        layer_names=source.layer_names,
    )
    assert find_causes(analysis) == ()
    # The rule for a Keras layer finds this layer's tensors, and no other's.
    chosen = next(t for t in analysis.tensors if t.layer == "expand_relu")
    remedy = wider(View(analysis, {}), [chosen], "")
    rule = options_of(Finding("", "", "", "", 0, "", remedy))["rules"][0]
    wide = tfq.convert_model(DIGITS, {"image": data}, rules=[rule])
    types = {n: t.grid.dtype for n, t in wide.plan.tensors.items()}
    layers = {source.layer_names.get(n) for n, dtype in types.items() if dtype == "int16"}
    assert layers == {"expand_relu"}
    assert "int8" in types.values()
