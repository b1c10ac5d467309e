"""Small Keras models, samples, and a classifier of digits."""

import functools

import keras
import numpy as np

L = keras.layers


def residual() -> keras.Model:
    """Sums, a concatenation, squeeze and excitation, separable convolutions, flattening."""
    i = keras.Input((8, 8, 1))
    x = L.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(i)
    x = L.ReLU()(L.BatchNormalization()(x))
    y = L.BatchNormalization()(L.Conv2D(16, 3, padding="same", name="branch")(x))
    x = L.ReLU(6.0)(L.Add()([x, y]))
    x = L.ReLU()(L.DepthwiseConv2D(3, strides=2, padding="same", name="depthwise")(x))
    a = L.Conv2D(12, 1, activation="relu", name="left")(x)
    b = L.Conv2D(8, 3, padding="same", activation="relu", name="right")(x)
    x = L.Concatenate()([a, b])
    s = L.Dense(6, activation="relu", name="squeeze")(L.GlobalAveragePooling2D()(x))
    s = L.Reshape((1, 1, 20))(L.Dense(20, activation="sigmoid", name="excite")(s))
    x = L.Multiply()([x, s])
    x = L.SeparableConv2D(10, 3, activation="relu", name="separable")(L.ZeroPadding2D()(x))
    x = L.Dense(24, activation="relu", name="hidden")(L.Flatten()(L.MaxPooling2D(2)(x)))
    return keras.Model(i, L.Dense(10, name="scores")(x), name="residual")


def sequential() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(8, 3, activation="relu", name="first"),
            L.Conv2DTranspose(6, 2, name="up"),
            L.PReLU(shared_axes=[1, 2]),
            L.Dropout(0.1),
            L.Reshape((-1, 6)),
            L.Conv1D(5, 3, name="line"),
            L.LeakyReLU(),
            L.LSTM(4, name="recurrent"),
            L.Dense(3, activation="softmax", name="scores"),
        ],
        name="sequential",
    )


def nested() -> keras.Model:
    """A block that is called twice, with raw operations between; two inputs and outputs."""
    a, b = keras.Input((6, 6, 4), name="a"), keras.Input((6, 6, 4), name="b")
    z = keras.Input((6, 6, 4))
    block = keras.Model(z, L.BatchNormalization()(L.Conv2D(8, 3, name="inner")(z)), name="block")
    x = keras.ops.relu(block(a)) + keras.ops.relu(block(b)) * 0.5
    x = L.Conv2D(6, 1, name="mix")(x)
    pooled = keras.ops.mean(x, axis=(1, 2))
    flat = keras.ops.reshape(x, (-1, 4 * 4 * 6))
    outputs = {"p": L.Dense(2, name="p")(pooled), "q": L.Dense(3, name="q")(flat)}
    return keras.Model({"a": a, "b": b}, outputs, name="nested")


def tower(width: int = 8) -> keras.Model:
    """A convolutional classifier of 8 by 8 digits."""
    i = keras.Input((8, 8, 1))
    x = i
    for n in range(2):
        x = L.Conv2D(width * (n + 1), 3, padding="same", use_bias=False, name=f"conv{n}")(x)
        x = L.ReLU(name=f"relu{n}")(L.BatchNormalization(name=f"norm{n}")(x))
        x = L.MaxPooling2D(name=f"pool{n}")(x)
    x = L.Dense(20, activation="relu", name="hidden")(L.Flatten(name="flat")(x))
    return keras.Model(i, L.Dense(10, name="scores")(x), name="tower")


def scrambled(model: keras.Model, seed: int = 0) -> keras.Model:
    """The model with no weight at its simple initial value."""
    rng = np.random.default_rng(seed)
    for w in model.weights:
        if "seed" in w.path:
            continue
        if w.name in ("gamma", "moving_variance"):
            w.assign(rng.uniform(0.5, 2, w.shape))
        else:
            w.assign(rng.normal(0, 0.3, w.shape))
    return model


def draw(model: keras.Model, count: int = 4, seed: int = 1):
    """Random inputs in the model's structure."""
    rng = np.random.default_rng(seed)
    made = [rng.normal(size=(count, *t.shape[1:])).astype(np.float32) for t in model.inputs]
    structure = model._functional if isinstance(model, keras.Sequential) else model
    return keras.tree.pack_sequence_as(structure._inputs_struct, made)


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images[..., None] / 16).astype(np.float32), data.target.astype(np.int32)


def compiled(model: keras.Model, **options) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.003), loss, metrics=["accuracy"], **options)
    return model
