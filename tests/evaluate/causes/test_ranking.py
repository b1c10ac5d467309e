"""What is done with claims: weighing, inheriting, grouping; and figures made by hand."""

import dataclasses
import json
import re

import numpy as np
import pytest

import tfq
from tfq.evaluate.causes import CAUSES, Finding, Remedy, find_causes, group
from tfq.evaluate.causes.remedies import option, pattern, wider_layers
from tfq.evaluate.causes.view import View
from tfq.evaluate.causes.wording import number
from tfq.evaluate.figures import Histogram, LayerAnalysis, Reading, WeightFigures
from tfq.report.schema import load_schema

RNG = np.random.default_rng(1)
NORMAL = RNG.normal(0, 1, (4000, 8))
WEIGHTS = WeightFigures("w", "int8", 8, True, 42.0, 1.5)


def analysis(*tensors, samples=32):
    return LayerAnalysis(samples, tensors)


def off(t, sqnr_db):
    """The same, with this error as the model runs."""
    return dataclasses.replace(t, accumulated=Reading(sqnr_db, 1.0, 2.0, 0.0, 0.0))


def test_a_healthy_tensor_gives_nothing(figures_of):
    assert find_causes(analysis(figures_of(NORMAL, weights=WEIGHTS))) == ()


def test_nothing_gives_nothing():
    assert find_causes(analysis()) == ()


def test_a_grid_much_wider_than_the_values(figures_of):
    t = figures_of(NORMAL, ends=(-150.0, 150.0))
    (finding,) = find_causes(analysis(t))
    assert finding.cause == "outlier_range"
    assert "nearly all values lie within" in finding.text
    # Rounding in steps of 300/255 against those of the percentiles' range.
    lo, hi = t.percentile_range
    gain = float(re.search(r"(\d+) dB less", finding.text)[1])
    assert gain == pytest.approx(20 * np.log10(300 / (hi - lo)), abs=1)


def test_rare_values_that_carry_the_signal_are_not_called_outliers(figures_of):
    values = NORMAL.copy()
    values.reshape(-1)[:3] = 200
    (finding,) = find_causes(analysis(figures_of(values)))
    assert finding.cause == "too_few_bits"
    assert finding.remedy.flag == "--int16='^t$' --output_type=int16"


def test_what_moves_the_values_is_not_blamed_again(figures_of):
    wide = (-150.0, 150.0)
    first = figures_of(NORMAL, "a", ends=wide)
    moved = figures_of(NORMAL, "b", ends=wide, op="RESHAPE", inputs=("a",))
    again = figures_of(NORMAL, "c", ends=wide, op="RESHAPE", inputs=("b",))
    assert [f.tensor for f in find_causes(analysis(first, moved, again))] == ["a"]


def test_what_reads_a_bad_tensor_is_not_blamed_for_its_noise(figures_of):
    wide = figures_of(NORMAL, "a", ends=(-150.0, 150.0))
    noisy = NORMAL + RNG.normal(0, 0.3, NORMAL.shape)
    reader = figures_of(NORMAL, "b", got=noisy, inputs=("a",))
    assert [f.tensor for f in find_causes(analysis(wide, reader))] == ["a"]
    (alone,) = find_causes(analysis(figures_of(NORMAL, "a"), reader))
    assert (alone.tensor, alone.cause) == ("b", "too_few_bits")


def test_severity_follows_the_models_output(figures_of):
    bad = figures_of(NORMAL, "a", ends=(-40.0, 40.0))

    def severity(sqnr_db):
        found = find_causes(analysis(bad, off(figures_of(NORMAL, "b", inputs=("a",)), sqnr_db)))
        return next((f.severity for f in found if f.tensor == "a"), 0.0)

    assert severity(40) == 0
    assert 0 < severity(28) < severity(20) < severity(10) <= 1


def test_an_error_behind_a_sure_softmax_is_seen_at_its_argument(figures_of):
    bad = off(figures_of(NORMAL, "a", ends=(-60.0, 60.0)), 12.0)
    last = off(figures_of(NORMAL, "b", op="SOFTMAX", inputs=("a",)), 45.0)
    assert find_causes(analysis(bad, last))[0].tensor == "a"
    read = dataclasses.replace(last, op="MEAN")
    assert find_causes(analysis(bad, read)) == ()


def test_at_most_two_findings_a_tensor_and_the_most_severe_first(figures_of):
    values = NORMAL * np.array([1, 1, 1, 1, 1, 1, 1, 20])
    shifted = values + 3.0
    coarse = dataclasses.replace(WEIGHTS, per_channel=False, sqnr_db=20.0, imbalance=30.0)
    t = figures_of(values, ends=(-12.0, 12.0), got=shifted, op="CONV_2D", weights=coarse)
    found = find_causes(analysis(t))
    assert len(found) == 2
    assert found[0].severity >= found[1].severity
    assert len({f.cause for f in found}) == 2


def test_16_bits_are_not_too_few(figures_of):
    t = figures_of(NORMAL, dtype="int16", got=NORMAL + RNG.normal(0, 0.3, NORMAL.shape))
    assert "too_few_bits" not in {f.cause for f in find_causes(analysis(t))}


def test_figures_without_readings_or_histogram_are_judged(figures_of):
    t = figures_of(NORMAL, ends=(-150.0, 150.0))
    blind = dataclasses.replace(t, isolated=None, accumulated=None, histogram=None, channels=None)
    assert find_causes(analysis(blind)) == ()
    unread = dataclasses.replace(t, isolated=None, accumulated=None)
    assert [f.cause for f in find_causes(analysis(unread))] == ["outlier_range"]
    exact = dataclasses.replace(t, isolated=Reading(float("inf"), 0, 0, 0, 0))
    assert all(0 <= f.severity <= 1 for f in find_causes(analysis(exact)))


def test_few_samples_leave_channels_dead_by_chance(figures_of):
    values = NORMAL * (np.arange(8) < 4)
    t = figures_of(values, weights=WEIGHTS)
    assert find_causes(analysis(t, samples=4)) == ()
    assert [f.cause for f in find_causes(analysis(t, samples=8))] == ["dead_channels"]
    few = figures_of(NORMAL * (np.arange(8) < 7), weights=WEIGHTS)
    assert find_causes(analysis(few)) == ()


def test_the_shift_is_a_lower_bound_where_it_was_not_counted(figures_of):
    shifted = NORMAL + np.where(np.arange(8) < 4, 0.2, 0.0)
    t = figures_of(NORMAL, got=shifted, weights=WEIGHTS)
    view = View(analysis(t), {})
    part, share = view.bias(t, t.accumulated)
    # Half the channels are off by 0.2: the square of the mean over all is half the mean square.
    assert share == pytest.approx(1 / 2, rel=0.02)
    true = dataclasses.replace(t.accumulated, shift=0.97)
    assert view.bias(t, true) == (pytest.approx(0.97 * 0.02, rel=0.05), 0.97)
    assert part < view.bias(t, true)[0]


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({}, "--calibration=robust"),
        ({"calibration": "robust"}, "--calibration=percentile:99.99"),
        ({"calibration": {"rule": "minmax"}}, "--calibration=robust"),
        ({"calibration": "percentile:99.9"}, "--calibration=robust"),
    ],
)
def test_what_was_done_already_is_not_advised(figures_of, options, flag):
    (finding,) = find_causes(analysis(figures_of(NORMAL, ends=(-150.0, 150.0))), options=options)
    assert finding.remedy.flag == flag


@pytest.mark.parametrize(
    "name",
    ["conv2d", "block_1/conv (3x3)", "a+b", "model/x/Relu;model/x/BiasAdd", "one,two", "q$^|"],
)
def test_a_pattern_finds_its_layer_only(name):
    regex = pattern([name])
    rule = tfq.LayerRule(regex=regex, activations="int16")
    assert rule.matches(name)
    assert "," not in regex
    for other in (f"{name}_1", f"pre/{name}", name[:-1], "conv2d_10"):
        assert not rule.matches(other)
    both = tfq.LayerRule(regex=pattern([name, "other"]), activations="int16")
    assert both.matches(name)
    assert both.matches("other")
    assert not both.matches(f"{name}other")


def found(tensor, cause, remedy, severity):
    return Finding(tensor, "", cause, f"about {cause}", severity, "", remedy)


def test_many_layers_with_one_remedy_are_one_group():
    mse = option("calibration", "mse", "Do it.")
    findings = [
        found("a", "outlier_range", mse, 0.9),
        found("b", "too_few_bits", wider_layers(["b", "c"], "Wider."), 0.8),
        found("d", "outlier_range", mse, 0.7),
        found("c", "too_few_bits", wider_layers(["c", "e"], "Wider."), 0.6),
        found("x", "dead_channels", Remedy("Nothing."), 0.02),
    ]
    groups = group(findings)
    assert [g.title for g in groups] == [
        "2 layers: about outlier_range",
        "2 layers: about too_few_bits",
        "about dead_channels",
    ]
    assert [f.tensor for f in groups[0].findings] == ["a", "d"]
    assert [g.severity for g in groups] == [1.0, 1.0, 0.02]
    assert [g.tensors for g in groups] == [("a", "d"), ("b", "c"), ("x",)]
    assert [g.layers for g in groups] == [("a", "d"), ("b", "c"), ("x",)]
    assert groups[0].remedy == mse
    assert groups[1].remedy == wider_layers(["b", "c", "e"], "Wider.")
    assert groups[1].remedy.flag == "--int16='^(b|c|e)$'"
    assert group([]) == ()


def test_a_group_names_each_layer_once_and_every_tensor():
    mse = option("calibration", "mse", "Do it.")
    findings = [
        dataclasses.replace(found(name, "outlier_range", mse, 0.5), layer=layer, title="8 bits")
        for name, layer in (("a", "one"), ("b", "one"), ("c", ""), ("d", "two"))
    ]
    (all_of_them,) = group(findings)
    assert all_of_them.tensors == ("a", "b", "c", "d")
    assert all_of_them.layers == ("one", "c", "two")
    assert all_of_them.title == "3 layers: 8 bits"
    (one,) = group(findings[:2])
    assert (one.layers, one.title) == (("one",), "8 bits")


def test_what_is_negligible_is_said_only_where_nothing_else_is(figures_of):
    dead = np.where(np.arange(8) < 3, 0.0, 1.0)
    idle = figures_of(NORMAL * dead, "a", weights=WEIGHTS)
    (note,) = find_causes(analysis(idle))
    assert note.cause == "dead_channels"
    assert note.severity < 0.02
    bad = figures_of(NORMAL, "b", ends=(-150.0, 150.0), inputs=("a",))
    assert [f.cause for f in find_causes(analysis(idle, bad))] == ["outlier_range"]


UNEVEN = NORMAL * np.where(np.arange(8) < 2, 1e-3, 1.0)


def moved(figures_of):
    """A layer, what reshapes its values, and what reads the small ones."""
    a = figures_of(NORMAL, "a")
    b = figures_of(UNEVEN, "b", ends=(-5, 5), op="RESHAPE", inputs=("a",))
    a = dataclasses.replace(a, scale=b.scale, zero_point=b.zero_point, dtype=b.dtype)
    noisy = NORMAL + RNG.normal(0, 0.3, NORMAL.shape)
    return a, b, figures_of(NORMAL, "c", got=noisy, inputs=("b",))


def rule(regex, activations="int16"):
    return {"regex": regex, "activations": activations, "granularity": None}


@pytest.mark.parametrize(
    ("rules", "flag", "kept"),
    [
        ([], "--int16='^(a|b|c)$'", ""),
        ([rule("^(b|c)$")], "--int16='^a$'", "regex='^(b|c)$', activations='int16'"),
        ([rule("^x"), rule("c")], "--int16='^(a|b)$'", "regex='^x', activations='int16'"),
        # The first that matches is the one that holds.
        ([rule("b", "int8"), rule("b|c")], "--int16='^(a|b)$'", "activations='int8'"),
        ([rule("a|b|c")], None, None),
    ],
)
def test_16_bits_are_for_what_makes_the_grid_and_has_no_rule_yet(figures_of, rules, flag, kept):
    found = find_causes(analysis(*moved(figures_of)), options={"rules": rules})
    (finding,) = [f for f in found if f.cause == "silenced_channels"]
    assert finding.tensor == "b"
    assert finding.remedy.flag == flag
    if flag is None:
        assert finding.remedy.call is None
        assert "16-bit activations already" in finding.remedy.text
    else:
        assert kept in finding.remedy.call


def test_channels_that_came_in_constant_are_not_blamed_on_16_bits(figures_of):
    a, b, c = moved(figures_of)
    wide = dataclasses.replace(b, dtype="int16", scale=b.scale / 256)
    assert wide.channels.silenced
    found = find_causes(analysis(a, wide, c))
    assert "silenced_channels" not in {f.cause for f in found}


def test_an_option_that_the_file_was_made_with_is_not_advised(figures_of):
    coarse = dataclasses.replace(WEIGHTS, per_channel=False, sqnr_db=10.5, imbalance=5.0)
    noisy = NORMAL + RNG.normal(0, 0.3, NORMAL.shape)
    figures = analysis(figures_of(NORMAL, got=noisy, op="CONV_2D", weights=coarse))
    assert find_causes(figures)[0].remedy.flag == "--granularity=per_channel"
    for options, flag in (
        ({"granularity": "per_tensor"}, "--granularity=per_channel"),
        ({"granularity": "per_channel"}, None),
    ):
        assert find_causes(figures, options=options)[0].remedy.flag == flag


def test_16_bit_inputs_leave_the_weights_to_blame(figures_of):
    a = figures_of(NORMAL, "a", dtype="int16")
    noisy = NORMAL + RNG.normal(0, 0.3, NORMAL.shape)
    b = figures_of(NORMAL, "b", got=noisy, weights=WEIGHTS, inputs=("a",))
    (finding,) = find_causes(analysis(a, b))
    assert finding.title == "The op makes the rounding of its weights large"
    assert finding.remedy.flag is None


def entering(figures_of, values, ends, **more):
    x = figures_of(values, "x", ends=ends, **{"op": "INPUT", **more})
    bad = off(figures_of(NORMAL, "y", ends=(-150.0, 150.0), inputs=("x",)), 3.0)
    return analysis(x, bad)


PIXELS = np.linspace(0, 1, 4000 * 8).reshape(4000, 8)


@pytest.mark.parametrize(
    ("values", "ends", "more", "text"),
    [
        (255 * PIXELS, (0.0, 1.0), {}, "--scale=0.00392157"),
        (255 * PIXELS, (0.0, 1.0), {"op": "QUANTIZE"}, "--scale=0.00392157"),
        (255 * PIXELS, (-1.0, 1.0), {}, "--mean=127.5 --scale=0.00784314"),
        (255 * PIXELS, (-2.1, 2.6), {}, "Scale the samples as in training"),
        (16 * PIXELS, (0.0, 1.0), {}, "Scale the samples as in training"),
        (PIXELS, (0.0, 255.0), {}, "arrays times 255"),
    ],
)
def test_samples_of_another_scale_are_all_that_is_said(figures_of, values, ends, more, text):
    (finding,) = find_causes(entering(figures_of, values, ends, **more))
    assert (finding.tensor, finding.cause) == ("x", "unscaled_input")
    assert text in finding.remedy.text
    assert (finding.severity, finding.remedy.flag, finding.remedy.call) == (1.0, None, None)


@pytest.mark.parametrize(
    ("values", "ends", "options"),
    [
        (PIXELS, (0.0, 1.0), {}),
        (1.05 * PIXELS, (0.0, 1.0), {}),
        (PIXELS, (0.0, 40.0), {}),
        # Clipped as it was asked for.
        (2 * PIXELS, (0.0, 1.0), {"calibration": {"rule": "percentile", "percent": 50.0}}),
    ],
)
def test_samples_that_nearly_fit_are_judged_as_usual(figures_of, values, ends, options):
    found = find_causes(entering(figures_of, values, ends), options=options)
    assert "unscaled_input" not in {f.cause for f in found}
    assert found


def test_a_shift_may_be_there_though_biases_were_corrected(figures_of):
    shifted = NORMAL + 0.3
    figures = analysis(figures_of(NORMAL, got=shifted, op="CONV_2D", weights=WEIGHTS))
    (finding,) = find_causes(figures)
    assert finding.cause == "bias_error"
    assert finding.remedy.flag == "--bias_correction=sequential"
    assert "on by default" in finding.remedy.text
    for kept, text in (("", "tried and refused"), ("3 of 4 layers", "did not reach it")):
        given = {"improvements": {"bias_correction": kept}}
        (told,) = find_causes(figures, options=given)
        assert told.remedy.flag is None
        assert text in told.remedy.text


def test_titles_begin_with_a_capital(figures_of):
    (finding,) = find_causes(analysis(figures_of(NORMAL, ends=(-150.0, 150.0))))
    assert finding.title == "Outliers dominate the range"


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (243.4, 2, "240"),
        (9_712.0, 2, "9,700"),
        (1521.9615, 4, "1,522"),
        (1_234_567, 4, "1,235,000"),
        (38.3043, 4, "38.3"),
        (99.7, 2, "100"),
        (100.0, 2, "100"),
        (0.00617736, 3, "0.00618"),
        (-12.9486, 4, "-12.95"),
        (9.9996, 4, "10"),
        (0.0, 4, "0"),
        (0.25, 2, "0.25"),
        (1e-7, 3, "1e-07"),
    ],
)
def test_numbers_for_a_person(value, digits, text):
    assert number(value, digits) == text


def test_a_rule_for_very_many_layers_is_one_for_the_model():
    remedy = wider_layers([f"layer{i}" for i in range(40)], "Wider.")
    assert remedy.flag == "--scheme=int16x8"
    assert wider_layers([], "Wider.").flag == "--scheme=int16x8"


def test_a_finding_is_what_the_report_holds(figures_of):
    (finding,) = find_causes(analysis(figures_of(NORMAL, ends=(-150.0, 150.0))))
    plain = {"model": "m.tflite", **finding.as_dict()}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    shape = load_schema()["$defs"]["finding"]
    assert set(shape["required"]) == plain.keys()
    assert set(load_schema()["$defs"]["remedy"]["required"]) == plain["remedy"].keys()
    assert plain["layer"] is None
    assert plain["cause"] in CAUSES


def weights_of(values, **more):
    """int4 weights with one scale a channel, by their histogram."""
    peak = float(np.abs(values).max())
    counts = np.histogram(values, 64, (-peak, peak))[0]
    histogram = Histogram(-peak, peak, tuple(int(n) for n in counts))
    return WeightFigures("w", "int4", 4, True, 15.0, 1.5, histogram, **more)


def test_few_bits_for_weights_with_tails_want_another_scale(figures_of):
    noisy = NORMAL + RNG.normal(0, 0.2, NORMAL.shape)
    tails = weights_of(RNG.laplace(0, 1, 20_000))
    (finding,) = find_causes(analysis(figures_of(NORMAL, got=noisy, weights=tails)))
    assert finding.cause == "weights_too_coarse"
    assert finding.remedy.flag == "--weights=mse"
    even = weights_of(RNG.uniform(-1, 1, 20_000))
    for t, options in (
        (figures_of(NORMAL, got=noisy, weights=even), {}),
        (figures_of(NORMAL, got=noisy, weights=tails), {"weights": "mse"}),
    ):
        (finding,) = find_causes(analysis(t), options=options)
        assert finding.cause == "weights_too_coarse"
        assert finding.remedy.flag is None
        assert "--weight_bits=REGEX=8" in finding.remedy.text
        assert "quantization in the loop" in finding.remedy.text


def test_percentiles_that_would_clip_too_much_are_not_advised(figures_of):
    # One value in 16,000 is ten times as large: percentiles leave half of these out.
    values = NORMAL.copy()
    values.reshape(-1)[[0, 16_000]] = 40.0, -40.0
    assert max(np.abs(np.quantile(values, [5e-5, 1 - 5e-5]))) < 10
    figures = analysis(figures_of(values, ends=(-900.0, 900.0), bins=512))
    (finding,) = find_causes(figures, options={"calibration": "robust"})
    assert finding.cause == "outlier_range"
    assert finding.remedy.flag == "--calibration=mse"


def test_a_range_for_all_is_not_advised_where_it_would_be_as_bad(figures_of):
    values = np.tile(NORMAL, (32, 1))
    values[0, 0] = 150  # one in a million
    t = figures_of(values, ends=(-4.0, 4.0))
    (finding,) = find_causes(analysis(t))
    assert finding.cause == "saturating"
    assert finding.remedy.flag == "--int16='^t$' --output_type=int16"
    few = NORMAL.copy()
    few.reshape(-1)[:400] = 9
    (finding,) = find_causes(analysis(figures_of(few, ends=(-4.0, 4.0))))
    assert finding.remedy.flag == "--calibration=minmax"


@pytest.mark.parametrize(
    ("weights", "options", "flag"),
    [
        (WEIGHTS, {}, "--equalization=cross_layer"),
        (WEIGHTS, {"equalization": "cross_layer"}, "--int16='^(a|b)$'"),
        (dataclasses.replace(WEIGHTS, per_channel=False), {}, "--granularity=per_channel"),
        (None, {}, "--int16='^(a|b)$'"),
    ],
)
def test_silenced_channels_are_mended_where_they_are_made(figures_of, weights, options, flag):
    values = NORMAL * np.where(np.arange(8) < 2, 1e-3, 1.0)
    a = figures_of(values, "a", op="CONV_2D", weights=weights)
    b = figures_of(NORMAL, "b", got=NORMAL + RNG.normal(0, 0.3, NORMAL.shape), inputs=("a",))
    (finding,) = find_causes(analysis(a, b), options=options)
    assert (finding.tensor, finding.cause) == ("a", "silenced_channels")
    assert finding.text.startswith("2 of 8 channels vary")
    assert finding.remedy.flag == flag
