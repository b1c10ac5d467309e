"""Weights of 4 and 2 bits: the integers are numpy's, whatever type holds them."""

import dataclasses

import numpy as np
import pytest
from small_models import ACT, Net, cnn, config_of, draw, plan_of

from tfq.calibrate.run import calibrate
from tfq.convert import convert_model
from tfq.errors import ModelError, TfqError
from tfq.graph.integers import float_tensors
from tfq.graph.model import Model, options_type
from tfq.graph.numerics import Grid
from tfq.graph.quantizable import obstacle
from tfq.plan.layout import make_layout
from tfq.plan.plan import Plan
from tfq.plan.planner import make_plan
from tfq.plan.scheme import LayerRule
from tfq.quantize.emit import emit
from tfq.rewrite.prepare import prepare
from tfq.runtime import KERNELS, Runner


def transposed(net, x, channels, out):
    n, h, w, c = x.shape
    shape = (n, 2 * h, 2 * w, channels)
    weights = net.const(net.rng.normal(0, c**-0.5, (channels, 2, 2, c)))
    bias = net.const(net.rng.normal(0, 0.1, channels))
    return net.op(
        "TRANSPOSE_CONV",
        net.const(shape, "int32"),
        weights,
        x,
        bias,
        shape=shape,
        dtype="float32",
        out=out,
        options=options_type("TransposeConvOptions")(),
        strideH=2,
        strideW=2,
    )


def odd_net(seed=0):
    """Every weighted op, with odd channels and odd totals."""
    net = Net(seed)
    x = net.input(1, 9, 9, 3, name="x")
    a = net.conv(x, 9, act=ACT.RELU, out="conv")
    b = net.depthwise(a, act=ACT.RELU6, out="depthwise")
    c = net.conv(b, 9, size=1, out="point")
    d = transposed(net, c, 3, "wider")
    y = net.dense(net.reshape(d, 1, 300, out="flat"), 15, act=ACT.RELU, out="dense")
    return net.bytes(net.dense(y, 7, out="logits"))


STORED = {
    ("int8", 4): {
        "conv": "int4",
        "depthwise": "int4",
        "point": "int4",
        "wider": "int8",
        "dense": "int4",
        "logits": "int4",
    },
    ("int8", 2): {
        "conv": "int4",
        "depthwise": "int4",
        "point": "int4",
        "wider": "int8",
        "dense": "int2",
        "logits": "int2",
    },
    ("int16x8", 4): {
        "conv": "int4",
        "depthwise": "int8",
        "point": "int4",
        "wider": "int8",
        "dense": "int4",
        "logits": "int4",
    },
    ("int16x8", 2): {
        "conv": "int4",
        "depthwise": "int8",
        "point": "int4",
        "wider": "int8",
        "dense": "int2",
        "logits": "int2",
    },
}


def weights_of(model):
    """The constant weights of each weighted op, by the name of its output."""
    return {
        op.outputs[0].name: op.input(1)
        for op in model.main.ops
        if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
    }


def numpy_integers(w, axis, bits):
    """Min/max integers from the definition."""
    top = 2 ** (bits - 1) - 1
    rows = np.moveaxis(w, axis, 0)
    flat = rows.reshape(rows.shape[0], -1).astype(np.float64)
    scales = (np.abs(flat).max(axis=1) / top).astype(np.float32).astype(np.float64)
    q = np.clip(np.rint(flat / scales[:, None]), -top, top).astype(np.int8)
    return np.moveaxis(q.reshape(rows.shape), 0, axis)


def as_int8(model):
    """The same model with all narrow weights stored in int8."""
    copy = Model.from_bytes(model.to_bytes())
    for w in weights_of(copy).values():
        w.dtype = "int8"
    return copy


@pytest.mark.parametrize(("scheme", "bits"), STORED)
def test_integers_are_those_of_the_definition_in_the_narrowest_right_type(scheme, bits):
    planned = plan_of(odd_net(), config=config_of(scheme, weight_bits=bits))
    model = Model.from_bytes(planned.emit().model.to_bytes())
    assert float_tensors(model) == []
    found = weights_of(model)
    assert {n: w.dtype for n, w in found.items()} == STORED[scheme, bits]
    for name, w in found.items():
        axis = 3 if name == "depthwise" else 0
        source = planned.op(name).input(1).values()
        np.testing.assert_array_equal(w.values(), numpy_integers(source, axis, bits))
        reason = planned.plan.ops[name].reason
        assert (f"{bits}-bit weights in {w.dtype}" in reason) == (w.dtype != f"int{bits}")


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("scheme", "bits"), STORED)
def test_the_kernels_compute_as_with_the_same_integers_in_int8(scheme, bits, kernels):
    config = config_of(scheme, weight_bits=bits)
    if kernels == "reference" and scheme == "int8":
        # These have no depthwise kernel for int4.
        config = dataclasses.replace(config, rules=(LayerRule(regex="^depthwise$", weight_bits=8),))
    model = plan_of(odd_net(), config=config).emit().model
    names = [t.name for t in model.main.ops[-1].outputs]
    narrow = Runner(model.to_bytes(), kernels=kernels)
    wide = Runner(as_int8(model).to_bytes(), kernels=kernels)
    rng = np.random.default_rng(0)
    x = model.main.inputs[0]
    info = np.iinfo(x.dtype)
    for _ in range(5):
        fed = {x.name: rng.integers(info.min, info.max + 1, x.shape).astype(x.dtype)}
        a, b = narrow.run(fed), wide.run(fed)
        for name in names:
            # XNNPACK computes the int8 layers, and rounds some halves otherwise.
            far = np.abs(a[name].astype(int) - b[name]).max()
            assert far <= (3 if kernels == "xnnpack" else 0)


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_a_rule_keeps_layers_at_8_bits(scheme):
    rules = (
        LayerRule(regex="^conv$", weight_bits=8),
        LayerRule(regex="conv|point", activations="int16", weight_bits=2),
    )
    planned = plan_of(odd_net(), config=config_of(scheme, weight_bits=4, rules=rules))
    found = weights_of(planned.emit().model)
    assert {n: found[n].dtype for n in ("conv", "point", "dense")} == {
        "conv": "int8",
        "point": "int4",
        "dense": "int4",
    }
    assert found["conv"].values().min() == -127
    assert set(np.unique(found["point"].values())) == {-1, 0, 1}
    # The first rule says nothing of activations, so that the second does.
    assert planned.grid("conv").dtype == "int16"


@pytest.mark.parametrize("scheme", ["dynamic", "weight_only"])
@pytest.mark.parametrize("bits", [4, 2])
def test_schemes_that_compute_in_float(scheme, bits):
    source = odd_net()
    result = convert_model(source, scheme=scheme, weight_bits=bits)
    stored = {w.name: w.dtype for w in stored_weights(Model.from_bytes(result.model))}
    if scheme == "weight_only":
        assert set(stored.values()) == {f"int{bits}"}
    else:
        assert sorted(stored.values()) == sorted(["int8", "int4", "int4", *([f"int{bits}"] * 2)])
        assert "depthwise" in result.summary["plan"]["wider_weights"]
    # What the weights say, computed in float.
    model = plan_of(source, config=config_of("float32")).prepared.model
    for op in model.main.ops:
        for t in op.inputs:
            if t is not None and t.name in stored:
                axis = 3 if op.name == "DEPTHWISE_CONV_2D" else 0
                q = numpy_integers(t.values(), axis, bits)
                rows = np.abs(np.moveaxis(t.values(), axis, 0)).reshape(t.shape[axis], -1)
                steps = rows.max(axis=1) / (2 ** (bits - 1) - 1)
                along = [1] * q.ndim
                along[axis] = -1
                t.data = (q * steps.reshape(along)).astype(np.float32)
    (x,) = draw(source, 1)
    truth = Runner(model.to_bytes()).run(x)["logits"]
    for kernels in KERNELS:
        got = Runner(result.model, kernels=kernels).run(x)["logits"]
        error = np.sum((got - truth) ** 2) / np.sum(truth**2)
        assert error < (1e-2 if scheme == "dynamic" else 1e-10), kernels


def stored_weights(model):
    return [
        t
        for op in model.main.ops
        for t in op.inputs
        if t is not None and t.is_const and t.dtype in ("int2", "int4", "int8")
    ]


def test_min_runtime_and_versions_are_those_of_the_weights():
    model = plan_of(odd_net(), config=config_of(weight_bits=4)).emit().model
    versions = {op.outputs[0].name: op.version for op in model.main.ops}
    assert (versions["conv"], versions["depthwise"], versions["dense"]) == (7, 7, 12)
    model = plan_of(odd_net(), config=config_of(weight_bits=2)).emit().model
    assert {op.outputs[0].name: op.version for op in model.main.ops}["dense"] == 14
    assert model.metadata["min_runtime_version"].rstrip(b"\0") == b"2.21.0"


def test_conversion_is_proven_and_says_what_the_weights_take():
    source = cnn()
    result = convert_model(source, draw(source, 24), weight_bits=2, weights="mse")
    again = convert_model(source, draw(source, 24), weight_bits=2, weights="mse")
    assert result.model == again.model
    model, plan = result.summary["model"], result.summary["plan"]
    assert model["full_integer"]
    assert model["weights"]["int2"]["values"] == 30
    assert model["weights"]["int2"]["bytes"] == 8
    assert set(plan["wider_weights"]) == {"conv", "point", "depthwise"}
    assert "DEPTHWISE_CONV_2D with int4 weights" in result.summary["proof"]["reference_note"]
    assert Plan.from_json(result.plan.to_json()) == result.plan
    replayed = convert_model(source, draw(source, 24), plan=result.plan)
    assert replayed.model == result.model


@pytest.mark.parametrize(
    "options", [{"equalization": "cross_layer"}, {"weights": "mse"}, {"scheme": "int16x8"}]
)
def test_narrow_weights_go_through_every_stage(options):
    source = cnn()
    result = convert_model(source, draw(source, 24), weight_bits=4, **options)
    assert result.summary["model"]["full_integer"]
    assert "int4" in result.summary["model"]["weights"]
    sqnr = result.summary["proof"]["outputs"][0]["sqnr_db"]
    assert sqnr > 8, options


def test_a_narrow_bias_still_fits_and_dead_channels_load():
    net = Net()
    x = net.input(1, 4, name="x")
    w = np.array([[0.0] * 4, [1, -0.5, 0.25, 0.1], [1e-4, 0, 0, 0]])
    y = net.dense(x, 3, weights=w, bias=[0.5, 0, 3000.0], act=ACT.RELU, out="y")
    source = net.bytes(y)
    for bits in (4, 2):
        planned = plan_of(source, config=config_of(weight_bits=bits))
        model = planned.emit().model
        for kernels in KERNELS:
            x = {"x": np.zeros((1, 4), np.int8)}
            q = Runner(model.to_bytes(), kernels=kernels).run(x)["y"]
            assert q[0, 2] == 127


# --- trained grids --------------------------------------------------------------------------------


def trained(name, bits, *, axis, channels=None, reach=None, seed=0, dtype=None):
    """Weights of a layer of `odd_net` exactly on a grid: integers, their grid."""
    planned = plan_of(odd_net())
    w = planned.op(name).input(1)
    rng = np.random.default_rng(seed)
    top = reach or 2 ** (bits - 1) - 1
    q = rng.integers(-top, top + (reach is None), w.shape).astype(np.int8)
    if reach:
        q.reshape(-1)[0] = -reach
    n = 1 if axis is None else w.shape[axis]
    scales = rng.uniform(0.005, 0.05, n).astype(np.float32)
    along = [1] * q.ndim
    if axis is not None:
        along[axis] = -1
    values = (q * scales.reshape(along)).astype(np.float32)
    grid = Grid(dtype or f"int{bits}", tuple(map(float, scales)), (0,) * n, axis if n > 1 else None)
    return q, values, grid


def emit_trained(scheme, **grids):
    """Emits `odd_net` with some layers' weights on trained grids: layer -> (values, grid)."""
    float_model = Model.from_bytes(odd_net())
    named = {}
    for op in float_model.main.ops:
        if op.outputs[0].name in grids:
            op.input(1).data, named[op.input(1).name] = grids[op.outputs[0].name]
    config = config_of(scheme)
    prepared = prepare(float_model.to_bytes(), integer=True, activations=config.scheme.activations)
    layout = make_layout(prepared.model.main, config, named)
    samples = draw(prepared.model, 10)
    stats = calibrate(prepared.bytes, samples, tensors=layout.observed)
    plan = make_plan(prepared.model.main, layout, stats, config, named, model_sha256="")
    return plan, emit(prepared.model, plan).model


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("per_channel", [True, False])
def test_trained_integers_are_shipped_as_they_are(scheme, bits, per_channel):
    axes = {"conv": 0, "depthwise": 3, "point": 0, "wider": 0, "dense": 0}
    made = {
        name: trained(name, bits, axis=axis if per_channel else None) for name, axis in axes.items()
    }
    _, model = emit_trained(scheme, **{n: (v, g) for n, (_, v, g) in made.items()})
    for name, w in weights_of(model).items():
        if name not in made:
            assert w.dtype == "int8"
            continue
        q, _, grid = made[name]
        expected = "int8" if bits == 8 else STORED[scheme, bits][name]
        assert w.dtype == expected
        np.testing.assert_array_equal(w.values(), q)
        np.testing.assert_array_equal(w.quant.scale, np.array(grid.scale, np.float32))
        assert obstacle(next(o for o in model.main.ops if o.input(1) is w), "int8") == "" or (
            scheme != "int8"
        )
    for kernels in ("xnnpack", "builtin"):
        Runner(model.to_bytes(), kernels=kernels).invoke()


@pytest.mark.parametrize(("bits", "reach", "stored"), [(2, 2, "int4"), (4, 8, "int8")])
def test_trained_integers_beyond_the_narrow_grid_get_a_wider_type(bits, reach, stored):
    q, values, grid = trained("dense", bits, axis=0, reach=reach)
    plan, model = emit_trained("int8", dense=(values, grid))
    w = weights_of(model)["dense"]
    assert w.dtype == stored
    np.testing.assert_array_equal(w.values(), q)
    assert f"they reach -{reach}" in plan.ops["dense"].reason


def test_a_trained_channel_of_zeros_loads_whatever_its_scale():
    q, values, grid = trained("dense", 4, axis=0)
    q[3], values[3] = 0, 0.0
    scales = list(grid.scale)
    scales[3] = float(np.float32(1e-12))
    grid = dataclasses.replace(grid, scale=tuple(scales))
    plan, model = emit_trained("int8", dense=(values, grid))
    w = weights_of(model)["dense"]
    np.testing.assert_array_equal(w.values(), q)
    np.testing.assert_array_equal(np.delete(w.quant.scale, 3), np.float32(np.delete(scales, 3)))
    assert "widened" not in plan.ops["dense"].reason
    bias = next(o for o in model.main.ops if o.outputs[0].name == "dense").input(2)
    assert abs(int(bias.values()[3])) < 2**31 - 1
    for kernels in KERNELS[:2]:
        Runner(model.to_bytes(), kernels=kernels).invoke()


def test_a_trained_scale_too_small_for_its_bias_is_widened_and_that_is_said():
    _, values, grid = trained("dense", 4, axis=0)
    values[2] *= np.float32(1e-9)
    scales = list(grid.scale)
    scales[2] *= 1e-9
    grid = dataclasses.replace(grid, scale=tuple(float(np.float32(s)) for s in scales))
    plan, model = emit_trained("int8", dense=(values, grid))
    assert "1 trained scale(s) widened" in plan.ops["dense"].reason
    bias = next(o for o in model.main.ops if o.outputs[0].name == "dense").input(2)
    real = float(bias.values()[2]) * float(bias.quant.scale[2])
    source = plan_of(odd_net()).op("dense").input(2).values()[2]
    assert real == pytest.approx(float(source), rel=1e-5)


def test_what_no_kernel_reads_is_refused_by_litert_and_named_by_the_table():
    """The reason for storing these wider: the file would not run, or be wrong in silence."""
    model = plan_of(odd_net(), config=config_of(weight_bits=2)).emit().model
    conv = next(o for o in model.main.ops if o.outputs[0].name == "conv")
    conv.input(1).dtype = "int2"
    assert "int2 weights" in obstacle(conv, "int8")
    with pytest.raises((ModelError, TfqError)):
        Runner(model.to_bytes())


def test_a_large_bias_beside_trained_weights_takes_a_wider_type_not_another_scale():
    """XNNPACK's int4 kernel sums sixteenths: 2^28 steps of bias overflow it in silence."""
    net = Net()
    x = net.input(1, 16, name="x")
    w = np.full((2, 16), 7e-6) * np.array([[1], [1e5]])
    y = net.dense(x, 2, weights=w, bias=[10.0, 0.5], out="y")
    source = net.bytes(y)
    planned = plan_of(source)
    graph = planned.graph
    weights = planned.op("y").input(1)
    grid = Grid("int4", (float(np.float32(1e-6)), float(np.float32(0.1))), (0, 0), 0)
    named = {weights.name: grid}
    plan = make_plan(
        graph, planned.layout, planned.statistics, planned.config, named, model_sha256=""
    )
    assert "a bias is too large" in plan.ops["y"].reason
    assert (plan.ops["y"].edges[1].dtype, plan.ops["y"].edges[1].bits) == ("int8", 4)
    assert plan.ops["y"].edges[1].scale == grid.scale
    model = emit(planned.prepared.model, plan).model
    fed = {"x": np.full((1, 16), model.main.inputs[0].quant.zero_point[0], np.int8)}
    out = model.main.outputs[0].quant
    for kernels in KERNELS:
        q = Runner(model.to_bytes(), kernels=kernels).run(fed)["y"]
        real = (q[0].astype(int) - int(out.zero_point[0])) * float(out.scale[0])
        np.testing.assert_allclose(real, [10.0, 0.5], atol=float(out.scale[0]))
