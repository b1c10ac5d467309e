"""Which models are compared, under which names, and what of them belongs together."""

import numpy as np
import pytest
from small_models import Net, cnn, config_of, plan_of

from tfq.errors import ModelError, UsageError
from tfq.evaluate.contestants import kind_of, load_field
from tfq.graph.model import Model


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
    mixed = plan_of(float_model, config=config_of("dynamic")).emit().model
    assert kind_of(mixed) == "mixed"


def test_the_first_float_model_is_the_reference_and_comes_first(float_model, int8_model, tmp_path):
    (tmp_path / "a.tflite").write_bytes(int8_model)
    (tmp_path / "b.tflite").write_bytes(float_model)
    field = load_field([tmp_path / "a.tflite", str(tmp_path / "b.tflite")])
    assert [m.name for m in field.models] == ["b.tflite", "a.tflite"]
    assert [m.kind for m in field.models] == ["float32", "int8"]
    assert field.reference.path == str(tmp_path / "b.tflite")
    assert [s.dtype for s in field.specs] == ["float32"]


def test_a_reference_may_be_one_of_the_models_or_another(float_model, int8_model, tmp_path):
    (tmp_path / "a.tflite").write_bytes(int8_model)
    (tmp_path / "b.tflite").write_bytes(float_model)
    a, b = tmp_path / "a.tflite", tmp_path / "b.tflite"
    assert load_field([b, a], reference=a).reference.name == "a.tflite"
    field = load_field([a], reference=str(b))
    assert [m.name for m in field.models] == ["b.tflite", "a.tflite"]
    # Integers on a grid are given as the real numbers that they stand for.
    assert load_field([a]).specs[0].dtype == "float32"


def test_names_are_unique(float_model, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.tflite").write_bytes(float_model)
    field = load_field([tmp_path / "one" / "m.tflite", tmp_path / "two" / "m.tflite"])
    assert [m.name for m in field.models] == ["one/m.tflite", "two/m.tflite"]
    twice = load_field([tmp_path / "one" / "m.tflite"] * 2)
    assert len({m.name for m in twice.models}) == 2
    assert [m.name for m in load_field([float_model, float_model]).models] == ["model 1", "model 2"]


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
    field = load_field([two_inputs("ab"), two_inputs("ba")])
    assert dict(field.models[1].inputs) == {"a": "a", "b": "b"}


def test_arguments_of_other_names_are_matched_by_position():
    net = Net()
    x = net.input(1, 3, name="p")
    y = net.input(1, 3, name="q")
    field = load_field([two_inputs("ab"), bare(net.bytes(net.op("SUB", x, y, out="z")))])
    assert dict(field.models[1].inputs) == {"a": "p", "b": "q"}
    assert dict(field.models[1].outputs) == {"y": "z"}


def test_models_with_different_inputs_are_one_error(float_model):
    with pytest.raises(ModelError, match=r"model 2 has other inputs than model 1.*same one"):
        load_field([float_model, two_inputs("ab")])
    net = Net()
    other = net.bytes(net.op("ABS", net.input(1, 9), out="y"))
    with pytest.raises(ModelError, match=r"has shape \[1, 9\].*Compare models"):
        load_field([float_model, other])


def test_what_is_no_model_is_one_error(tmp_path):
    with pytest.raises(UsageError, match="There is no model to evaluate"):
        load_field([])
    (tmp_path / "model.tflite").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match=r"no model at .*modle\.tflite.*'model\.tflite'"):
        load_field([tmp_path / "modle.tflite"])
    with pytest.raises(ModelError, match=r"Cannot read .*model\.tflite"):
        load_field([tmp_path / "model.tflite"])
    with pytest.raises(UsageError, match="A model is a path"):
        load_field([np.zeros(3)])
