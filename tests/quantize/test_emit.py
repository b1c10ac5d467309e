"""The quantized model that a plan says."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from small_models import ACT, Net, cnn, config_of, draw, plan_of

from tfq.errors import TfqError, UsageError
from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.integers import float_tensors
from tfq.graph.model import Model, Signature
from tfq.graph.numerics import Grid, quantize
from tfq.graph.optable import op_version, spec
from tfq.plan.entries import INTEGER, LOOKUP, OpPlan, TensorPlan
from tfq.plan.scheme import LayerRule
from tfq.quantize.emit import emit
from tfq.runtime import KERNELS, Runner


def emitted(source, config=None, samples=None):
    planned = plan_of(source, samples, config)
    model = planned.emit().model
    return planned, Model.from_bytes(model.to_bytes())


def ops(model):
    return [op.name for op in model.main.ops]


def floors():
    net = Net()
    return net.bytes(net.op("FLOOR", net.input(1, 4, name="x"), out="y"))


def op_of(model, name):
    return next(op for op in model.main.ops if op.outputs[0].name == name)


def sqnr(source, model, samples):
    runner, reference = Runner(model.to_bytes()), Runner(source)
    feed = InputQuantizer(model)
    error = power = 0.0
    for s in samples:
        got = dequantized(model, runner.run(feed(s)))
        for name, value in reference.run(s).items():
            error += float(np.sum((got[name] - value) ** 2))
            power += float(np.sum(value**2))
    return 10 * np.log10(power / max(error, 1e-30))


# --- schemes --------------------------------------------------------------------------------------


def test_int8():
    planned, model = emitted(cnn())
    assert ops(model) == [
        "CONV_2D",
        "CONV_2D",
        "ADD",
        "DEPTHWISE_CONV_2D",
        "MEAN",
        "FULLY_CONNECTED",
        "SOFTMAX",
    ]
    assert float_tensors(model) == []
    conv = op_of(model, "conv")
    assert [t.dtype for t in (*conv.inputs, *conv.outputs)] == ["int8", "int8", "int32", "int8"]
    w = planned.op("conv").input(1).values()
    grid = planned.plan.ops["conv"].edges[1]
    np.testing.assert_array_equal(conv.input(1).values(), quantize(w, grid, narrow=True))
    assert conv.input(1).values().min() >= -127
    np.testing.assert_array_equal(
        conv.input(2).values(),
        quantize(planned.op("conv").input(2).values(), planned.plan.ops["conv"].edges[2]),
    )
    assert conv.options.fusedActivationFunction == ACT.RELU


def test_int16x8():
    _, model = emitted(cnn(), config_of("int16x8"))
    conv = op_of(model, "conv")
    assert [t.dtype for t in (*conv.inputs, *conv.outputs)] == ["int16", "int8", "int64", "int16"]
    # Left at the converter's default, int16 kernels want scales that are powers of two.
    assert op_of(model, "residual").options.potScaleInt16 is False
    assert float_tensors(model) == []


def big():
    net = Net(1)
    x = net.input(1, 8, 8, 4, name="x")
    c = net.conv(x, 16, act=ACT.RELU, out="conv")
    return net.bytes(net.dense(net.mean(net.depthwise(c, out="dw")), 16, out="y"))


def test_dynamic():
    source = big()
    _, model = emitted(source, config_of("dynamic"))
    assert ops(model) == ["CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "FULLY_CONNECTED"]
    for name in ("conv", "dw", "y"):
        assert op_of(model, name).input(1).dtype == "int8"
        assert op_of(model, name).input(2).dtype == "float32"
        assert op_of(model, name).input(0).dtype == "float32"
    assert sqnr(source, model, draw(source, 5)) > 25


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin"])
@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("scheme", ["int8", "int16x8", "dynamic", "weight_only"])
def test_granularities(scheme, granularity, kernels):
    source = big()
    config = config_of(scheme, granularity=granularity, dense_granularity=granularity)
    _, model = emitted(source, config)
    sample = draw(source, 1, seed=9)[0]
    want = Runner(source).run(sample)["y"]
    result = Runner(model.to_bytes(), kernels=kernels).run(InputQuantizer(model)(sample))
    got = dequantized(model, result)["y"]
    assert np.sum((got - want) ** 2) < 0.01 * np.sum(want**2)


def test_weight_only():
    source = big()
    _, model = emitted(source, config_of("weight_only"))
    assert Counter(ops(model))["DEQUANTIZE"] == 3
    conv = op_of(model, "conv")
    assert conv.input(1).dtype == "float32"
    assert not conv.input(1).is_const
    assert sqnr(source, model, draw(source, 5)) > 30


def test_float16():
    source = big()
    _, model = emitted(source, config_of("float16"))
    stored = [op.input(0).dtype for op in model.main.ops if op.name == "DEQUANTIZE"]
    assert stored
    assert set(stored) == {"float16"}
    assert sqnr(source, model, draw(source, 5)) > 55


def test_float32():
    source = big()
    _, model = emitted(source, config_of("float32"))
    sample = draw(source, 1)[0]
    a, b = Runner(source).run(sample), Runner(model.to_bytes()).run(sample)
    np.testing.assert_array_equal(a["y"], b["y"])


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_integer_models_run_everywhere(scheme, kernels):
    source = cnn()
    _, model = emitted(source, config_of(scheme))
    feed = InputQuantizer(model)
    sample = draw(source, 1, seed=9)[0]
    want = Runner(source).run(sample)["probabilities"]
    result = Runner(model.to_bytes(), kernels=kernels).run(feed(sample))
    got = dequantized(model, result)["probabilities"]
    np.testing.assert_allclose(got, want, atol=0.04 if scheme == "int8" else 0.005)


# --- the boundary ---------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["float32", "int8", "uint8", "int16"])
@pytest.mark.parametrize("taken", ["float32", "int8", "uint8", "int16"])
@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_input_and_output_types(scheme, taken, given):
    source = cnn()
    config = config_of(scheme, input_type=taken, output_type=given)
    _, model = emitted(source, config)
    (x,), (y,) = model.main.inputs, model.main.outputs
    assert (x.name, x.dtype, y.name, y.dtype) == ("image", taken, "probabilities", given)
    assert model.signatures[0].inputs == {"x0": x}
    assert model.signatures[0].outputs == {"y0": y}
    names = [t.name for t in model.main.tensors()]
    assert len(names) == len(set(names))
    assert sqnr(source, model, draw(source, 4)) > 22


def test_uint8_is_int8_moved_by_128():
    source = cnn()
    _, plain = emitted(source)
    _, bytes_in = emitted(source, config_of(input_type="uint8", output_type="uint8"))
    q = np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 2)).astype(np.int8)
    a = Runner(plain.to_bytes()).run({"image": q})["probabilities"]
    moved = (q.astype(np.int16) + 128).astype(np.uint8)
    b = Runner(bytes_in.to_bytes()).run({"image": moved})["probabilities"]
    np.testing.assert_array_equal(a.astype(np.int16) + 128, b)


def test_an_output_that_is_read_inside_too():
    net = Net()
    x = net.input(1, 4, name="x")
    a = net.dense(x, 4, out="a")
    y = net.dense(a, 2, out="y")
    _, model = emitted(net.bytes(a, y), config_of(output_type="float32"))
    assert [t.name for t in model.main.outputs] == ["a", "y"]
    assert {t.dtype for t in model.main.outputs} == {"float32"}
    assert op_of(model, "y").name == "DEQUANTIZE"
    dense = [op for op in model.main.ops if op.name == "FULLY_CONNECTED"]
    assert dense[1].input(0) is dense[0].outputs[0]


def test_an_input_that_is_an_output():
    net = Net()
    x = net.input(1, 4, name="x")
    y = net.dense(x, 2, out="y")
    for wanted in (None, "float32", "uint8"):
        config = config_of(input_type=wanted, output_type=wanted)
        _, model = emitted(net.bytes(x, y), config)
        runner = Runner(model.to_bytes())
        assert len(runner.outputs) == 2


def test_the_same_output_twice():
    net = Net()
    y = net.dense(net.input(1, 4, name="x"), 2, out="y")
    _, model = emitted(net.bytes(y, y))
    assert len(model.main.outputs) == 2


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_a_constant_that_is_an_output_is_integer_too(scheme):
    net = Net()
    anchors = net.const([[1.0, -2.0, 3.0, 4.0]], name="anchors")
    y = net.dense(net.op("ADD", net.input(1, 4, name="x"), anchors), 2, out="y")
    source = net.bytes(y, anchors, anchors)
    planned, model = emitted(source, config_of(scheme))
    assert float_tensors(model) == []
    assert model.main.outputs[1] is model.main.outputs[2]
    assert model.main.outputs[1].name == "anchors"
    got = dequantized(
        model, Runner(model.to_bytes()).run({"x": np.zeros((1, 4), model_input(model))})
    )
    step = planned.plan.outputs["anchors"].scale[0]
    np.testing.assert_allclose(got["anchors"], [[1, -2, 3, 4]], atol=0.51 * step)
    _, wide = emitted(source, config_of(scheme, output_type="float32"))
    np.testing.assert_array_equal(wide.main.outputs[1].values(), [[1, -2, 3, 4]])


def model_input(model):
    return model.main.inputs[0].dtype


def test_names_and_signatures_are_kept():
    source = cnn()
    before = Model.from_bytes(source)
    before.signatures.append(
        Signature("second", {"a": before.main.inputs[0]}, {"b": before.main.outputs[0]})
    )
    before.metadata["mine"] = b"kept"
    _, model = emitted(before.to_bytes())
    assert [s.key for s in model.signatures] == ["serving_default", "second"]
    assert model.signatures[1].inputs["a"] is model.main.inputs[0]
    assert model.metadata["mine"] == b"kept"
    computed = {t.name for op in before.main.ops for t in op.outputs}
    assert computed <= {t.name for t in model.main.tensors()}


# --- metadata and versions ------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["int8", "int16x8", "dynamic", "weight_only", "float16"])
def test_op_versions_are_the_lowest_that_fit(scheme):
    _, model = emitted(big(), config_of(scheme))
    for op in model.main.ops:
        assert op.version == op_version(op)
    if scheme == "int8":
        versions = {op.name: op.version for op in model.main.ops}
        assert versions["CONV_2D"] == 3
        assert versions["DEPTHWISE_CONV_2D"] == 3


def test_the_oldest_runtime_is_written():
    for scheme in ("int8", "int16x8"):
        _, model = emitted(cnn(), config_of(scheme))
        blob = model.metadata["min_runtime_version"]
        assert len(blob) == 16
        text = blob.rstrip(b"\0").decode()
        major, minor, *_ = text.split(".")
        assert (int(major), int(minor)) >= (1, 14)


# --- sharing --------------------------------------------------------------------------------------


def test_shared_weights_are_stored_once():
    net = Net()
    w = net.const(net.rng.normal(0, 0.1, (128, 128)))
    b = net.const(np.zeros(128))
    x = net.input(1, 128, name="x")
    y = x
    for _ in range(4):
        y = net.dense(y, 128, weights=w, bias=b, act=ACT.RELU)
    planned = plan_of(net.bytes(y))
    content = planned.emit().model.to_bytes()
    assert len(content) < 1.7 * 128 * 128
    names = [t.name for t in Model.from_bytes(content).main.tensors()]
    assert len(names) == len(set(names))


def test_a_tensor_is_requantized_once_for_all_its_readers():
    net = Net()
    x = net.input(1, 4, name="x")
    narrow = net.op("LOGISTIC", x, out="narrow")
    wide = net.dense(x, 4, weights=np.full((4, 4), 9.0), out="wide")
    y = net.concat(wide, narrow, out="y")
    planned = plan_of(net.bytes(net.concat(y, narrow, out="z")))
    model = planned.emit().model
    quantizers = [op for op in model.main.ops if op.name == "QUANTIZE"]
    targets = Counter((op.input(0).name, planned.grid("y")) for op in quantizers)
    assert targets == {("narrow", planned.grid("y")): 1}


def test_float_readers_share_one_dequantize():
    net = Net()
    x = net.dense(net.input(1, 4, name="x"), 4, out="a")
    b = net.op("ATAN2", x, net.dense(x, 4), out="b")
    c = net.op("ATAN2", x, net.dense(x, 4), out="c")
    planned = plan_of(net.bytes(b, c), config=config_of(allow_float=("ATAN2",)))
    model = planned.emit().model
    sources = Counter(op.input(0).name for op in model.main.ops if op.name == "DEQUANTIZE")
    assert sources["a"] == 1
    assert set(sources.values()) == {1}


# --- mixed ----------------------------------------------------------------------------------------


def test_widths_meet_through_quantize():
    rules = (LayerRule(regex="^point$", activations="int16"),)
    source = cnn()
    _, model = emitted(source, config_of(rules=rules))
    assert op_of(model, "point").outputs[0].dtype == "int16"
    assert op_of(model, "point").input(0).dtype == "int16"
    assert op_of(model, "residual").outputs[0].dtype == "int8"
    assert float_tensors(model) == []
    assert sqnr(source, model, draw(source, 4)) > 22


def test_integers_and_booleans_pass_through():
    net = Net()
    x, i = net.input(1, 4, name="x"), net.input(1, 4, name="i", dtype="int32")
    y = net.dense(x, 4, out="y")
    j = net.op("ADD", i, net.const([[1, 2, 3, 4]], "int32"), dtype="int32", out="j")
    flag = net.op("GREATER", y, 0.0, dtype="bool", out="flag")
    source = net.bytes(y, j, flag)
    rng = np.random.default_rng(0)
    samples = [
        {
            "x": rng.normal(0, 1, (1, 4)).astype(np.float32),
            "i": rng.integers(0, 9, (1, 4)).astype(np.int32),
        }
        for _ in range(10)
    ]
    _, model = emitted(source, samples=samples)
    assert [t.dtype for t in model.main.outputs] == ["int8", "int32", "bool"]
    feed = InputQuantizer(model)
    for s in samples:
        want, got = Runner(source).run(s), Runner(model.to_bytes()).run(feed(s))
        np.testing.assert_array_equal(got["j"], want["j"])
        sure = np.abs(want["y"]) > 0.05
        np.testing.assert_array_equal(got["flag"][sure], want["flag"][sure])


def test_the_float_model_is_not_changed():
    planned = plan_of(cnn())
    planned.emit()
    assert planned.prepared.model.to_bytes() == planned.prepared.bytes


def test_a_plan_emits_the_same_bytes_every_time():
    planned = plan_of(cnn())
    assert planned.emit().model.to_bytes() == planned.emit().model.to_bytes()


# --- plans that do not fit ------------------------------------------------------------------------


def without(mapping, name):
    return {k: v for k, v in mapping.items() if k != name}


def test_what_a_plan_lacks_is_named():
    planned = plan_of(cnn())
    model, plan = planned.prepared.model, planned.plan
    with pytest.raises(TfqError, match="says nothing of ADD at 'residual'"):
        emit(model, dataclasses.replace(plan, ops=without(plan.ops, "residual")))
    with pytest.raises(TfqError, match="says nothing of tensor 'residual'"):
        emit(model, dataclasses.replace(plan, tensors=without(plan.tensors, "residual")))
    conv = dataclasses.replace(plan.ops["conv"], edges={})
    with pytest.raises(TfqError, match=r"gives constant .* of CONV_2D at 'conv' no grid"):
        emit(model, dataclasses.replace(plan, ops={**plan.ops, "conv": conv}))


def test_an_edited_grid_is_emitted():
    planned = plan_of(cnn())
    grid = Grid("int8", (0.5,), (9,))
    tensors = {**planned.plan.tensors, "residual": TensorPlan(grid, "by hand")}
    model = emit(planned.prepared.model, dataclasses.replace(planned.plan, tensors=tensors)).model
    quant = op_of(model, "residual").outputs[0].quant
    assert Grid.of("int8", quant) == grid


# --- integers that the plan gives -----------------------------------------------------------------


def given(planned, **arrays):
    return dataclasses.replace(planned.plan, **arrays)


def emit_given(planned, **arrays):
    model = emit(planned.prepared.model, given(planned, **arrays)).model
    return Model.from_bytes(model.to_bytes())


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_biases_of_the_plan_take_the_place_of_the_float_ones(scheme):
    planned = plan_of(cnn(), config=config_of(scheme))
    bias = {"conv": np.arange(6, dtype="int32" if scheme == "int8" else "int64") - 3}
    # Only the constant's shape and grid are used any more.
    float_bias = planned.op("conv").input(2)
    model = emit_given(planned, biases=bias)
    float_bias.data = np.full_like(float_bias.values(), 1e6)
    assert emit_given(planned, biases=bias).to_bytes() == model.to_bytes()
    found = op_of(model, "conv").input(2)
    np.testing.assert_array_equal(found.values(), bias["conv"])
    assert found.values().dtype == bias["conv"].dtype


def without_bias():
    net = Net()
    w = net.const(net.rng.normal(0, 1, (3, 4)))
    return net.op("FULLY_CONNECTED", net.input(1, 4, name="x"), w, None, shape=(1, 3), out="y"), net


def test_a_bias_that_was_made_up_is_there_to_be_corrected_and_gone_if_it_was_not():
    y, net = without_bias()
    planned = plan_of(net.bytes(y))
    model, plan = planned.prepared.model, planned.plan
    final, spare = emit(model, plan), emit(model, plan, spare_biases=True)
    assert (list(final.biases), list(spare.biases)) == ([], ["y"])
    assert op_of(final.model, "y").inputs[2] is None
    assert not spare.biases["y"].values().any()
    runs = [Runner(m.model.to_bytes()) for m in (final, spare)]
    feed = InputQuantizer(final.model)
    for s in draw(model, 5):
        np.testing.assert_array_equal(*(r.run(feed(s))["y"] for r in runs))
    for values in ([5, 6, 7], [0, 0, 0]):
        corrected = given(planned, biases={"y": np.array(values, np.int32)})
        for spare_biases in (False, True):
            found = emit(model, corrected, spare_biases=spare_biases)
            np.testing.assert_array_equal(found.biases["y"].values(), values)
            np.testing.assert_array_equal(op_of(found.model, "y").input(2).values(), values)


def test_zeros_stay_where_the_kernel_needs_a_bias():
    net = Net()
    y = net.conv(net.input(1, 5, 5, 2, name="x"), 3, bias=np.zeros(3), out="y")
    planned = plan_of(net.bytes(y))
    assert spec("CONV_2D").needs_bias
    assert planned.plan.ops["y"].bias
    assert list(planned.emit().biases) == ["y"]


@pytest.mark.parametrize(
    ("options", "low", "high"),
    [
        ({"scheme": "int8"}, -127, 127),
        ({"scheme": "int8", "weight_bits": 4}, -7, 7),
        ({"scheme": "int16x8"}, -127, 127),
        ({"scheme": "dynamic"}, -127, 127),
        ({"scheme": "weight_only"}, -127, 127),
    ],
    ids=str,
)
def test_weights_of_the_plan_are_in_the_file(options, low, high):
    planned = plan_of(cnn(), config=config_of(**options))
    w = planned.op("conv").input(1)
    values = np.random.default_rng(0).integers(low, high + 1, w.shape).astype(np.int8)
    model = emit_given(planned, weights={"conv": values})
    stored = [t for t in model.main.tensors() if t.name == w.name]
    assert len(stored) == 1
    np.testing.assert_array_equal(stored[0].values(), values)
    for bad in (low - 1, high + 1):
        if -128 <= bad <= 127:
            with pytest.raises(UsageError, match=rf"outside of {low} to {high}"):
                emit_given(planned, weights={"conv": np.full(w.shape, bad, np.int8)})


@pytest.mark.parametrize("scheme", ["int8", "weight_only"])
def test_weights_of_one_op_leave_those_of_another_that_shares_the_constant(scheme):
    net = Net(4)
    x = net.input(1, 12, name="x")
    weights = net.const(net.rng.normal(0, 0.4, (12, 12)))
    a = net.dense(x, 12, weights=weights, out="a")
    y = net.dense(a, 12, weights=weights, out="y")
    planned = plan_of(net.bytes(y), config=config_of(scheme))
    plain = planned.emit().model.to_bytes()
    for name in ("a", "y"):
        model = emit_given(planned, weights={name: np.full((12, 12), 9, np.int8)})
        names = [t.name for t in model.main.tensors()]
        assert len(set(names)) == len(names)
        for op in model.main.ops:
            if op.name == "FULLY_CONNECTED":
                w = op.input(1)
                if w.dtype == "float32":
                    w = next(o for o in model.main.ops if o.outputs[0] is w).input(0)
                is_given = op.outputs[0].name == name
                assert bool((w.values() == 9).all()) == is_given
        Runner(model.to_bytes()).run({"x": np.zeros((1, 12), model.main.inputs[0].dtype)})
    assert planned.emit().model.to_bytes() == plain


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"biases": {"conv": np.zeros(5, np.int32)}}, r"of int32\[5\], not of int32\[6\]"),
        ({"biases": {"conv": np.zeros(6, np.float32)}}, r"of float32\[6\], not of int32\[6\]"),
        ({"biases": {"conv": np.full(6, 2**40)}}, "outside of -2147483648 to 2147483647"),
        ({"weights": {"conv": np.zeros((6, 3, 3, 1), np.int8)}}, "not of int8"),
        ({"biases": {"residual": np.zeros(6, np.int32)}}, "biases for 'residual', where the"),
        ({"weights": {"probabilities": np.zeros(6, np.int8)}}, "weights for 'probabilities'"),
        ({"weights": {"nowhere": np.zeros(6, np.int8)}}, "weights for 'nowhere'"),
    ],
)
def test_integers_that_fit_no_constant_are_one_clear_error(arrays, message):
    planned = plan_of(cnn())
    with pytest.raises(UsageError, match=message):
        emit_given(planned, **arrays)


def test_a_float_bias_takes_no_integers():
    planned = plan_of(cnn(), config=config_of("dynamic"))
    with pytest.raises(UsageError, match="biases for 'conv'"):
        emit_given(planned, biases={"conv": np.zeros(6, np.int32)})


def test_a_plan_that_asks_for_a_kernel_that_is_not_there_is_one_error():
    """ELU has no int16 kernel; the plan is a file, which a person may have edited."""
    net = Net()
    x = net.input(1, 4)
    planned = plan_of(net.bytes(net.op("ELU", x, out="y")), config=config_of("int16x8"))
    assert planned.plan.ops["y"].mode == LOOKUP
    y = planned.plan.ops["y"]
    ops = {**planned.plan.ops, "y": OpPlan(y.op, INTEGER)}
    with pytest.raises(UsageError, match=r"computes ELU at 'y' in int16: no int16 kernel"):
        emit(planned.prepared.model, dataclasses.replace(planned.plan, ops=ops))


# --- what a plan decides beside grids -------------------------------------------------------------


def edited(planned, name, **fields):
    entry = dataclasses.replace(planned.plan.ops[name], **fields)
    return dataclasses.replace(planned.plan, ops={**planned.plan.ops, name: entry})


def compared(scale=1.0):
    net = Net()
    x = net.input(1, 8, name="x")
    x2 = net.op("MUL", x, scale) if scale != 1.0 else x
    return net.bytes(net.op("GREATER", net.op("ADD", x2, x2), 0.3 * scale, dtype="bool", out="y"))


def test_thresholds_are_rounded_as_the_plan_says():
    planned = plan_of(compared())
    assert planned.plan.ops["y"].rounding == {1: "down"}
    found = set()
    for how in ({1: "down"}, {1: "up"}):
        model = emit(planned.prepared.model, edited(planned, "y", rounding=how)).model
        found.add(int(op_of(model, "y").input(1).values()))
    assert max(found) - min(found) == 1


def test_sides_of_a_comparison_are_cast_where_the_plan_says():
    near, far = plan_of(compared()), plan_of(compared(1e-8))
    assert (near.plan.ops["y"].cast, far.plan.ops["y"].cast) == (None, "int32")
    assert "CAST" in ops(far.emit().model)
    plan = edited(near, "y", cast="int32")
    model = emit(near.prepared.model, plan).model
    assert {t.dtype for t in op_of(model, "y").inputs} == {"int32"}
    samples = draw(near.prepared.model, 5)
    for s in samples:
        fed = InputQuantizer(model)(s)
        want, got = Runner(near.emit().model.to_bytes()).run(fed), Runner(model.to_bytes()).run(fed)
        np.testing.assert_array_equal(got["y"], want["y"])


def test_weights_may_use_the_lowest_integer_where_the_plan_says():
    planned = plan_of(cnn())
    assert planned.plan.ops["conv"].narrow
    values = np.full(planned.op("conv").input(1).shape, -128, np.int8)
    plan = dataclasses.replace(edited(planned, "conv", narrow=False), weights={"conv": values})
    model = emit(planned.prepared.model, plan).model
    np.testing.assert_array_equal(op_of(model, "conv").input(1).values(), values)


def test_an_output_takes_the_detour_of_the_plan():
    config = config_of("int16x8", output_type="uint8")
    planned = plan_of(cnn(), config=config)
    (grid,) = planned.plan.detours.values()
    boundary = planned.plan.outputs["probabilities"]
    assert (grid.dtype, grid.scale) == ("int8", boundary.scale)
    model = planned.emit().model
    assert [op.outputs[0].dtype for op in model.main.ops[-2:]] == ["int8", "uint8"]
    assert plan_of(cnn()).plan.detours == {}


@pytest.mark.parametrize(
    ("source", "name", "fields", "message"),
    [
        (cnn(), "conv", {"bias": False}, "has no bias, but the model's is not zero"),
        (cnn(), "point", {"activation": "RELU"}, "activation=RELU, where its grid asks for"),
        (
            cnn(),
            "residual",
            {"kernel": "QUANTIZE"},
            "kernel=QUANTIZE, activation=None, where",
        ),
        (floors(), "y", {"table": "half"}, "has rows for int16 around zero, but reads int8"),
        (floors(), "y", {"table": "power"}, "has rows for int32, but reads int8"),
    ],
    ids=lambda v: str(v) if not isinstance(v, bytes) else "",
)
def test_a_plan_that_contradicts_itself_is_one_clear_error(source, name, fields, message):
    planned = plan_of(source)
    with pytest.raises(UsageError, match=message):
        emit(planned.prepared.model, edited(planned, name, **fields))
