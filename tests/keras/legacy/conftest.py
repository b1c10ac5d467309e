"""tf_keras models on digits, trained once for all tests of the session."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="session")
def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x = (x[order] / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    y = y[order]
    return SimpleNamespace(x=x[:1400], y=y[:1400], x_test=x[1400:], y_test=y[1400:])


def make_cnn():
    """Conv + BN + ReLU, depthwise + BN + ReLU, separable, pooling, dense: 3.6k parameters."""
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    x = inputs = tf_keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv")(x)
    x = layers.ReLU(name="relu1")(layers.BatchNormalization(name="bn1")(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = layers.ReLU(name="relu2")(layers.BatchNormalization(name="bn2")(x))
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.SeparableConv2D(32, 3, padding="same", activation="relu", name="separable")(x)
    x = layers.Flatten(name="flatten")(x)
    return tf_keras.Model(inputs, layers.Dense(10, name="logits")(x))


def compiled(model, rate=2e-3):
    import tf_keras

    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf_keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model


def accuracy(model, digits):
    predicted = model.predict(digits.x_test, verbose=0).argmax(1)
    return float(np.mean(predicted == digits.y_test))


@pytest.fixture(scope="session")
def trained(digits):
    """The float model after 15 epochs. Tests must not change it, which one of them is about."""
    model = compiled(make_cnn())
    model.fit(digits.x, digits.y, epochs=15, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="session")
def helpers():
    return SimpleNamespace(make_cnn=make_cnn, compiled=compiled, accuracy=accuracy)
