"""What both sides of `training.py` train: the data, the network, the recipe.

Imports numpy alone. `build` takes the Keras that makes the network, Keras 3 or tf_keras; weights go
from one to the other by layer names.
"""

from __future__ import annotations

import gzip
import pathlib
from typing import Any

import numpy as np

FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
PRETRAINING = 8  # Epochs of the float model that every contestant starts from.
EPOCHS = 4  # Epochs of every contestant.
BATCH = 128
PRETRAINING_RATE = 3e-3
RATE = 1e-3
CALIBRATION = 256  # Training images that ranges start from.
# Output channels and strides of the depthwise separable blocks behind a first layer of 32 channels.
BLOCKS = ((64, 2), (128, 2), (256, 1), (192, 1))
# What results depend on; those of another recipe are no longer taken from the cache.
RECIPE = (1, BLOCKS, BATCH, PRETRAINING, PRETRAINING_RATE, EPOCHS, RATE, CALIBRATION)


def check_data() -> None:
    """Raises SystemExit, with the way to get it, if Fashion-MNIST is not there."""
    if not FASHION.is_dir():
        raise SystemExit(
            f"Fashion-MNIST is missing in {FASHION}. Debian has it: "
            "apt-get install -y dataset-fashion-mnist"
        )


def _idx(name: str) -> np.ndarray:
    data = gzip.decompress((FASHION / f"{name}.gz").read_bytes())
    rank = data[3]
    shape = np.frombuffer(data, ">i4", rank, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [n, 28, 28, 1] in 0..1 and labels int64 [n] of "train" or "t10k"."""
    images = (_idx(f"{part}-images-idx3-ubyte")[..., None] / 255).astype(np.float32)
    return images, _idx(f"{part}-labels-idx1-ubyte").astype(np.int64)


def build(keras: Any) -> Any:
    """A MobileNet-style classifier of 28x28 images with about 103,000 parameters; logits."""
    layers = keras.layers

    def normalized(x: Any, name: str) -> Any:
        x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    options: dict[str, Any] = {"padding": "same", "use_bias": False}
    inputs = keras.Input((28, 28, 1), name="image")
    x = normalized(layers.Conv2D(32, 3, strides=2, name="first", **options)(inputs), "first")
    for i, (channels, stride) in enumerate(BLOCKS):
        depthwise = layers.DepthwiseConv2D(3, strides=stride, name=f"dw{i}", **options)
        x = normalized(depthwise(x), f"dw{i}")
        x = normalized(layers.Conv2D(channels, 1, name=f"pw{i}", **options)(x), f"pw{i}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(10, name="scores")(x))


def save_weights(model: Any, path: pathlib.Path) -> None:
    """Every layer's weights under `layer/number`."""
    arrays = {
        f"{layer.name}/{i}": w for layer in model.layers for i, w in enumerate(layer.get_weights())
    }
    np.savez(path, **arrays)


def load_weights(model: Any, path: str) -> None:
    """Sets the weights of a model of `build` from either Keras."""
    with np.load(path) as file:
        for layer in model.layers:
            count = len(layer.get_weights())
            layer.set_weights([file[f"{layer.name}/{i}"] for i in range(count)])


def compile_model(keras: Any, model: Any, steps: int, rate: float = RATE) -> None:
    """Adam with a cosine from `rate` to 0 over so many steps, cross-entropy, no XLA.

    XLA, Keras 3's default, runs depthwise convolutions' gradients on a CPU some ten times slower.
    """
    cosine = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        optimizer=keras.optimizers.Adam(cosine),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )


def step_times(models: dict[str, Any], rounds: int, steps: int) -> dict[str, list[float]]:
    """Milliseconds a training step of each compiled model, in turns: `rounds` figures for each."""
    import time

    import tensorflow as tf

    x, y = load("train")
    data = tf.data.Dataset.from_tensor_slices((x[: 8 * BATCH], y[: 8 * BATCH]))
    feeds, functions = {}, {}
    for name, model in models.items():
        feeds[name] = iter(data.batch(BATCH, drop_remainder=True).cache().repeat())
        functions[name] = model.make_train_function() or model.train_function
        for _ in range(10):  # Traces, and fills the cache.
            functions[name](feeds[name])
    ms: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, function in functions.items():
            started = time.perf_counter()
            for _ in range(steps):
                function(feeds[name])
            ms[name].append(1000 * (time.perf_counter() - started) / steps)
    return ms
