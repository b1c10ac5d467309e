"""Trains a small CNN on scikit-learn's handwritten digits and saves it with its own samples.

The network has what makes quantization interesting, in three thousand parameters: depthwise layers,
BatchNorm after every convolution, ReLU6, a residual add. Samples that training has not seen are put
inside the SavedModel with their labels, so that

    python -m tfq.convert examples/digits/saved_model

calibrates, quantizes and compares accuracies without any other argument. Takes about a minute:

    python examples/digits/train.py [FOLDER]
"""

from __future__ import annotations

import pathlib
import shutil
import sys

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import tfq

HELD_BACK = 297
EPOCHS = 60
SEED = 1


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images float32 [N, 8, 8, 1] in [0, 1] and labels int64 [N]: training set, then held back."""
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[..., None]
    x, x_held, y, y_held = train_test_split(
        images, digits.target, test_size=HELD_BACK, random_state=SEED, stratify=digits.target
    )
    return x, y, x_held, y_held


def conv_bn(x, filters: int, kernel: int, name: str, relu: bool = True):
    x = layers.Conv2D(filters, kernel, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(6, name=f"{name}_relu")(x) if relu else x


def depthwise_bn(x, strides: int, name: str):
    x = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(6, name=f"{name}_relu")(x)


def build() -> keras.Model:
    image = keras.Input((8, 8, 1), name="image")
    x = stem = conv_bn(image, 16, 3, "stem")
    x = conv_bn(x, 32, 1, "expand")
    x = depthwise_bn(x, 1, "depthwise")
    x = conv_bn(x, 16, 1, "project", relu=False)
    x = layers.Add(name="residual")([stem, x])
    x = depthwise_bn(x, 2, "reduce")
    x = conv_bn(x, 32, 1, "head")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="digit")(x))


def main(folder: pathlib.Path) -> None:
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()  # The same weights on every run.
    x, y, x_held, y_held = load()
    model = build()
    schedule = keras.optimizers.schedules.CosineDecay(4e-3, EPOCHS * -(-len(x) // 64))
    model.compile(
        keras.optimizers.Adam(schedule),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(x, y, batch_size=64, epochs=EPOCHS, verbose=2)
    _, accuracy = model.evaluate(x_held, y_held, verbose=0)
    print(f"accuracy on {len(x_held)} digits that training has not seen: {accuracy:.3f}")

    shutil.rmtree(folder, ignore_errors=True)
    model.export(folder, verbose=False)
    tfq.save_representative_dataset(folder, {"image": x_held, "y": y_held}, limit=HELD_BACK)


if __name__ == "__main__":
    default = pathlib.Path(__file__).parent / "saved_model"
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default)
