"""Whole Keras models beside TensorFlow's own converter: as many integer ops, no larger an error."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from tfq.convert import convert_model
from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.integers import float_tensors
from tfq.graph.model import Model
from tfq.runtime import Runner

pytestmark = pytest.mark.slow

CLASSES = 10


@pytest.fixture(scope="module")
def digits():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], y[order]


def separable(keras):
    """Convolution, depthwise, BatchNorm, a residual add."""
    layers = keras.layers
    x = inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(12, 3, padding="same", use_bias=False)(x)
    x = shortcut = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Conv2D(12, 1, use_bias=False)(x)
    x = layers.Add()([layers.BatchNormalization(momentum=0.9)(x), shortcut])
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(24, 3, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def dense(keras):
    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(inputs)
    x = layers.Dense(48, activation="relu")(x)
    x = layers.Dense(32, activation="tanh")(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def branches(keras):
    """Three branches of different range, concatenated."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    a = layers.Conv2D(6, 1, activation="relu")(inputs)
    b = layers.Conv2D(6, 3, padding="same", activation="relu")(inputs)
    c = layers.Conv2D(6, 5, padding="same", activation="sigmoid")(inputs)
    x = layers.Concatenate()([a, b, c])
    x = layers.AveragePooling2D(2)(x)
    x = layers.Flatten()(layers.Conv2D(16, 3, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


@dataclasses.dataclass
class Figures:
    ops: Counter
    error: float
    accuracy: float


def figures(model, reference, x, y):
    """Ops other than at the boundary, relative squared error and accuracy of an int8 model."""
    parsed = Model.from_bytes(model)
    names = Counter(op.name for op in parsed.main.ops if op.name not in ("QUANTIZE", "DEQUANTIZE"))
    runner, feed = Runner(model), InputQuantizer(parsed)
    (given,), (out,) = parsed.main.inputs, parsed.main.outputs
    got = np.concatenate(
        [dequantized(parsed, runner.run(feed({given.name: v[None]})))[out.name] for v in x]
    )
    error = float(np.sum((got - reference) ** 2) / np.sum(reference**2))
    return Figures(names, error, float(np.mean(got.argmax(-1) == y)))


@pytest.mark.parametrize("build", [separable, dense, branches])
def test_as_many_integer_ops_and_no_larger_error(build, digits):
    keras = pytest.importorskip("keras")
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    x, y = digits
    train, calibration, test = slice(0, 1100), slice(1100, 1300), slice(1300, None)
    keras.utils.set_random_seed(1)
    model = build(keras)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(4e-3), loss)
    model.fit(x[train], y[train], epochs=8, batch_size=32, verbose=0)

    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 1), tf.float32)])
    def serve(image):
        return model(image, training=False)

    frozen = convert_variables_to_constants_v2(serve.get_concrete_function())

    def converter():
        return tf.lite.TFLiteConverter.from_concrete_functions([frozen], model)

    source = converter().convert()
    stock = converter()
    stock.optimizations = [tf.lite.Optimize.DEFAULT]
    stock.representative_dataset = lambda: ([v[None]] for v in x[calibration])
    stock.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    stock.inference_input_type = stock.inference_output_type = tf.int8
    stock = stock.convert()
    ours = convert_model(source, x[calibration])

    reference = model.predict(x[test], verbose=0)
    theirs = figures(stock, reference, x[test], y[test])
    mine = figures(ours.model, reference, x[test], y[test])
    float_accuracy = float(np.mean(reference.argmax(-1) == y[test]))
    assert float_tensors(Model.from_bytes(ours.model)) == []
    assert mine.ops == theirs.ops
    assert mine.error <= theirs.error * 1.1, (mine.error, theirs.error)
    assert float_accuracy > 0.9
    assert mine.accuracy >= theirs.accuracy - 0.005
    assert abs(mine.accuracy - float_accuracy) <= 0.01
