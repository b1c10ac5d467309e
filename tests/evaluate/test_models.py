"""Which models are compared, under which names, and what of them belongs together."""

import numpy as np
import pytest
from flatbuffers import flexbuffers
from small_models import Net, cnn, config_of, plan_of

from tfq.convert import convert_model
from tfq.errors import ModelError, UsageError
from tfq.evaluate.models import kind_of, load_models
from tfq.graph.model import Model, Op, Quant, Tensor
from tfq.rewrite.core import new_op


@pytest.fixture(scope="module")
def float_model():
    return cnn()


@pytest.fixture(scope="module")
def int8_model(float_model):
    return plan_of(float_model).emit().model.to_bytes()


def test_kinds(float_model, int8_model):
    assert kind_of(Model.from_bytes(float_model)) == "float32"
    assert kind_of(Model.from_bytes(int8_model)) == "int8"
    wide = plan_of(float_model, config=config_of("int16x8")).emit().model
    assert kind_of(wide) == "int16"
    half = plan_of(float_model, config=config_of("float16")).emit().model
    assert kind_of(half) == "float16"
    converted = convert_model(float_model, "synthetic", input_type="float32")
    assert kind_of(Model.from_bytes(converted.model)) == "int8"
    mixed = plan_of(float_model, config=config_of("dynamic")).emit().model
    assert kind_of(mixed) == "mixed"


def verified(model: Model) -> None:
    """Adds what LiteRT's debugger writes: a custom op that LiteRT has, behind the last one."""
    last = model.main.ops[-1].outputs[0]
    real, difference = (Tensor(n, last.shape, "float32") for n in ("real", "difference"))
    options = flexbuffers.Builder()
    with options.Map():
        options.Key("tolerance")
        options.Float(5.0)
        options.Key("log_if_failed")
        options.Bool(False)
    numeric_verify = Op("CUSTOM", [last, real], [difference], custom_code="NumericVerify")
    numeric_verify.custom_options = bytes(options.Finish())
    model.main.ops += [new_op("DEQUANTIZE", [last], real), numeric_verify]


def test_a_file_with_custom_ops_of_litert_is_compared(float_model, int8_model):
    model = Model.from_bytes(int8_model)
    verified(model)
    assert load_models([float_model, model.to_bytes()]).models[1].kind == "mixed"


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("scale", [None, 0.0])
def test_a_quantized_file_that_crashes_the_interpreter_is_an_error(
    float_model, int8_model, scale, custom
):
    damaged = Model.from_bytes(int8_model)
    if custom:
        verified(damaged)
    for op in damaged.main.ops:
        if op.name in ("CONV_2D", "ADD"):
            op.outputs[0].quant = None if scale is None else Quant.per_tensor(scale)
    with pytest.raises(ModelError, match=r"^The model (crashes the LiteRT|does not run)"):
        load_models([float_model, damaged.to_bytes()])


@pytest.mark.parametrize("quantized", [False, True])
def test_ops_out_of_order_are_sorted_and_that_is_said(float_model, int8_model, quantized, tmp_path):
    model = Model.from_bytes(int8_model if quantized else float_model)
    labels = [op.label for op in model.main.ops]
    model.main.ops[1:3] = reversed(model.main.ops[1:3])
    (tmp_path / "odd.TFLITE").write_bytes(model.to_bytes())
    comparison = load_models([float_model, tmp_path / "odd.TFLITE"])
    assert [op.label for op in Model.from_bytes(comparison.models[1].model).main.ops] == labels
    (told,) = comparison.warnings
    assert told.startswith(f"Ops of {tmp_path / 'odd.TFLITE'} stand before what they read")


def test_the_first_float_model_is_the_reference_and_comes_first(float_model, int8_model, tmp_path):
    (tmp_path / "a.tflite").write_bytes(int8_model)
    (tmp_path / "b.tflite").write_bytes(float_model)
    comparison = load_models([tmp_path / "a.tflite", str(tmp_path / "b.tflite")])
    assert [m.name for m in comparison.models] == ["b.tflite", "a.tflite"]
    assert [m.kind for m in comparison.models] == ["float32", "int8"]
    assert comparison.reference.path == str(tmp_path / "b.tflite")
    assert [s.dtype for s in comparison.specs] == ["float32"]


def test_a_reference_may_be_one_of_the_models_or_another(float_model, int8_model, tmp_path):
    (tmp_path / "a.tflite").write_bytes(int8_model)
    (tmp_path / "b.tflite").write_bytes(float_model)
    a, b = tmp_path / "a.tflite", tmp_path / "b.tflite"
    assert load_models([b, a], reference=a).reference.name == "a.tflite"
    comparison = load_models([a], reference=str(b))
    assert [m.name for m in comparison.models] == ["b.tflite", "a.tflite"]
    # Integers on a grid are given as the real numbers that they stand for.
    assert load_models([a]).specs[0].dtype == "float32"


def test_half_precision_is_run_and_reported_as_the_file_has_it(float_model, tmp_path):
    half = plan_of(float_model, config=config_of("float16")).emit().model.to_bytes()
    (tmp_path / "half.tflite").write_bytes(half)
    (tmp_path / "full.tflite").write_bytes(float_model)
    comparison = load_models([tmp_path / "half.tflite", tmp_path / "full.tflite"])
    assert [m.kind for m in comparison.models] == ["float32", "float16"]
    assert comparison.models[1].model == half
    assert comparison.models[1].file == half


def test_names_are_unique(float_model, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.tflite").write_bytes(float_model)
    comparison = load_models([tmp_path / "one" / "m.tflite", tmp_path / "two" / "m.tflite"])
    assert [m.name for m in comparison.models] == ["one/m.tflite", "two/m.tflite"]
    twice = load_models([tmp_path / "one" / "m.tflite"] * 2)
    assert len({m.name for m in twice.models}) == 2
    assert [m.name for m in load_models([float_model, float_model]).models] == [
        "model 1",
        "model 2",
    ]


def two_inputs(order):
    net = Net()
    by_name = {n: net.input(1, 3, name=n) for n in order}
    return bare(net.bytes(net.op("SUB", by_name["a"], by_name["b"], out="y")))


def bare(model):
    """Without signature: arguments are called as their tensors."""
    read = Model.from_bytes(model)
    read.signatures = []
    return read.to_bytes()


def test_arguments_are_matched_by_name_before_position():
    comparison = load_models([two_inputs("ab"), two_inputs("ba")])
    assert dict(comparison.models[1].inputs) == {"a": "a", "b": "b"}


def other_names(shape_of_q=3):
    net = Net()
    x = net.input(1, 3, name="p")
    y = net.input(1, shape_of_q, name="q")
    return bare(net.bytes(net.op("SUB", x, y, out="z")))


def test_arguments_of_other_names_are_told_apart_by_shape():
    net = Net()
    a = net.input(1, 1, name="a")
    b = net.input(1, 3, name="b")
    comparison = load_models([bare(net.bytes(net.op("SUB", b, a, out="y"))), other_names(1)])
    assert dict(comparison.models[1].inputs) == {"a": "q", "b": "p"}
    assert dict(comparison.models[1].outputs) == {"y": "z"}
    assert comparison.warnings == ()


def test_inputs_that_neither_name_nor_shape_tells_apart_are_an_error():
    with pytest.raises(ModelError, match="Which input of model 2 is which of model 1 cannot be"):
        load_models([two_inputs("ab"), other_names()])


def test_what_tensorflow_puts_around_a_name_does_not_count():
    net = Net()
    given = {n: net.input(1, 3, name=f"serving_default_{n}:0") for n in "ba"}
    tensorflow = bare(net.bytes(net.op("SUB", given["a"], given["b"], out="y")))
    comparison = load_models([two_inputs("ab"), tensorflow])
    assert dict(comparison.models[1].inputs) == {
        "a": "serving_default_a:0",
        "b": "serving_default_b:0",
    }


def test_outputs_of_other_names_are_taken_in_order_and_that_is_said():
    def two_outputs(*names):
        net = Net()
        x = net.input(1, 3, name="x")
        return bare(net.bytes(*(net.op("ABS", x, out=n) for n in names)))

    comparison = load_models([two_outputs("a", "b"), two_outputs("c", "d")])
    assert dict(comparison.models[1].outputs) == {"a": "c", "b": "d"}
    assert comparison.warnings == (
        "The outputs of model 2 have other names, and are taken in order: c as a, d as b.",
    )


def test_models_with_different_inputs_are_one_error(float_model):
    with pytest.raises(ModelError, match=r"model 2 has other inputs than model 1.*same one"):
        load_models([float_model, two_inputs("ab")])
    net = Net()
    other = net.bytes(net.op("ABS", net.input(1, 9), out="y"))
    with pytest.raises(ModelError, match=r"has shape \[1, 9\].*Compare models"):
        load_models([float_model, other])


def test_what_is_no_model_is_one_error(tmp_path):
    with pytest.raises(UsageError, match="There is no model to evaluate"):
        load_models([])
    (tmp_path / "model.tflite").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match=r"no model at .*modle\.tflite.*'model\.tflite'"):
        load_models([tmp_path / "modle.tflite"])
    with pytest.raises(ModelError, match=r"Cannot read .*model\.tflite"):
        load_models([tmp_path / "model.tflite"])
    with pytest.raises(UsageError, match="A model is a path"):
        load_models([np.zeros(3)])


def heads(joined=True):
    """Boxes and scores, in one output or two."""
    net = Net(3)
    x = net.input(1, 8, name="x")
    a = net.dense(x, 4, weights=net.rng.normal(0, 90, (4, 8)), out="boxes")
    b = net.dense(x, 6, out="scores")
    return net.bytes(*([net.op("CONCATENATION", a, b, shape=(1, 10), axis=1)] if joined else [a]))


def test_outputs_are_split_like_those_of_a_file_that_was_made_so():
    source = heads()
    data = {"x0": np.random.default_rng(0).normal(0, 1, (40, 8)).astype(np.float32)}
    plain = convert_model(source, data).model
    split = convert_model(source, data, split_output="y0").model
    comparison = load_models([source, plain, split])
    assert [o.name for o in comparison.outputs] == ["y0_0", "y0_1"]
    assert all(dict(m.outputs) == {"y0_0": "boxes", "y0_1": "scores"} for m in comparison.models)
    assert comparison.models[1].file == plain
    (told,) = [w for w in comparison.warnings if "split" in w]
    assert "model 3 was made with --split_output=y0: " in told
    assert "the outputs of model 1, model 2 are split, too" in told
    with pytest.raises(ModelError, match=r"and the outputs of model 1 cannot be split like it"):
        load_models([heads(joined=False), split])
