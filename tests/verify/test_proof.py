"""The proof finds what is planted."""

import dataclasses
import math

import numpy as np
import pytest
from small_models import Net, cnn, config_of, draw, plan_of

from tfq.errors import ModelError, TfqError
from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.model import Graph, Model, Op, Quant, Tensor, options_type
from tfq.plan.entries import KEEP_FLOAT, OpPlan
from tfq.plan.patterns import exclude_rules
from tfq.runtime import Runner
from tfq.verify.proof import check_full_integer, layer_errors, prove
from tfq.verify.same_model import same_model


@pytest.fixture(scope="module")
def planned():
    return plan_of(cnn())


def float_bytes(planned):
    return planned.prepared.bytes


# --- full integer ---------------------------------------------------------------------------------


def test_a_full_integer_model_passes(planned):
    assert check_full_integer(planned.emit(), planned.plan) == ()


@pytest.mark.parametrize("place", ["constant", "computed", "input", "other graph"])
def test_a_planted_float_tensor_is_found(planned, place):
    emitted = planned.emit()
    graph = emitted.model.main
    if place == "constant":
        bias = graph.ops[0].input(2)
        bias.dtype, bias.data = "float32", bias.values().astype(np.float32)
    elif place == "computed":
        graph.ops[2].outputs[0].dtype = "float32"
    elif place == "input":
        graph.inputs[0].dtype = "float32"
    else:
        x, y = Tensor("bx", (1,), "float32"), Tensor("by", (1,), "float32")
        emitted.model.graphs.append(Graph("body", [Op("TANH", [x], [y])], [x], [y]))
    with pytest.raises(TfqError, match="are not integer") as error:
        check_full_integer(emitted, planned.plan)
    name = {
        "constant": graph.ops[0].input(2).name,
        "computed": "residual",
        "input": "image",
        "other graph": "'by' in body, from TANH",
    }[place]
    assert name in str(error.value)


def test_float_inputs_and_outputs_are_a_choice_of_the_plan():
    planned = plan_of(cnn(), config=config_of(input_type="float32", output_type="float32"))
    assert set(check_full_integer(planned.emit(), planned.plan)) == {"image", "probabilities"}


@pytest.mark.parametrize("layer", ["residual", "probabilities", "conv", "pooled"])
def test_an_excluded_layer_is_float_with_what_touches_it(layer):
    planned = plan_of(cnn(), config=config_of(rules=exclude_rules((f"^{layer}$",))))
    found = check_full_integer(planned.emit(), planned.plan)
    inner = {"probabilities": "probabilities/float32"}.get(layer, layer)
    assert inner in found


def test_another_float_tensor_is_not_excused_by_an_excluded_layer():
    planned = plan_of(cnn(), config=config_of(rules=exclude_rules(("^residual$",))))
    emitted = planned.emit()
    planned_op = next(op for op in emitted.model.main.ops if op.outputs[0].name == "logits")
    planned_op.outputs[0].dtype = "float32"
    with pytest.raises(TfqError, match=r"1 tensor\(s\) .*\n  'logits'"):
        check_full_integer(emitted, planned.plan)


def test_a_body_may_be_float_where_its_loop_is(planned):
    emitted = planned.emit()
    x, y = Tensor("bx", (1,), "float32"), Tensor("by", (1,), "float32")
    emitted.model.graphs.append(Graph("body", [Op("TANH", [x], [y])], [x], [y]))
    loop = Op("WHILE", [emitted.model.main.inputs[0]], [Tensor("loop", (1,), "float32")])
    emitted.model.main.ops.append(loop)
    emitted = dataclasses.replace(emitted, tensors={**emitted.tensors, "loop": loop.outputs[0]})
    plan = dataclasses.replace(
        planned.plan, ops={**planned.plan.ops, "loop": OpPlan("WHILE", KEEP_FLOAT)}
    )
    assert set(check_full_integer(emitted, plan)) == {"loop", "bx", "by"}


# --- figures --------------------------------------------------------------------------------------


def test_errors_are_those_of_a_calculation_by_hand(planned):
    model = planned.emit().model
    samples = draw(planned.prepared.bytes, 6, seed=5)
    proof = prove(float_bytes(planned), model.to_bytes(), samples, held_back=True)
    runner, feed = Runner(model.to_bytes()), InputQuantizer(model)
    a = np.array([Runner(float_bytes(planned)).run(s)["probabilities"] for s in samples], float)
    b = np.array([dequantized(model, runner.run(feed(s)))["probabilities"] for s in samples], float)
    (output,) = proof.outputs
    assert output.name == "probabilities"
    assert output.max_lsb == pytest.approx(np.abs(a - b).max() * 256)
    assert output.mean_lsb == pytest.approx(np.abs(a - b).mean() * 256)
    assert output.max_abs == pytest.approx(np.abs(a - b).max())
    assert output.sqnr_db == pytest.approx(10 * math.log10((a**2).sum() / ((a - b) ** 2).sum()))
    assert output.agreement == np.mean(a.argmax(-1) == b.argmax(-1))
    assert (proof.samples, proof.held_back, proof.collapsed) == (6, True, ())
    assert proof.worst_layers == ()
    assert set(proof.kernels_lsb) == {"probabilities"}
    assert proof.kernels_lsb["probabilities"] <= 2
    assert proof.reference_note == ""


def test_identical_models_have_no_error():
    source = cnn()
    proof = prove(source, source, draw(source, 3), held_back=False)
    (output,) = proof.outputs
    assert output.sqnr_db == math.inf
    assert output.max_abs == 0
    assert output.max_lsb is None
    assert output.agreement == 1.0
    assert not proof.held_back


def test_progress(planned):
    seen = []
    emitted = planned.emit().model.to_bytes()
    samples = draw(float_bytes(planned), 3)
    prove(
        float_bytes(planned), emitted, samples, held_back=True, progress=lambda *a: seen.append(a)
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_ops_that_the_reference_kernels_lack_are_named():
    net = Net()
    y = net.op("ELU", net.input(1, 4), out="y")
    planned = plan_of(net.bytes(net.dense(y, 3)))
    emitted = planned.emit().model
    proof = prove(
        planned.prepared.bytes, emitted.to_bytes(), draw(planned.prepared.bytes, 2), held_back=False
    )
    if "ELU" in {op.name for op in emitted.main.ops}:
        assert "ELU" in proof.reference_note
        assert proof.kernels_lsb == {}
    else:
        assert proof.reference_note == ""


def test_a_model_that_litert_refuses_is_an_error(planned):
    model = planned.emit().model
    model.main.ops[0].version = 99
    with pytest.raises(ModelError, match="refuses"):
        prove(
            float_bytes(planned), model.to_bytes(), draw(float_bytes(planned), 1), held_back=False
        )


# --- collapse -------------------------------------------------------------------------------------


def test_a_constant_output_is_reported_with_the_worst_layers(planned):
    emitted = planned.emit()
    dense = next(op for op in emitted.model.main.ops if op.name == "FULLY_CONNECTED")
    dense.input(1).data = np.zeros_like(dense.input(1).values())
    proof = prove(
        float_bytes(planned),
        emitted.model.to_bytes(),
        draw(float_bytes(planned), 4),
        held_back=True,
    )
    assert proof.collapsed == ("probabilities",)
    names = [e.name for e in proof.worst_layers]
    assert "logits" in names[:2]
    assert [e.sqnr_db for e in proof.worst_layers] == sorted(e.sqnr_db for e in proof.worst_layers)


def test_an_output_of_noise_is_reported():
    net = Net()
    y = net.dense(net.input(1, 16, name="x"), 8, bias=np.zeros(8), out="y")
    planned = plan_of(net.bytes(y))
    emitted = planned.emit()
    weights = emitted.model.main.ops[0].input(1)
    rng = np.random.default_rng(0)
    weights.data = rng.permutation(weights.values().reshape(-1)).reshape(weights.shape)
    samples = draw(planned.prepared.bytes, 8)
    proof = prove(planned.prepared.bytes, emitted.model.to_bytes(), samples, held_back=True)
    assert proof.collapsed == ("y",)
    assert proof.outputs[0].sqnr_db < 3


def test_a_good_model_is_not_reported_though_its_output_hardly_changes():
    """A float model whose output is the same for every sample cannot collapse."""
    net = Net()
    x = net.input(1, 4, name="x")
    y = net.dense(net.op("MUL", x, 0.0), 3, bias=np.array([1.0, 2, 3]), out="y")
    planned = plan_of(net.bytes(y))
    samples = draw(planned.prepared.bytes, 4)
    proof = prove(planned.prepared.bytes, planned.emit().model.to_bytes(), samples, held_back=True)
    assert proof.collapsed == ()


def test_layer_errors_name_the_layer_that_is_off(planned):
    emitted = planned.emit()
    point = next(op for op in emitted.model.main.ops if op.outputs[0].name == "point")
    quant = point.input(1).quant
    point.input(1).data = np.zeros_like(point.input(1).values())
    point.input(1).quant = Quant(quant.scale, quant.zero_point, quant.axis)
    errors = layer_errors(
        float_bytes(planned), emitted.model.to_bytes(), draw(float_bytes(planned), 2)
    )
    found = {e.name: e.sqnr_db for e in errors}
    assert found["point"] < 10
    assert found["conv"] > 30
    assert {"image", "conv", "point", "residual", "depthwise", "pooled", "logits"} <= set(found)
    assert errors[0].sqnr_db == min(found.values())


# --- rewrites -------------------------------------------------------------------------------------


def test_the_same_model_passes():
    source = cnn()
    prepared = plan_of(source).prepared.bytes
    same_model(source, source, draw(source, 2))
    same_model(source, prepared, draw(source, 2))


@pytest.mark.parametrize("factor", [1.01, -1.0, np.nan])
def test_a_planted_change_is_caught(factor):
    source = cnn()
    changed = Model.from_bytes(source)
    bias = next(op for op in changed.main.ops if op.outputs[0].name == "logits").input(2)
    if np.isnan(factor):
        bias.data = np.full_like(bias.values(), np.nan)
    else:
        weights = changed.main.ops[0].input(1)
        weights.data = weights.values() * np.float32(factor)
    with pytest.raises(TfqError, match="rewrite changed output 'probabilities'"):
        same_model(source, changed.to_bytes(), draw(source, 2))


def test_rounding_of_floats_is_no_change():
    net = Net()
    x = net.input(1, 64, name="x")
    y = net.dense(x, 8, out="y")
    source = net.bytes(y)
    other = Model.from_bytes(source)
    w = other.main.ops[0].input(1)
    w.data = w.values() * np.float32(1 + 2e-7)
    same_model(source, other.to_bytes(), draw(source, 3))


def test_a_changed_integer_output_is_caught():
    def argmax(axis_value):
        net = Net()
        x = net.input(1, 5, name="x")
        options = options_type("ArgMaxOptions")()
        options.outputType = 2
        y = net.op(
            "ARG_MAX",
            net.op("MUL", x, axis_value),
            net.const(1, "int32"),
            shape=(1,),
            dtype="int32",
            out="y",
            options=options,
        )
        return net.bytes(y)

    source = argmax(1.0)
    same_model(source, source + b"", draw(source, 2))
    with pytest.raises(TfqError, match="rewrite changed output 'y'"):
        same_model(source, argmax(-1.0), draw(source, 2))


def test_outputs_that_share_a_name_are_compared_by_position():
    net = Net()
    x = net.input(1, 4, name="x")
    a, b = net.dense(x, 3, out="y"), net.dense(x, 3, out="y")
    source = net.bytes(a, b)
    prepared = plan_of(source).prepared
    names = [t.name for t in prepared.model.main.outputs]
    assert names[0] == "y"
    assert len(set(names)) == 2
    same_model(source, prepared.bytes, draw(prepared.bytes, 2))
    prepared.model.main.outputs.reverse()
    with pytest.raises(TfqError, match="rewrite changed output"):
        same_model(source, prepared.model.to_bytes(), draw(prepared.bytes, 2))


def classes(factor):
    net = Net()
    x = net.input(1, 5, name="x")
    options = options_type("ArgMaxOptions")()
    options.outputType = 2
    y = net.dense(x, 5, weights=np.eye(5) * factor, bias=np.zeros(5))
    axis = net.const(1, "int32")
    found = net.op("ARG_MAX", y, axis, shape=(1,), dtype="int32", out="y", options=options)
    return net.bytes(found)


def test_class_numbers_are_compared_as_equal_or_not():
    source = classes(1.0)
    planned = plan_of(source)
    samples = draw(source, 20)
    good = planned.emit().model.to_bytes()
    proof = prove(planned.prepared.bytes, good, samples, held_back=True)
    (output,) = proof.outputs
    assert output.agreement >= 0.9
    assert proof.collapsed == ()
    bad = plan_of(classes(-1.0)).emit().model.to_bytes()
    proof = prove(planned.prepared.bytes, bad, samples, held_back=True)
    assert proof.outputs[0].agreement < 0.5
    assert proof.collapsed == ("y",)


def test_outputs_of_another_shape_are_an_error(planned):
    def net(*shape):
        net = Net()
        return net.bytes(net.reshape(net.input(1, 6), *shape, out="y"))

    samples = [{"in0": np.ones((1, 6), np.float32)}]
    with pytest.raises(ModelError, match=r"'y' has the shape \[2, 3\] in the source and \[3, 2\]"):
        same_model(net(2, 3), net(3, 2), samples)
    with pytest.raises(ModelError, match=r"'y' has the shape \[2, 3\] in the source and \[3, 2\]"):
        prove(net(2, 3), net(3, 2), samples, held_back=False)


def test_a_stated_shape_that_is_not_the_computed_one_is_not_trusted():
    """LiteRT does not look at what a file states of it."""
    net = Net()
    y = net.op("COS", net.input(1, 6), out="y")
    y.shape = (2, 37)
    source = net.bytes(y)
    samples = [{"in0": np.full((1, 6), n, np.float32)} for n in range(3)]
    (output,) = prove(source, source, samples, held_back=False).outputs
    assert output.max_abs == 0


def selecting() -> bytes:
    """An output that has a row for each positive value."""
    net = Net()
    mask = net.op("GREATER", net.input(1, 6, name="x"), 0.0, shape=(1, 6), dtype="bool")
    rows = net.op("WHERE", mask, shape=(1, 2), dtype="int64", out="rows")
    rows.signature = (-1, 2)
    return net.bytes(rows)


def test_an_output_whose_size_depends_on_the_values_is_an_error():
    samples = [{"x": np.array([[1, -1, 1, x, 1, 1]], np.float32)} for x in (1, -1)]
    prove(selecting(), selecting(), samples[:1], held_back=False)
    with pytest.raises(ModelError, match=r"'rows' has the shape \[5, 2\] .* and \[4, 2\] for"):
        prove(selecting(), selecting(), samples, held_back=False)


def test_an_input_without_dimensions():
    net = Net(0)
    x = net.input(1, 4, name="x")
    s = net.input(name="s")
    source = net.bytes(net.op("ADD", x, s, out="y"))
    planned = plan_of(source)
    samples = draw(source, 3, seed=2)
    proof = prove(planned.prepared.bytes, planned.emit().model.to_bytes(), samples, held_back=True)
    assert proof.outputs[0].sqnr_db > 25
    assert proof.kernels_lsb["y"] <= 1
