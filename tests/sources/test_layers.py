import numpy as np
import pytest

from tfq.graph.model import Graph, Model, Op, Signature, Tensor
from tfq.sources.layers import layer_names, layer_of


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model/conv2d_1/Relu;model/conv2d_1/BiasAdd", "conv2d_1"),
        ("functional_1/block/dense/MatMul", "block/dense"),
        ("StatefulPartitionedCall/functional_1/conv/convolution", "conv"),
        ("functional_1/bn/batchnorm/mul_1", "bn"),
        ("functional_1/add_1/Add", "add_1"),
        ("functional_1/lstm/while/lstm_cell/MatMul", "lstm/while/lstm_cell"),
        ("arith.constant12", ""),
        ("arith.constant;model/dense/MatMul", "dense"),
        ("tfl.pseudo_const3", ""),
        ("StatefulPartitionedCall:0", ""),
        ("serving_default_x:0", ""),
        ("functional_1/Relu", ""),
        ("conv/Relu", "conv"),
    ],
)
def test_layer_of(name, layer):
    assert layer_of(name) == layer


def named(*names: str) -> Model:
    x = Tensor("x", (1,), "float32")
    tensors = [Tensor(n, (1,), "float32") for n in names]
    return Model([Graph("main", [Op("ABS", [x], [t]) for t in tensors], [x], tensors)])


def test_the_models_own_scope_is_found():
    names = layer_names(named("my_net/conv/Relu", "my_net/conv/BiasAdd", "my_net/dense/MatMul"))
    assert sorted(set(names.values())) == ["conv", "dense"]


def test_scopes_entered_twice_are_undone():
    names = layer_names(named("functional_1/conv_1/Relu", "functional_1/dense_1/MatMul"))
    assert sorted(names.values()) == ["conv", "dense"]


@pytest.mark.parametrize("known", [(), ("conv", "conv_1", "conv_2", "dense")])
def test_a_scope_whose_second_name_is_taken_has_a_third(known):
    scopes = ["conv_1", "conv_1_2", "conv_2_1", "dense_1"]
    names = layer_names(named(*(f"sequential_1/{s}/Relu" for s in scopes)), known)
    assert list(names.values()) == ["conv", "conv_1", "conv_2", "dense"]


@pytest.mark.slow
def test_layers_of_keras_with_names_that_count():
    keras = pytest.importorskip("keras")
    from tfq.sources import load_source

    keras.backend.clear_session()
    convs = [keras.layers.Conv2D(2, 3, activation="relu") for _ in range(3)]
    net = keras.Sequential([keras.Input((8, 8, 3)), *convs, keras.layers.Dense(2)])
    source = load_source(net)
    by_name = source.layer_names
    ops = Model.from_bytes(source.model).main.ops
    computed = [op.outputs[0].name for op in ops if op.name == "CONV_2D"]
    assert [by_name[n] for n in computed] == ["conv2d", "conv2d_1", "conv2d_2"]
    # Those of the file alone, without the model to ask.
    names = layer_names(Model.from_bytes(source.model))
    assert [names[n] for n in computed] == ["conv2d", "conv2d_1", "conv2d_2"]


def test_known_layers_decide_what_a_number_means():
    tensors = named("functional_1/dense_1/MatMul", "functional_1/dense_1_1/MatMul")
    assert sorted(layer_names(tensors, ["dense", "dense_1"]).values()) == ["dense", "dense_1"]
    tensors = named("functional_1/dense/MatMul", "functional_1/dense_1/MatMul")
    assert sorted(layer_names(tensors, ["dense", "dense_1"]).values()) == ["dense", "dense_1"]


def test_an_output_has_the_layer_of_its_weights():
    model = named("StatefulPartitionedCall:0")
    op = model.main.ops[0]
    op.inputs.append(Tensor("functional_1/head/MatMul1", (1,), "float32", np.ones(1, np.float32)))
    assert layer_names(model)["StatefulPartitionedCall:0"] == "head"


def test_an_output_named_after_a_layer():
    model = named("StatefulPartitionedCall:0")
    model.signatures = [Signature("serving_default", {}, {"probs": model.main.outputs[0]})]
    assert layer_names(model, ["probs"]) == {"StatefulPartitionedCall:0": "probs"}
    assert layer_names(model) == {}


def test_ops_inside_a_known_layer_are_left_out():
    assert list(layer_names(named("model/scale/mul/y"), ["scale"]).values()) == ["scale"]
