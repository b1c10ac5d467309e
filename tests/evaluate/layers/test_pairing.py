"""Which tensors are compared with which."""

import numpy as np
import pytest
from layers_by_hand import (
    assert_isolated,
    both,
    by_name,
    renamed,
    values_of,
)
from small_models import Net, cnn, draw

from tfq.errors import ModelError
from tfq.evaluate.layers import analyse_layers, pair
from tfq.graph.model import Model


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


def test_an_input_is_matched_where_only_one_fits():
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


def sum_of(*shapes):
    net = Net(5)
    inputs = [net.input(*s, name=f"in{i}") for i, s in enumerate(shapes)]
    y = inputs[0]
    for x in inputs[1:]:
        y = net.op("ADD", y, x, shape=inputs[0].shape)
    return net.bytes(net.op("TANH", y, out="y"))


def all_renamed(quantized):
    model = Model.from_bytes(quantized)
    model.main.inputs.reverse()
    for i, t in enumerate(model.main.inputs):
        t.name = f"arg{i}"
    return model.to_bytes()


def test_shapes_pair_what_names_do_not():
    floats, quantized = both(sum_of((1, 4, 6), (1, 1, 6), (1, 4, 1)))
    names = pair(floats, all_renamed(quantized)).input_names
    assert names == {"arg0": "in2", "arg1": "in1", "arg2": "in0"}


def test_shapes_that_are_alike_are_not_guessed():
    floats, quantized = both(sum_of((1, 4, 6), (1, 4, 6)))
    strange = all_renamed(quantized)
    with pytest.raises(ModelError, match="Which input of the quantized model is which"):
        pair(floats, strange)
    given = {"in0": "arg1", "in1": "arg0"}
    assert pair(floats, strange, inputs=given).input_names == {"arg1": "in0", "arg0": "in1"}


def test_a_given_output_counts_more_than_its_name():
    floats, quantized = both(cnn())
    other = renamed(quantized, "probabilities", "StatefulPartitionedCall_1:0")
    # Its shape occurs once among the outputs.
    by_shape = pair(floats, other)
    given = pair(floats, other, outputs={"probabilities": "StatefulPartitionedCall_1:0"})
    assert by_shape.pairs == given.pairs
    assert given.unmatched == ()
    assert [p.float_name for p in given.pairs][-1] == "probabilities"


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
