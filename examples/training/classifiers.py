"""What the examples of this folder share: the data, the network, and the figures they print."""

from __future__ import annotations

import gzip
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

FASHION_MNIST = pathlib.Path("/usr/share/datasets/fashion-mnist")
CLASSES = 10


class Images(NamedTuple):
    """Images float32 [N, height, width, 1] in [0, 1] and classes int64 [N].

    Attributes:
      x, y: to train with.
      x_held, y_held: that training does not see.
    """

    x: np.ndarray
    y: np.ndarray
    x_held: np.ndarray
    y_held: np.ndarray


def same_on_every_run(seed: int) -> None:
    """The same weights on every run, at the price of a little speed."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def load_digits(held: int = 297) -> Images:
    """Scikit-learn's handwritten digits, 8 x 8 pixels."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    digits = datasets.load_digits()
    images = (digits.images / 16).astype(np.float32)[..., None]
    x, x_held, y, y_held = train_test_split(
        images, digits.target, test_size=held, random_state=1, stratify=digits.target
    )
    return Images(x, y, x_held, y_held)


def load_fashion_mnist(folder: pathlib.Path, train: int, test: int) -> Images:
    """The first images of Fashion-MNIST, 28 x 28 pixels; ends the program where it is missing."""
    if not (folder / "train-images-idx3-ubyte.gz").exists():
        sys.exit(
            f"Fashion-MNIST is not in {folder}. Install Debian's package: "
            "apt-get install dataset-fashion-mnist. Or name a folder that holds its four "
            "*-ubyte.gz files with --folder."
        )

    def read(name: str, header: int, count: int, size: int) -> np.ndarray:
        with gzip.open(folder / name) as f:
            return np.frombuffer(f.read(header + count * size)[header:], np.uint8)

    def images(name: str, count: int) -> np.ndarray:
        pixels = read(f"{name}-images-idx3-ubyte.gz", 16, count, 784)
        return (pixels.reshape(-1, 28, 28, 1) / 255).astype(np.float32)

    def classes(name: str, count: int) -> np.ndarray:
        return read(f"{name}-labels-idx1-ubyte.gz", 8, count, 1).astype(np.int64)

    return Images(
        images("train", train), classes("train", train), images("t10k", test), classes("t10k", test)
    )


def conv_net(shape: Sequence[int], width: int = 16) -> keras.Model:
    """A small CNN of the mobile kind: BatchNormalization, a depthwise layer, a residual sum.

    Args:
      shape: of one image.
      width: channels of the first layer; the others have two and four times as many.
    """

    def normalized(x, name):
        x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        return layers.ReLU(6, name=f"{name}_relu")(x)

    image = keras.Input(shape, name="image")
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name="stem")(image)
    x = normalized(x, "stem")
    x = layers.Conv2D(2 * width, 3, 2, padding="same", use_bias=False, name="body")(x)
    x = skip = normalized(x, "body")
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = normalized(x, "depthwise")
    x = layers.Conv2D(2 * width, 1, use_bias=False, name="point")(x)
    x = layers.BatchNormalization(momentum=0.9, name="point_bn")(x)
    x = layers.Add(name="residual")([skip, x])
    x = layers.Conv2D(4 * width, 3, 2, padding="same", use_bias=False, name="head")(x)
    x = normalized(x, "head")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax", name="class")(x))


def fit(model: keras.Model, images: Images, epochs: int, rate: float, callbacks=()) -> None:
    """Trains a model with Adam, whose learning rate falls from `rate` to 0."""
    compiled(model, images, epochs, rate)
    model.fit(images.x, images.y, 64, epochs, verbose=0, callbacks=list(callbacks))


def compiled(model: keras.Model, images: Images, epochs: int, rate: float) -> keras.Model:
    steps = epochs * -(-len(images.x) // 64)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        keras.optimizers.Adam(schedule),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def answers(model: keras.Model | bytes, x: np.ndarray) -> np.ndarray:
    """The most likely class of each image, int64 [N].

    Args:
      model: a Keras model, or a `.tflite` file, which runs in LiteRT.
      x: images, float32.
    """
    if isinstance(model, keras.Model):
        return model.predict(x, verbose=0).argmax(-1)
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    (given,), (wanted,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero_point = given["quantization"]
    if scale:
        limits = np.iinfo(given["dtype"])
        x = np.clip(np.rint(x / scale) + zero_point, limits.min, limits.max)
    scores = []
    for image in x.astype(given["dtype"]):
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        scores.append(interpreter.get_tensor(wanted["index"])[0])
    return np.array(scores).argmax(-1)


class Table:
    """Prints a line for each model as it is measured.

    Args:
      images: whose held back part is measured on.
    """

    def __init__(self, images: Images):
        self._images = images
        print(f"{'':24}{'runs in':10}{'accuracy':>9}{'bytes':>10}")

    def add(self, name: str, model: keras.Model | bytes) -> np.ndarray:
        """Measures a model and returns its answers."""
        found = answers(model, self._images.x_held)
        accuracy = f"{(found == self._images.y_held).mean():.2%}"
        if isinstance(model, bytes):
            print(f"{name:24}{'LiteRT':10}{accuracy:>9}{len(model):>10,}", flush=True)
        else:
            print(f"{name:24}{'Keras':10}{accuracy:>9}", flush=True)
        return found
