"""Every grid of a plan."""

import numpy as np
import pytest
from small_models import ACT, Net, cnn, config_of, draw, plan_of

from tfq.calibrate.rules import get_rule
from tfq.calibrate.weight_rules import weight_scales
from tfq.errors import TfqError
from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.numerics import FLOAT, Grid, asymmetric_grid, dequantize, quantize
from tfq.plan.planner import make_plan
from tfq.plan.scheme import LayerRule
from tfq.runtime import Runner


def dense(weights, bias=None, *, spread=1.0, config=None, out="y"):
    net = Net()
    units, channels = np.shape(weights)
    x = net.input(1, channels, name="x")
    y = net.dense(
        x, units, weights=weights, bias=np.zeros(units) if bias is None else bias, out=out
    )
    source = net.bytes(y)
    samples = [{k: v * spread for k, v in s.items()} for s in draw(source, 20)]
    samples = [{k: v.astype(np.float32) for k, v in s.items()} for s in samples]
    return source, samples, plan_of(source, samples, config)


def run(planned, samples):
    emitted = planned.emit().model
    runner, feed = Runner(emitted.to_bytes()), InputQuantizer(emitted)
    return [dequantized(emitted, runner.run(feed(s))) for s in samples]


# --- activations ----------------------------------------------------------------------------------


def test_grids_are_those_of_the_rule():
    source = cnn()
    config = config_of(calibration=get_rule("minmax"))
    planned = plan_of(source, config=config)
    sketch = planned.statistics["logits"]
    assert planned.grid("logits") == asymmetric_grid(float(sketch.min), float(sketch.max))
    assert planned.plan.tensors["logits"].reason.startswith("minmax [")
    assert planned.plan.config == config.as_dict()
    assert planned.plan.model_sha256 == planned.prepared.sha256


def test_int16_is_symmetric_with_a_quarter_to_spare():
    planned = plan_of(cnn(), config=config_of("int16x8", calibration=get_rule("minmax")))
    grid, sketch = planned.grid("logits"), planned.statistics["logits"]
    bound = max(-float(sketch.min), float(sketch.max))
    assert (grid.dtype, grid.zero_point) == ("int16", (0,))
    assert grid.scale[0] == pytest.approx(1.25 * bound / 32767, rel=1e-6)


def test_a_tensor_that_is_always_zero_has_a_grid_all_the_same():
    _, samples, planned = dense(np.zeros((3, 4)))
    assert planned.plan.tensors["y"].reason == "always zero on the samples"
    for got in run(planned, samples):
        np.testing.assert_array_equal(got["y"], np.zeros((1, 3)))


def test_constants_beside_moved_values_fit_the_shared_grid():
    net = Net()
    x = net.input(1, 4, name="x")
    y = net.op("MAXIMUM", x, net.const([[50.0, -50, 0, 0]]), out="y")
    planned = plan_of(net.bytes(y))
    assert planned.grid("y").range()[1] >= 49.9
    assert planned.plan.ops["y"].edges[1] == planned.grid("y")


def test_a_constant_operand_has_its_own_grid():
    net = Net()
    y = net.op("MUL", net.input(1, 4), net.const([[0.0, 3, 1, 2]]), out="y")
    planned = plan_of(net.bytes(y))
    assert planned.plan.ops["y"].edges[1] == asymmetric_grid(0, 3)


def test_missing_statistics_are_an_error_that_names_the_tensor():
    planned = plan_of(cnn())
    with pytest.raises(TfqError, match="has no statistics"):
        make_plan(planned.graph, planned.layout, None, planned.config, {}, model_sha256="")


# --- weights --------------------------------------------------------------------------------------


def test_weights_have_a_scale_per_channel():
    w = np.array([[1.0, 0.5, -0.25, 0.1], [0.01, 0.02, -0.04, 0.01]])
    _, _, planned = dense(w)
    grid = planned.plan.ops["y"].edges[1]
    assert grid.axis == 0
    np.testing.assert_allclose(grid.scale, [1 / 127, 0.04 / 127], rtol=1e-6)
    assert grid.zero_point == (0, 0)


@pytest.mark.parametrize("options", [{"granularity": "per_tensor"}, {}])
def test_dense_layers_alone_per_tensor(options):
    planned = plan_of(cnn(), config=config_of(dense_granularity="per_tensor", **options))
    assert len(planned.plan.ops["logits"].edges[1].scale) == 1
    assert len(planned.plan.ops["logits"].edges[2].scale) == 1
    conv = planned.plan.ops["conv"].edges[1]
    assert len(conv.scale) == (1 if options else 6)


def test_convolutions_alone_per_tensor():
    planned = plan_of(cnn(), config=config_of(granularity="per_tensor"))
    assert [len(planned.plan.ops[n].edges[1].scale) for n in ("conv", "depthwise", "logits")] == [
        1,
        1,
        5,
    ]


def test_a_rule_sets_the_granularity_of_a_layer():
    rules = (LayerRule(regex="^conv$", granularity="per_tensor"),)
    planned = plan_of(cnn(), config=config_of(rules=rules))
    assert len(planned.plan.ops["conv"].edges[1].scale) == 1
    assert len(planned.plan.ops["point"].edges[1].scale) == 6


@pytest.mark.parametrize("scheme", ["dynamic", "weight_only"])
def test_a_rule_sets_the_granularity_of_stored_weights(scheme):
    net = Net()
    x = net.input(1, 16, name="x")
    y = net.dense(net.dense(x, 8, out="a"), 8, out="b")
    rules = (LayerRule(regex="^a$", granularity="per_tensor"),)
    plan = plan_of(net.bytes(y), config=config_of(scheme, rules=rules)).plan
    assert [len(plan.ops[n].edges[1].scale) for n in "ab"] == [1, 8]


def test_depthwise_channels_are_the_last_axis():
    planned = plan_of(cnn())
    assert planned.plan.ops["depthwise"].edges[1].axis == 3
    assert planned.plan.ops["conv"].edges[1].axis == 0


def test_mse_scales():
    planned = plan_of(cnn(), config=config_of(weights="mse"))
    w = planned.op("conv").input(1).values()
    expected = weight_scales(w, axis=0, bits=8, rule="mse")
    assert planned.plan.ops["conv"].edges[1].scale == tuple(float(s) for s in expected)


@pytest.mark.parametrize(("scheme", "dtype"), [("int8", "int32"), ("int16x8", "int64")])
def test_the_bias_grid_is_exactly_input_times_weights(scheme, dtype):
    planned = plan_of(cnn(), config=config_of(scheme))
    for name, source in (("conv", "image"), ("point", "conv"), ("logits", "pooled")):
        op = planned.plan.ops[name]
        scales = np.float32(planned.grid(source).scale[0]) * np.array(op.edges[1].scale, np.float32)
        assert op.edges[2].dtype == dtype
        assert op.edges[2].scale == tuple(float(s) for s in scales)
        assert set(op.edges[2].zero_point) == {0}


def test_a_bias_that_would_overflow_int32_raises_its_weights_scale():
    net = Net()
    x = net.input(1, 2, name="x")
    w = np.array([[1e-3, 2e-3], [0.5, 0.25]])
    bias = np.array([-5000.0, 0.0])
    y = net.dense(x, 2, weights=w, bias=bias, act=ACT.RELU, out="y")
    source = net.bytes(y)
    samples = [{"x": s["x"] * np.float32(1e-3)} for s in draw(source, 20)]
    planned = plan_of(source, samples)
    edges = planned.plan.ops["y"].edges
    plain = weight_scales(w, axis=0, bits=8)
    assert edges[1].scale[0] > plain[0] * 100
    assert edges[1].scale[1] == plain[1]
    b = quantize(bias, edges[2])
    np.testing.assert_allclose(dequantize(b, edges[2]), bias, rtol=1e-6)
    assert abs(int(b[0])) <= 2**30 * 1.0001
    for got, sample in zip(run(planned, samples), samples, strict=True):
        expected = np.maximum(sample["x"] @ w.T + bias, 0)
        np.testing.assert_allclose(got["y"], expected, atol=3 * planned.grid("y").scale[0])


def test_a_bias_that_would_overflow_with_one_scale_for_all():
    w = np.array([[1e-3, 2e-3], [5e-4, 2e-4]])
    config = config_of(dense_granularity="per_tensor")
    _, _, planned = dense(w, np.array([5000.0, 1.0]), spread=1e-3, config=config)
    edges = planned.plan.ops["y"].edges
    assert len(edges[1].scale) == 1
    assert abs(int(quantize(np.array([5000.0]), edges[2])[0])) <= 2**30 * 1.0001


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_dead_channels_load_and_give_their_bias(scheme):
    w = np.array([[0.0, 0], [1.0, -1], [1e-12, 0]])
    _, samples, planned = dense(w, np.array([0.5, 0.0, -0.5]), config=config_of(scheme))
    step = planned.grid("y").scale[0]
    for got in run(planned, samples):
        np.testing.assert_allclose(got["y"][0, [0, 2]], [0.5, -0.5], atol=step)


def test_an_output_too_narrow_for_its_weights_is_widened():
    # Rows whose products cancel: |y| is far below what one step of input times weight means.
    net = Net()
    x = net.input(1, 2, name="x")
    same = net.concat(x, x, out="same")
    y = net.dense(same, 1, weights=[[1000.0, 0, -1000, 1e-4]], bias=np.zeros(1), out="y")
    planned = plan_of(net.bytes(y))
    x_scale, w_scale = planned.grid("same").scale[0], planned.plan.ops["y"].edges[1].scale[0]
    assert x_scale * w_scale / planned.grid("y").scale[0] <= 128 * 1.001
    run(planned, draw(net.bytes(y), 2))


# --- the boundary ---------------------------------------------------------------------------------

ONE_255 = float(np.float32(1 / 255))


@pytest.mark.parametrize(
    ("span", "wanted", "expected"),
    [
        ((0.0, 1.0), None, Grid("int8", (ONE_255,), (-128,))),
        ((0.0, 1.0), "uint8", Grid("uint8", (ONE_255,), (0,))),
        ((0.0, 255.0), "uint8", Grid("uint8", (1.0,), (0,))),
        ((0.0, 255.0), "int8", Grid("int8", (1.0,), (-128,))),
        ((-1.0, 1.0), "float32", FLOAT),
    ],
)
def test_input_ranges(span, wanted, expected):
    planned = plan_of(cnn(), config=config_of(input_range=span, input_type=wanted))
    assert planned.plan.inputs["image"] == expected
    assert planned.grid("image") == asymmetric_grid(*span)


def test_uint8_takes_raw_bytes():
    """A byte p stands for p / 127.5 - 1, to a hundredth of a step at most."""
    planned = plan_of(cnn(), config=config_of(input_range=(-1.0, 1.0), input_type="uint8"))
    grid = planned.plan.inputs["image"]
    p = np.arange(256)
    real = dequantize(p.astype(np.uint8), grid)
    np.testing.assert_allclose(real, p / 127.5 - 1, atol=0.51 * grid.scale[0])
    own = planned.grid("image")
    assert (grid.scale, grid.zero_point[0] - 128) == (own.scale, own.zero_point[0])


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
@pytest.mark.parametrize("wanted", [None, "float32", "int8", "uint8", "int16"])
def test_boundary_types(scheme, wanted):
    planned = plan_of(cnn(), config=config_of(scheme, input_type=wanted, output_type=wanted))
    own = {"int8": "int8", "int16x8": "int16"}[scheme]
    for grid in (planned.plan.inputs["image"], planned.plan.outputs["probabilities"]):
        assert grid.dtype == (wanted or own)
    # What the user gives in 16 bits is kept in 16 bits.
    assert planned.grid("image").dtype == ("int16" if wanted == "int16" else own)


def test_integer_inputs_stay_what_they_are():
    net = Net()
    i = net.input(1, 4, name="i", dtype="int32")
    y = net.dense(net.op("CAST", i, dtype="float32"), 2, out="y")
    source = net.bytes(y)
    samples = [{"i": np.full((1, 4), n, np.int32)} for n in range(5)]
    planned = plan_of(source, samples)
    assert planned.plan.inputs["i"] == Grid("int32")
    with pytest.raises(TfqError, match=r"cast from integers that reach .* more than int16 holds"):
        plan_of(source, [{"i": np.full((1, 4), 40000, np.int32)}])


# --- schemes that compute in float ----------------------------------------------------------------

FLOAT_SCHEMES = ("dynamic", "weight_only", "float16", "float32")


def test_float_schemes_change_weights_only():
    net = Net()
    x = net.input(1, 8, 8, 4, name="x")
    y = net.dense(net.mean(net.depthwise(net.conv(x, 8, out="conv"), out="dw")), 16, out="y")
    source = net.bytes(y)
    for scheme, dtype in (("dynamic", "int8"), ("weight_only", "int8"), ("float16", "float16")):
        plan = plan_of(source, config=config_of(scheme)).plan
        assert plan.count_modes() == {"float": 4}
        assert {t.grid for t in plan.tensors.values()} == {FLOAT}
        assert {plan.ops[n].edges[1].dtype for n in ("conv", "dw", "y")} == {dtype}
    # Small constants stay: an op to widen them costs more than they do.
    assert 2 not in plan.ops["dw"].edges
    assert plan_of(source, config=config_of("float32")).plan.ops["conv"].edges == {}


def test_the_smallest_weights_are_integers_in_dynamic_models_only():
    net = Net()
    source = net.bytes(net.dense(net.input(1, 5, name="x"), 1, out="y"))
    edges = {s: plan_of(source, config=config_of(s)).plan.ops["y"].edges for s in FLOAT_SCHEMES}
    assert edges["dynamic"][1].dtype == "int8"
    assert not any(edges[s] for s in FLOAT_SCHEMES if s != "dynamic")


def test_plans_are_the_same_in_every_process():
    a, b = plan_of(cnn()), plan_of(cnn())
    assert a.plan.to_json() == b.plan.to_json()
