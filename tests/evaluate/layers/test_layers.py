"""Both readings against calculations by hand, and against other ways of running the same ops."""

import dataclasses
import math

import numpy as np
import pytest
from small_models import ACT, Net, cnn, config_of, draw, plan_of

from tfq.errors import DataError, ModelError
from tfq.evaluate.figures import as_dict
from tfq.evaluate.layers import LayerWork, analyse_layers, finish, isolate, merge, pair
from tfq.graph.model import Graph, Model, Op, Tensor, options_type
from tfq.graph.numerics import Grid, dequantize, quantize, weight_grid
from tfq.graph.optable import op_version
from tfq.plan.patterns import exclude_rules
from tfq.quantize.boundary import InputQuantizer
from tfq.runtime import Runner


def both(source, config=None, samples=None):
    """Prepared float bytes and the emitted bytes."""
    planned = plan_of(source, samples, config)
    return planned.prepared.bytes, planned.emit().model.to_bytes()


def analyse(source, config=None, count=5, **options):
    floats, quantized = both(source, config)
    samples = draw(floats, count, seed=3)
    return floats, quantized, samples, analyse_layers(floats, quantized, samples, **options)


def by_name(analysis):
    return {t.name: t for t in analysis.tensors}


def values_of(model, samples):
    """Name -> list of values, one for each sample, of all computed tensors."""
    graph = Model.from_bytes(model).main
    runner = Runner(model, keep_intermediates=True)
    quantizer = InputQuantizer(Model.from_bytes(model))
    read = {t for op in graph.ops for t in op.inputs} | set(graph.outputs)
    computed = [(i, t) for i, t in enumerate(graph.tensors()) if not t.is_const and t in read]
    found = {t.name: [] for _, t in computed}
    for sample in samples:
        runner.run(quantizer(sample))
        for i, t in computed:
            found[t.name].append(runner.tensor(i))
    return found


def reading_by_hand(expected, got, grid):
    y = np.stack(expected).astype(np.float64)
    off = np.stack([dequantize(q, grid) for q in got]).astype(np.float64) - y
    step = grid.scale[0]
    noise = np.sum(off**2)
    shifts = off.reshape(-1, y.shape[-1]).mean(axis=0)
    return {
        "sqnr_db": 10 * math.log10(np.sum(y**2) / noise) if noise else math.inf,
        "mean_lsb": np.mean(np.abs(off)) / step,
        "max_lsb": np.max(np.abs(off)) / step,
        "bias_lsb": abs(np.mean(off)) / step,
        "worst_bias_lsb": np.max(np.abs(shifts)) / step,
        "shift": np.mean(shifts**2) * off.size / noise if noise else 0.0,
    }


def assert_reading(reading, by_hand):
    assert dataclasses.asdict(reading) == pytest.approx(by_hand, rel=1e-4, abs=1e-4)


def grid_of(t):
    return Grid(t.dtype, (t.scale,), (t.zero_point,))


def alone(quantized, name, sources):
    """The op that computes `name` in a model of its own; returns a function of its inputs."""
    graph = Model.from_bytes(quantized).main
    ops, wanted = [], {name}
    for op in reversed(graph.ops):
        if any(t.name in wanted for t in op.outputs):
            ops.insert(0, op)
            wanted |= {t.name for t in op.inputs if t is not None and t.name not in sources}
    inputs = [t for t in graph.tensors() if t.name in sources]
    result = next(t for t in graph.tensors() if t.name == name)
    data = Model([Graph("alone", ops, inputs, [result])]).to_bytes()
    runner = Runner(data)
    grids = {t.name: Grid.of(t.dtype, t.quant) for t in inputs}

    def run(values):
        return runner.run({n: quantize(v, grids[n]) for n, v in values.items()})[name]

    return run


def assert_isolated(figures, quantized, floats):
    """The isolated reading is that of the op alone, fed with the float model's values."""
    run = alone(quantized, figures.name, figures.inputs)
    count = len(floats[figures.name])
    got = [run({n: floats[n][i] for n in figures.inputs}) for i in range(count)]
    by_hand = reading_by_hand(floats[figures.name], got, grid_of(figures))
    assert_reading(figures.isolated, by_hand)


# --- the two readings -----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_both_readings_of_every_tensor_are_those_of_a_calculation_by_hand(scheme):
    floats, quantized, samples, analysis = analyse(cnn(), config_of(scheme))
    expected, got = values_of(floats, samples), values_of(quantized, samples)
    names = ["image", "conv", "point", "residual", "depthwise", "pooled", "logits"]
    assert [t.name for t in analysis.tensors] == [*names, "probabilities"]
    assert analysis.samples == 5
    assert analysis.unmatched == ()
    for t in analysis.tensors:
        assert t.dtype == scheme.removesuffix("x8")
        by_hand = reading_by_hand(expected[t.name], got[t.name], grid_of(t))
        assert_reading(t.accumulated, by_hand)
        if t.op == "INPUT":
            assert t.isolated == t.accumulated
        else:
            assert_isolated(t, quantized, expected)
    found = by_name(analysis)
    assert found["residual"].inputs == ("conv", "point")
    assert found["image"].op == "INPUT"
    assert found["image"].inputs == ()
    # Error piles up along the way, but not in what one layer does.
    assert found["logits"].isolated.sqnr_db > found["logits"].accumulated.sqnr_db


def activation_model():
    net = Net(4)
    x = net.input(1, 6, 6, 3, name="x")
    a = net.conv(x, 4, out="conv")
    b = net.op("SIN", a, out="sine")
    return net.bytes(net.conv(b, 3, out="y"))


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_a_table_lies_between_its_argument_and_its_result(scheme):
    floats, quantized, samples, analysis = analyse(activation_model(), config_of(scheme))
    assert "GATHER" in [op.name for op in Model.from_bytes(quantized).main.ops]
    sine = by_name(analysis)["sine"]
    assert sine.inputs == ("conv",)
    assert sine.op == "GATHER"
    assert sine.weights is None
    expected = values_of(floats, samples)
    conv = by_name(analysis)["conv"]
    # What it computes is the sine of the rounded argument.
    rounded = [dequantize(quantize(v, grid_of(conv)), grid_of(conv)) for v in expected["conv"]]
    got = [quantize(np.sin(v), grid_of(sine)) for v in rounded]
    by_hand = reading_by_hand(expected["sine"], got, grid_of(sine))
    assert sine.isolated.sqnr_db == pytest.approx(by_hand["sqnr_db"], abs=0.05)
    assert_isolated(sine, quantized, expected)


def concat_model():
    net = Net(2)
    x = net.input(1, 6, 6, 2, name="x")
    small = net.conv(x, 3, act=ACT.RELU6, out="small")
    weights = net.rng.normal(0, 5, (3, 3, 3, 2))
    large = net.conv(x, 3, weights=weights, out="large")
    both = net.concat(small, large, out="both")
    return net.bytes(net.conv(both, 2, size=1, out="y"))


def test_a_concatenation_shares_its_grid():
    floats, quantized, samples, analysis = analyse(concat_model())
    found = by_name(analysis)
    assert {"small", "large", "both"} <= set(found)
    expected = values_of(floats, samples)
    assert set(found["both"].inputs) == {"small", "large"}
    assert_isolated(found["both"], quantized, expected)
    grids = {n: (found[n].scale, found[n].zero_point) for n in ("small", "large", "both")}
    sharing = {n for n in ("small", "large") if grids[n] == grids["both"]}
    assert sharing
    assert {n for n, _ in found["both"].shares_with} == sharing
    for other, observed in found["both"].shares_with:
        assert observed == found[other].observed
        assert observed[1] == max(v.max() for v in expected[other])
    assert found["y"].shares_with == ()


# --- what is float in the model -------------------------------------------------------------------


def test_a_float_boundary_is_compared_where_the_integers_begin_and_end():
    config = config_of(input_type="float32", output_type="float32")
    floats, quantized, samples, analysis = analyse(cnn(), config)
    found = by_name(analysis)
    assert "image/int8" in found
    assert found["image/int8"].op == "QUANTIZE"
    assert found["probabilities/int8"].op == "SOFTMAX"
    assert found["conv"].inputs == ("image/int8",)
    assert analysis.unmatched == ()
    expected, got = values_of(floats, samples), values_of(quantized, samples)
    last = found["probabilities/int8"]
    by_hand = reading_by_hand(expected["probabilities"], got["probabilities/int8"], grid_of(last))
    assert_reading(last.accumulated, by_hand)
    first = found["image/int8"]
    rounded = [quantize(s["image"], grid_of(first)) for s in samples]
    by_hand = reading_by_hand(expected["image"], rounded, grid_of(first))
    assert first.isolated.sqnr_db == pytest.approx(by_hand["sqnr_db"], abs=1e-3)
    assert first.isolated.sqnr_db == first.accumulated.sqnr_db


def test_a_uint8_boundary_is_one_tensor_with_what_is_inside():
    config = config_of(input_type="uint8", output_type="uint8")
    floats, quantized, samples, analysis = analyse(cnn(), config)
    found = by_name(analysis)
    assert found["image"].dtype == "uint8"
    assert found["probabilities"].op == "SOFTMAX"
    assert "image/int8" not in found
    assert analysis.unmatched == ()
    expected, got = values_of(floats, samples), values_of(quantized, samples)
    t = found["probabilities"]
    by_hand = reading_by_hand(expected[t.name], got[t.name], grid_of(t))
    assert_reading(t.accumulated, by_hand)
    assert_isolated(t, quantized, expected)


def test_around_a_float_op_the_float_values_themselves_are_read():
    config = config_of(rules=exclude_rules(("^residual$",)))
    floats, _, samples, analysis = analyse(cnn(), config)
    found = by_name(analysis)
    assert "residual" not in found
    copy = found["residual/int8"]
    # The float sum is that of the float model: only its rounding is left.
    expected = values_of(floats, samples)["residual"]
    got = [quantize(v, grid_of(copy)) for v in expected]
    by_hand = reading_by_hand(expected, got, grid_of(copy))
    assert copy.isolated.sqnr_db == pytest.approx(by_hand["sqnr_db"], abs=1e-3)
    assert copy.accumulated.sqnr_db < copy.isolated.sqnr_db
    # Edges pass through what is float.
    assert set(copy.inputs) == {"conv", "point"}
    assert found["depthwise"].inputs == ("residual/int8",)


# --- models that match in part --------------------------------------------------------------------


def renamed(quantized, old, new):
    model = Model.from_bytes(quantized)
    next(t for t in model.main.tensors() if t.name == old).name = new
    return model.to_bytes()


def test_a_tensor_without_counterpart_lies_inside():
    floats, quantized = both(cnn())
    strange = renamed(quantized, "point", "other/name")
    samples = draw(floats, 3, seed=3)
    analysis = analyse_layers(floats, strange, samples)
    assert analysis.unmatched == ("other/name",)
    residual = by_name(analysis)["residual"]
    assert residual.inputs == ("conv",)
    assert_isolated(residual, strange, values_of(floats, samples))
    whole = by_name(analyse_layers(floats, quantized, samples))["residual"]
    assert residual.accumulated == whole.accumulated
    assert residual.isolated != whole.isolated


def test_inputs_are_matched_by_place_where_names_differ():
    floats, quantized = both(cnn())
    samples = draw(floats, 3, seed=3)
    whole = analyse_layers(floats, quantized, samples)
    found = by_name(analyse_layers(floats, renamed(quantized, "image", "input_0"), samples))
    assert found["input_0"].accumulated == by_name(whole)["image"].accumulated
    assert found["conv"].isolated == by_name(whole)["conv"].isolated


def test_models_with_other_inputs_are_refused():
    floats, _ = both(cnn(size=8))
    _, quantized = both(cnn(size=10))
    with pytest.raises(ModelError, match=r"different inputs.*\[1, 8, 8, 2\].*\[1, 10, 10, 2\]"):
        pair(floats, quantized)


# --- figures --------------------------------------------------------------------------------------


def test_ranges_saturation_and_channels_are_those_of_the_values():
    net = Net()
    x = net.input(1, 5, 5, 2, name="x")
    weights = net.rng.normal(0, 0.3, (6, 1, 1, 2))
    weights[1], weights[2], weights[3] = 0, weights[2] * 1e-4, weights[3] * 20
    bias = np.zeros(6)
    y = net.conv(x, 6, size=1, weights=weights, bias=bias, act=ACT.RELU, out="y")
    source = net.bytes(net.conv(y, 2, out="z"))
    calibration = draw(source, 20)
    planned = plan_of(source, calibration)
    floats, quantized = planned.prepared.bytes, planned.emit().model.to_bytes()
    samples = [{"x": 2 * s["x"]} for s in draw(floats, 6, seed=9)]  # Beyond the grid.
    figures = by_name(analyse_layers(floats, quantized, samples))["y"]
    values = np.stack(values_of(floats, samples)["y"]).astype(np.float64)
    low, high = figures.grid
    assert figures.observed == (values.min(), values.max())
    beyond = np.mean(values > high + figures.scale / 2)
    assert beyond > 0
    assert figures.saturation == pytest.approx(beyond, rel=1e-12)
    assert figures.used == 1.0
    assert figures.power == pytest.approx(np.mean(values**2), rel=1e-5)
    assert figures.percentile_range[1] == pytest.approx(np.quantile(values, 0.99995), rel=0.02)
    peaks = values.reshape(-1, 6).max(axis=0)
    live = peaks[peaks > 0]
    assert figures.channels.count == 6
    assert figures.channels.dead == np.sum(peaks == 0) == 1
    assert figures.channels.imbalance == pytest.approx(live.max() / np.median(live), rel=1e-6)
    integers = np.stack(values_of(quantized, samples)["y"]).reshape(-1, 6)
    constant = np.all(integers == integers[0], axis=0)
    assert figures.channels.silenced == np.sum(constant & (peaks > 0)) == 1
    assert low == 0


def test_the_used_share_of_a_grid_too_wide_is_small():
    net = Net()
    x = net.input(1, 4, 4, 3, name="x")
    source = net.bytes(net.conv(x, 2, out="y"))
    planned = plan_of(source, [{"x": 10 * s["x"]} for s in draw(source, 10)])
    floats, quantized = planned.prepared.bytes, planned.emit().model.to_bytes()
    samples = draw(floats, 4, seed=2)
    for t in analyse_layers(floats, quantized, samples).tensors:
        steps = round((t.observed[1] - t.observed[0]) / t.scale)
        assert t.used == pytest.approx((steps + 1) / 256, abs=1 / 256)
        assert t.used < 0.3
        assert t.saturation == 0


def test_histograms_hold_every_value_once():
    floats, quantized, samples, analysis = analyse(cnn())
    expected, got = values_of(floats, samples), values_of(quantized, samples)
    for t in analysis.tensors:
        h = t.histogram
        real = np.stack(expected[t.name])
        assert len(h.float_counts) == len(h.quantized_counts) == 64
        assert sum(h.float_counts) == sum(h.quantized_counts) == real.size
        assert h.low <= t.observed[0]
        assert h.high >= t.observed[1]
        edges = np.linspace(h.low, h.high, 65)
        exact = np.cumsum(np.histogram(real, edges)[0]) / real.size
        # Bins of the sketch are split where an edge cuts them.
        assert np.abs(np.cumsum(h.float_counts) / real.size - exact).max() < max(
            0.03, 2 / real.size
        )
        integers = dequantize(np.stack(got[t.name]), grid_of(t)).astype(np.float64)
        half = t.scale / 2
        below = np.cumsum(h.quantized_counts)[:-1]
        for n, edge in zip(below, edges[1:-1], strict=True):
            assert np.sum(integers < edge - half) - 1 <= n <= np.sum(integers <= edge + half) + 1


def with_4_bit_logits(quantized, floats):
    """The same model with 4-bit weights in its dense layer."""
    model = Model.from_bytes(quantized)
    op = next(op for op in model.main.ops if op.name == "FULLY_CONNECTED")
    x, weights, bias = op.inputs
    real = next(t for t in Model.from_bytes(floats).main.tensors() if t.name == weights.name)
    scales = np.abs(real.values()).max(axis=1) / 7
    grid = weight_grid(scales, "int4", 0)
    weights.dtype, weights.quant = "int4", grid.quant()
    weights.data = quantize(real.values(), grid, narrow=True)
    biases = dequantize(bias.data, Grid.of(bias.dtype, bias.quant))
    bias.quant = dataclasses.replace(bias.quant, scale=x.quant.scale * grid.quant().scale)
    bias.data = np.rint(biases / bias.quant.scale).astype(np.int32)
    op.version = op_version(op)
    return model.to_bytes()


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_are_compared_with_the_float_ones(bits):
    floats, quantized = both(cnn())
    if bits == 4:
        quantized = with_4_bit_logits(quantized, floats)
    analysis = analyse_layers(floats, quantized, draw(floats, 3, seed=3))
    constants = {t.name: t for t in Model.from_bytes(floats).main.tensors() if t.is_const}
    own = {t.name: t for t in Model.from_bytes(quantized).main.tensors() if t.is_const}
    weighted = [t for t in analysis.tensors if t.weights is not None]
    ops = ["CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]
    assert [t.op for t in weighted] == ops
    assert weighted[-1].weights.bits == bits
    for t in weighted:
        w = t.weights
        real = constants[w.name].values().astype(np.float64)
        given = own[w.name]
        off = dequantize(given.values(), Grid.of(given.dtype, given.quant)) - real
        assert w.sqnr_db == pytest.approx(10 * math.log10(np.sum(real**2) / np.sum(off**2)))
        assert w.dtype == given.dtype == f"int{w.bits}"
        assert w.per_channel
        axis = 3 if t.op == "DEPTHWISE_CONV_2D" else 0
        peaks = np.abs(np.moveaxis(real, axis, 0).reshape(real.shape[axis], -1)).max(axis=1)
        assert w.imbalance == pytest.approx(peaks.max() / np.median(peaks))
        assert sum(w.histogram.float_counts) == sum(w.histogram.quantized_counts) == real.size


def test_layers_have_the_names_given():
    *_, analysis = analyse(cnn(), layer_names={"conv": "block/conv"})
    assert by_name(analysis)["conv"].layer == "block/conv"
    assert by_name(analysis)["point"].layer == ""
    listed = as_dict(analysis)
    assert listed[1]["layer"] == "block/conv"
    assert listed[3]["inputs"] == [1, 2]


def test_an_exact_tensor_has_no_noise():
    net = Net()
    x = net.input(1, 4, 4, 2, name="x")
    source = net.bytes(net.op("RESHAPE", x, net.const([1, 32], "int32"), shape=(1, 32), out="y"))
    floats, quantized = both(source)
    grid = next(Grid.of(t.dtype, t.quant) for t in Model.from_bytes(quantized).main.inputs)
    on_grid = dequantize(np.arange(-16, 16, dtype=np.int8).reshape(1, 4, 4, 2), grid)
    for t in analyse_layers(floats, quantized, [{"x": on_grid}]).tensors:
        assert t.isolated.sqnr_db == t.accumulated.sqnr_db == math.inf
        assert t.isolated.max_lsb == 0


# --- splitting ------------------------------------------------------------------------------------


def stacked(samples):
    return {n: np.stack([s[n] for s in samples]) for n in samples[0]}


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_shards_and_threads_change_no_bit(scheme):
    floats, quantized = both(cnn(size=20), config_of(scheme))
    samples = draw(floats, 9, seed=3)
    pairing = pair(floats, quantized)
    isolated = isolate(pairing)
    results = []
    for size, threads in ((9, 1), (1, 1), (4, 2), (2, 1)):
        work = LayerWork(pairing, isolated)
        parts = [work(stacked(samples[i : i + size]), threads) for i in range(0, 9, size)]
        if size == 1:
            parts.reverse()
        results.append(finish(pairing, merge(parts)))
    assert all(r == results[0] for r in results[1:])
    assert results[0].samples == 9


def test_work_and_its_results_can_be_sent():
    import pickle

    floats, quantized = both(cnn())
    samples = stacked(draw(floats, 3, seed=3))
    pairing = pair(floats, quantized)
    work = LayerWork(pairing, isolate(pairing))
    here = work(samples, 2)
    sent = pickle.loads(pickle.dumps(work))
    there = pickle.loads(pickle.dumps(sent(samples, 1)))
    assert finish(pairing, merge([here])) == finish(pairing, merge([there]))
    # Merging leaves its arguments as they are.
    twice = merge([there, there])
    assert twice.samples == 6
    assert there.samples == 3
    assert there.tallies["conv"].sketch.count * 2 == twice.tallies["conv"].sketch.count


def test_progress_counts_samples():
    floats, quantized = both(cnn())
    seen = []
    analyse_layers(floats, quantized, draw(floats, 11), progress=seen.append)
    assert seen == [8, 11]


# --- what cannot be done --------------------------------------------------------------------------


def test_no_samples_and_wrong_samples_are_said():
    floats, quantized = both(cnn())
    with pytest.raises(DataError, match="no samples"):
        analyse_layers(floats, quantized, [])
    with pytest.raises(DataError, match=r"'image' takes float32\[1, 8, 8, 2\]"):
        analyse_layers(floats, quantized, [{"image": np.zeros((1, 7, 8, 2), np.float32)}])
    with pytest.raises(DataError, match="lack input 'image'"):
        analyse_layers(floats, quantized, [{"picture": np.zeros((1, 8, 8, 2), np.float32)}])
    bad = np.full((1, 8, 8, 2), np.nan, np.float32)
    with pytest.raises(DataError, match="Input 'image' holds NaN"):
        analyse_layers(floats, quantized, [{"image": bad}])


def test_an_op_that_cannot_be_cut_out_has_one_reading_and_a_reason(monkeypatch):
    from tfq.evaluate.layers import hybrid

    monkeypatch.setattr(hybrid, "_APART", ("ADD",))
    *_, analysis = analyse(cnn())
    found = by_name(analysis)
    assert found["residual"].isolated is None
    assert found["residual"].note == "ADD cannot be run apart from the model"
    assert found["residual"].accumulated.sqnr_db > 0
    assert found["depthwise"].isolated is not None
    assert as_dict(analysis)[3]["isolated"] is None
    assert found["depthwise"].note == ""


def test_what_does_not_run_is_left_out_and_the_rest_stays_one_model(monkeypatch):
    from tfq.evaluate.layers import hybrid

    def refusal(data, *, check):
        names = {t.name for t in Model.from_bytes(data).main.tensors()}
        return "it crashes" if "tfq/isolated/residual" in names else ""

    monkeypatch.setattr(hybrid, "_refusal", refusal)
    floats, quantized = both(cnn())
    isolated = isolate(pair(floats, quantized))
    assert isolated.reasons == {"residual": "it crashes"}
    assert len(isolated.models) == 1
    assert set(isolated.index) == {
        "conv",
        "point",
        "depthwise",
        "pooled",
        "logits",
        "probabilities",
    }


def test_targets_that_do_not_run_together_run_apart(monkeypatch):
    from tfq.evaluate.layers import hybrid

    def refusal(data, *, check):
        found = {t.name for t in Model.from_bytes(data).main.tensors()}
        return "too large" if {"tfq/isolated/conv", "tfq/isolated/logits"} <= found else ""

    floats, quantized = both(cnn())
    samples = draw(floats, 3, seed=3)
    whole = analyse_layers(floats, quantized, samples)
    monkeypatch.setattr(hybrid, "_refusal", refusal)
    assert len(isolate(pair(floats, quantized)).models) == 2
    assert analyse_layers(floats, quantized, samples) == whole


def test_a_float_model_that_does_not_run_is_an_error(monkeypatch):
    from tfq.evaluate.layers import hybrid

    monkeypatch.setattr(hybrid, "_refusal", lambda data, *, check: "it crashes")
    floats, quantized = both(cnn())
    with pytest.raises(ModelError, match="The float model does not run: it crashes"):
        isolate(pair(floats, quantized))


def test_indices_and_masks_are_those_of_the_float_model():
    net = Net(3)
    x = net.input(1, 6, 6, 2, name="x")
    which = net.input(4, name="which", dtype="int32")
    y = net.conv(x, 4, size=1, out="y")
    options = options_type("GatherOptions")()
    options.axis = 3
    z = net.op("GATHER", y, which, shape=(1, 6, 6, 4), out="z", options=options)
    source = net.bytes(z)
    rng = np.random.default_rng(0)
    samples = [
        {
            "x": rng.normal(0, 1, (1, 6, 6, 2)).astype(np.float32),
            "which": rng.integers(0, 4, 4).astype(np.int32),
        }
        for _ in range(5)
    ]
    floats, quantized = both(source, samples=samples)
    analysis = analyse_layers(floats, quantized, samples)
    z = by_name(analysis)["z"]
    expected = values_of(floats, samples)["z"]
    by_hand = reading_by_hand(expected, [quantize(v, grid_of(z)) for v in expected], grid_of(z))
    assert z.isolated.sqnr_db == pytest.approx(by_hand["sqnr_db"], abs=0.01)
    assert {n for n, _ in z.shares_with} == {"y"}


def test_a_second_output_that_nobody_reads_is_analysed():
    net = Net(3)
    x = net.input(1, 4, 8, name="x")
    a, b = (net.op("RESHAPE", x, shape=(1, 4, 4), out=n) for n in ("a", "b"))
    net.ops = [
        Op("SPLIT", [net.const(2, "int32"), x], [a, b], options_type("SplitOptions")()),
    ]
    net.ops[0].options.numSplits = 2
    source = net.bytes(net.op("TANH", a, out="y"))
    floats, quantized, samples, analysis = analyse(source)
    found = by_name(analysis)
    expected = values_of(floats, samples)
    for name, part in (("a", slice(0, 4)), ("b", slice(4, 8))):
        values = [s["x"][..., part] for s in samples]
        assert found[name].observed == (np.min(values), np.max(values))
        grid = grid_of(found[name])
        by_hand = reading_by_hand(values, [quantize(v, grid) for v in values], grid)
        assert_reading(found[name].isolated, by_hand)
    assert {n for n, _ in found["b"].shares_with} >= {"a"}
    assert_isolated(found["a"], quantized, expected)


def test_a_state_starts_anew_for_every_sample():
    net = Net()
    x = net.input(1, 4, name="x")
    variable = options_type("VarHandleOptions")()
    variable.container, variable.sharedName = "", "state"
    assign = options_type("AssignVariableOptions")()
    once = options_type("CallOnceOptions")()
    once.initSubgraphIndex = 1
    net.ops.append(Op("CALL_ONCE", [], [], once))
    handle = net.op("VAR_HANDLE", shape=(), dtype="resource", options=variable, out="handle")
    read = options_type("ReadVariableOptions")()
    old = net.op("READ_VARIABLE", handle, shape=(1, 4), dtype="float32", options=read, out="old")
    new = net.op("ADD", net.op("MUL", old, 0.5), net.op("TANH", x), out="new")
    net.ops.append(Op("ASSIGN_VARIABLE", [handle, new], [], assign))
    model = net.model(net.dense(new, 3, out="y"))
    inner = Tensor("inner", (), "resource")
    start = net.const(np.full((1, 4), 0.3), name="start")
    first = [
        Op("VAR_HANDLE", [], [inner], variable),
        Op("ASSIGN_VARIABLE", [inner, start], [], assign),
    ]
    model.graphs.append(Graph("start", first, [], []))
    source = model.to_bytes()
    island = ("READ_VARIABLE", "ASSIGN_VARIABLE")
    floats, quantized = both(source, config_of(allow_float=island))
    samples = draw(floats, 6, seed=3)
    pairing = pair(floats, quantized)
    isolated = isolate(pairing)
    whole = finish(pairing, merge([LayerWork(pairing, isolated)(stacked(samples), 1)]))
    work = LayerWork(pairing, isolated)
    parts = [work(stacked(samples[i : i + 3]), 2) for i in (3, 0)]
    assert finish(pairing, merge(parts)) == whole
    found = by_name(whole)
    assert found["old/int8"].observed == pytest.approx((0.3, 0.3))
    runner = Runner(floats)
    largest = max(float(runner.run(s)["y"].max()) for s in samples[:1])
    assert found["y"].observed[1] >= largest


@pytest.mark.slow
@pytest.mark.parametrize("boundary", ["int8", "float32"])
def test_files_of_tensorflow_itself(boundary, tmp_path):
    tf = pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    layers = keras.layers
    keras.utils.set_random_seed(0)
    x = first = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3, activation="relu")(x)
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    x = layers.Concatenate()([layers.MaxPooling2D(2)(x), layers.AveragePooling2D(2)(x)])
    x = layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    keras.Model(first, x).export(str(tmp_path), verbose=False)
    data = np.random.default_rng(0).normal(0, 1, (30, 1, 12, 12, 3)).astype(np.float32)
    floats = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path)).convert()
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([v] for v in data)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if boundary == "int8":
        converter.inference_input_type = converter.inference_output_type = tf.int8
    quantized = converter.convert()
    name = Model.from_bytes(floats).main.inputs[0].name
    analysis = analyse_layers(floats, quantized, [{name: v} for v in data[:5]])
    assert analysis.unmatched == ()
    ops = [t.op for t in analysis.tensors]
    assert ops[0] == ("INPUT" if boundary == "int8" else "QUANTIZE")
    assert ops[-1] == "SOFTMAX"
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "CONCATENATION", "MEAN"} <= set(ops)
    for t in analysis.tensors:
        assert t.isolated.sqnr_db > 25
        assert t.isolated.sqnr_db >= t.accumulated.sqnr_db - 1
    joined = next(t for t in analysis.tensors if t.op == "CONCATENATION")
    assert len(joined.shares_with) >= 2
