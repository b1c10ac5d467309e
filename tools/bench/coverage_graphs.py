"""The small graphs of the coverage table: what each computes and where its inputs come from.

TensorFlow is imported when a graph is built, not when the list is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

CALIBRATION_SAMPLES = 64


@dataclasses.dataclass(frozen=True)
class Input:
    """One input: its shape with batch 1, and how a sample is drawn.

    Attributes:
      shape: with the leading batch dimension of 1.
      low, high: uniform over [low, high); integers when `dtype` is an integer type. Uniform and not
        normal, so that the calibrated range says where the data are and no rule has tails to cut.
    """

    shape: tuple[int, ...]
    low: float = -3.0
    high: float = 3.0
    dtype: str = "float32"

    def draw(self, rng: np.random.Generator, samples: int) -> np.ndarray:
        """Samples with shape [samples, *shape[1:]]."""
        shape = (samples, *self.shape[1:])
        if np.issubdtype(np.dtype(self.dtype), np.integer):
            return rng.integers(int(self.low), int(self.high), shape).astype(self.dtype)
        return rng.uniform(self.low, self.high, shape).astype(self.dtype)


@dataclasses.dataclass(frozen=True)
class Graph:
    """One graph; `build` returns a Keras model or a function of tensors."""

    name: str
    family: str
    inputs: tuple[Input, ...]
    build: Callable[[], Any]

    @property
    def jumps(self) -> bool:
        """Whether the function has steps, on which a tie of two inputs can fall to either side."""
        return self.family == "comparison" or self.name in ("floor", "ceil", "round", "sign")


_IMAGE = Input((1, 8, 8, 4))
_POSITIVE = Input((1, 8, 8, 4), 0.1, 4.0)
_SERIES = Input((1, 12, 6))
_VECTOR = Input((1, 16))
_GRAPHS: dict[str, Graph] = {}


def _add(family: str, name: str, build: Callable[[], Any], *inputs: Input) -> None:
    if name in _GRAPHS:
        raise ValueError(f"Two graphs are called {name!r}.")
    _GRAPHS[name] = Graph(name, family, inputs or (_IMAGE,), build)


def _functions(family: str, table: dict[str, tuple[Callable[[Any], Callable], tuple[Input, ...]]]):
    """Plain TensorFlow functions: `table[name]` takes the `tf` module, returns the function."""

    def bind(make: Callable[[Any], Callable]) -> Callable[[], Any]:
        def build() -> Any:
            import tensorflow as tf

            return make(tf)

        return build

    for name, (make, inputs) in table.items():
        _add(family, name, bind(make), *inputs)


def _layers(family: str, table: dict[str, tuple[Callable[[Any], list], tuple[Input, ...]]]):
    """Keras layers in a row: `table[name]` takes `keras.layers`, returns the list."""

    def bind(make: Callable[[Any], list], inputs: tuple[Input, ...]) -> Callable[[], Any]:
        def build() -> Any:
            import keras

            arg = (inputs or (_IMAGE,))[0]
            x = first = keras.Input(batch_shape=arg.shape, dtype=arg.dtype)
            for layer in make(keras.layers):
                x = layer(x)
            return keras.Model(first, x)

        return build

    for name, (make, inputs) in table.items():
        _add(family, name, bind(make, inputs), *inputs)


_functions(
    "activation",
    {
        "relu": (lambda tf: tf.nn.relu, ()),
        "relu6": (lambda tf: tf.nn.relu6, (Input((1, 8, 8, 4), -4, 9),)),
        "relu_n1_to_1": (lambda tf: lambda x: tf.clip_by_value(x, -1.0, 1.0), ()),
        "clip_0_to_1": (lambda tf: lambda x: tf.clip_by_value(x, 0.0, 1.0), ()),
        "leaky_relu": (lambda tf: lambda x: tf.nn.leaky_relu(x, 0.1), ()),
        "elu": (lambda tf: tf.nn.elu, ()),
        "selu": (lambda tf: tf.nn.selu, ()),
        "gelu": (lambda tf: tf.nn.gelu, ()),
        "gelu_tanh": (lambda tf: lambda x: tf.nn.gelu(x, approximate=True), ()),
        "softplus": (lambda tf: tf.nn.softplus, ()),
        "softsign": (lambda tf: tf.nn.softsign, ()),
        "mish": (lambda tf: lambda x: x * tf.tanh(tf.nn.softplus(x)), ()),
        "swish": (lambda tf: tf.nn.silu, ()),
        "sigmoid": (lambda tf: tf.sigmoid, ()),
        "tanh": (lambda tf: tf.tanh, ()),
        "exp": (lambda tf: tf.exp, (Input((1, 8, 8, 4), -4, 2),)),
        "softmax": (lambda tf: tf.nn.softmax, (_VECTOR,)),
        "log_softmax": (lambda tf: tf.nn.log_softmax, (_VECTOR,)),
    },
)
_layers(
    "activation",
    {
        "prelu": (lambda L: [L.PReLU(shared_axes=[1, 2])], ()),
        "hard_sigmoid": (lambda L: [L.Activation("hard_sigmoid")], (Input((1, 8, 8, 4), -4, 4),)),
        "hard_swish": (lambda L: [L.Activation("hard_swish")], (Input((1, 8, 8, 4), -4, 4),)),
        "dense_elu": (lambda L: [L.Dense(8, activation="elu")], (_VECTOR,)),
        "conv_prelu": (lambda L: [L.Conv2D(8, 3), L.PReLU(shared_axes=[1, 2])], ()),
        "conv_hard_swish": (lambda L: [L.Conv2D(8, 3), L.Activation("hard_swish")], ()),
    },
)
_layers(
    "normalisation",
    {
        "batch_norm": (lambda L: [L.BatchNormalization()], ()),
        "conv_batch_norm_relu": (lambda L: [L.Conv2D(8, 3), L.BatchNormalization(), L.ReLU()], ()),
        "layer_norm": (lambda L: [L.LayerNormalization()], (_SERIES,)),
        "layer_norm_dense": (lambda L: [L.Dense(16), L.LayerNormalization()], (_VECTOR,)),
        "group_norm": (lambda L: [L.GroupNormalization(2)], ()),
        "unit_norm": (lambda L: [L.UnitNormalization()], (_VECTOR,)),
        "rms_norm": (lambda L: [L.RMSNormalization()], (_VECTOR,)),
        "rescaling": (lambda L: [L.Rescaling(1 / 127.5, -1.0)], (Input((1, 8, 8, 3), 0, 255),)),
        "normalization": (
            lambda L: [L.Normalization(mean=[0.2, 0.4, 0.6, 0.8], variance=[1.0, 2.0, 0.5, 1.5])],
            (),
        ),
    },
)
_functions("normalisation", {"l2_normalize": (lambda tf: lambda x: tf.nn.l2_normalize(x, -1), ())})
_layers(
    "pooling",
    {
        "avg_pool_2d": (lambda L: [L.AveragePooling2D(2)], ()),
        "avg_pool_2d_same": (lambda L: [L.AveragePooling2D(3, 1, "same")], ()),
        "max_pool_2d": (lambda L: [L.MaxPooling2D(2)], ()),
        "global_avg_pool_2d": (lambda L: [L.GlobalAveragePooling2D()], ()),
        "global_max_pool_2d": (lambda L: [L.GlobalMaxPooling2D()], ()),
        "avg_pool_1d": (lambda L: [L.AveragePooling1D(2)], (_SERIES,)),
        "max_pool_1d": (lambda L: [L.MaxPooling1D(2)], (_SERIES,)),
        "global_avg_pool_1d": (lambda L: [L.GlobalAveragePooling1D()], (_SERIES,)),
        "global_avg_pool_3d": (lambda L: [L.GlobalAveragePooling3D()], (Input((1, 4, 4, 4, 3)),)),
    },
)
_layers(
    "resize",
    {
        "upsampling_nearest": (lambda L: [L.UpSampling2D(2)], ()),
        "upsampling_bilinear": (lambda L: [L.UpSampling2D(2, interpolation="bilinear")], ()),
        "upsampling_1d": (lambda L: [L.UpSampling1D(2)], (_SERIES,)),
        "zero_padding": (lambda L: [L.ZeroPadding2D(2)], ()),
        "cropping": (lambda L: [L.Cropping2D(1)], ()),
    },
)
_functions(
    "resize",
    {
        "resize_bilinear": (lambda tf: lambda x: tf.image.resize(x, (12, 12)), ()),
        "resize_nearest": (
            lambda tf: lambda x: tf.image.resize(x, (12, 12), method="nearest"),
            (),
        ),
    },
)
_functions(
    "reduction",
    {
        "reduce_mean": (lambda tf: lambda x: tf.reduce_mean(x, [1, 2]), ()),
        "reduce_sum": (lambda tf: lambda x: tf.reduce_sum(x, -1), ()),
        "reduce_max": (lambda tf: lambda x: tf.reduce_max(x, [1, 2]), ()),
        "reduce_min": (lambda tf: lambda x: tf.reduce_min(x, -1), ()),
        "reduce_prod": (lambda tf: lambda x: tf.reduce_prod(x, -1), (Input((1, 8, 4), 0.5, 1.5),)),
        "reduce_variance": (lambda tf: lambda x: tf.math.reduce_variance(x, -1), (_VECTOR,)),
        "argmax": (lambda tf: lambda x: tf.argmax(x, -1, tf.int32), (_VECTOR,)),
        "argmin": (lambda tf: lambda x: tf.argmin(x, -1, tf.int32), (_VECTOR,)),
        "top_k": (lambda tf: lambda x: tf.math.top_k(x, 3)[0], (_VECTOR,)),
        "cumsum": (lambda tf: lambda x: tf.cumsum(x, -1), (Input((1, 8)),)),
    },
)
_functions(
    "comparison",
    {
        "greater": (lambda tf: lambda x, y: tf.greater(x, y), (_IMAGE, _IMAGE)),
        "less_equal": (lambda tf: lambda x: x <= 0.5, ()),
        "equal": (lambda tf: lambda x, y: tf.equal(x, y), (_IMAGE, _IMAGE)),
        "where": (lambda tf: lambda x, y: tf.where(x > y, x, y * 0.5), (_IMAGE, _IMAGE)),
        "threshold_relu": (lambda tf: lambda x: tf.where(x > 0.7, x, tf.zeros_like(x)), ()),
        "maximum": (lambda tf: tf.maximum, (_IMAGE, _IMAGE)),
        "minimum": (lambda tf: tf.minimum, (_IMAGE, _IMAGE)),
        "logical_and": (
            lambda tf: lambda x, y: tf.where(tf.logical_and(x > 0, y > 0), x, y),
            (_IMAGE, _IMAGE),
        ),
    },
)
_functions(
    "shape",
    {
        "slice": (lambda tf: lambda x: tf.slice(x, [0, 1, 1, 0], [1, 4, 4, 2]), ()),
        "strided_slice": (lambda tf: lambda x: x[:, ::2, 1:, :], ()),
        "gather": (lambda tf: lambda x: tf.gather(x, [3, 0, 2], axis=1), ()),
        "gather_nd": (lambda tf: lambda x: tf.gather_nd(x, [[0, 1], [0, 3]]), ()),
        "pad": (lambda tf: lambda x: tf.pad(x, [[0, 0], [1, 2], [2, 1], [0, 0]]), ()),
        "pad_value": (
            lambda tf: lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=-1.5),
            (),
        ),
        "mirror_pad": (
            lambda tf: lambda x: tf.pad(x, [[0, 0], [2, 2], [2, 2], [0, 0]], "REFLECT"),
            (),
        ),
        "concat": (
            lambda tf: lambda x, y: tf.concat([x, y], -1),
            (_IMAGE, Input((1, 8, 8, 4), -1, 1)),
        ),
        "split": (lambda tf: lambda x: tf.split(x, 2, -1), ()),
        "stack": (lambda tf: lambda x, y: tf.stack([x, y], 1), (_VECTOR, _VECTOR)),
        "unstack": (lambda tf: lambda x: tf.unstack(x, axis=1)[:2], (Input((1, 4, 6)),)),
        "tile": (lambda tf: lambda x: tf.tile(x, [1, 2, 1, 1]), ()),
        "reverse": (lambda tf: lambda x: tf.reverse(x, [1]), ()),
        "transpose": (lambda tf: lambda x: tf.transpose(x, [0, 3, 1, 2]), ()),
        "reshape": (lambda tf: lambda x: tf.reshape(x, [1, 16, 16]), ()),
        "squeeze_expand": (
            lambda tf: lambda x: tf.expand_dims(tf.squeeze(x, 1), -1),
            (Input((1, 1, 8, 4)),),
        ),
        "space_to_depth": (lambda tf: lambda x: tf.nn.space_to_depth(x, 2), ()),
        "depth_to_space": (lambda tf: lambda x: tf.nn.depth_to_space(x, 2), ()),
        "broadcast_to": (
            lambda tf: lambda x: tf.broadcast_to(x, [1, 8, 4]),
            (Input((1, 1, 4)),),
        ),
    },
)
_functions(
    "arithmetic",
    {
        "add": (lambda tf: tf.add, (_IMAGE, Input((1, 8, 8, 4), -1, 5))),
        "sub": (lambda tf: tf.subtract, (_IMAGE, Input((1, 8, 8, 4), -1, 5))),
        "mul": (lambda tf: tf.multiply, (_IMAGE, _IMAGE)),
        "div": (lambda tf: tf.divide, (_IMAGE, Input((1, 8, 8, 4), 1, 4))),
        "div_const": (lambda tf: lambda x: x / 3.7, ()),
        "floor": (lambda tf: tf.floor, ()),
        "ceil": (lambda tf: tf.math.ceil, ()),
        "round": (lambda tf: tf.round, ()),
        "neg": (lambda tf: tf.negative, ()),
        "abs": (lambda tf: tf.abs, ()),
        "sign": (lambda tf: tf.sign, ()),
        "square": (lambda tf: tf.square, ()),
        "sqrt": (lambda tf: tf.sqrt, (_POSITIVE,)),
        "rsqrt": (lambda tf: tf.math.rsqrt, (Input((1, 8, 8, 4), 0.5, 4.0),)),
        "log": (lambda tf: tf.math.log, (Input((1, 8, 8, 4), 0.25, 4.0),)),
        "sin": (lambda tf: tf.sin, ()),
        "cos": (lambda tf: tf.cos, ()),
        "pow_const": (lambda tf: lambda x: tf.pow(x, 1.5), (_POSITIVE,)),
        "pow_two": (lambda tf: lambda x: tf.pow(x, 2.0), ()),
        "squared_difference": (lambda tf: tf.math.squared_difference, (_IMAGE, _IMAGE)),
        "scalar_mul_add": (lambda tf: lambda x: x * 0.3 + 1.0, ()),
        "add_n": (lambda tf: lambda x, y: tf.add_n([x, y, x]), (_IMAGE, _IMAGE)),
    },
)
_layers(
    "weighted",
    {
        "conv_1d": (lambda L: [L.Conv1D(8, 3)], (_SERIES,)),
        "conv_1d_causal_dilated": (
            lambda L: [L.Conv1D(8, 3, padding="causal", dilation_rate=2)],
            (_SERIES,),
        ),
        "conv_2d": (lambda L: [L.Conv2D(8, 3, activation="relu")], ()),
        "conv_2d_strided": (lambda L: [L.Conv2D(8, 3, 2, "same")], ()),
        "conv_2d_dilated": (lambda L: [L.Conv2D(8, 3, dilation_rate=2)], ()),
        "conv_2d_groups": (lambda L: [L.Conv2D(8, 3, groups=2)], ()),
        "depthwise_conv_2d": (lambda L: [L.DepthwiseConv2D(3)], ()),
        "depthwise_multiplier": (lambda L: [L.DepthwiseConv2D(3, depth_multiplier=2)], ()),
        "separable_conv_2d": (lambda L: [L.SeparableConv2D(8, 3)], ()),
        "separable_conv_1d": (lambda L: [L.SeparableConv1D(8, 3)], (_SERIES,)),
        "conv_2d_transpose": (lambda L: [L.Conv2DTranspose(8, 3, 2, "same")], ()),
        "conv_1d_transpose": (lambda L: [L.Conv1DTranspose(8, 3, 2, "same")], (_SERIES,)),
        "conv_3d": (lambda L: [L.Conv3D(4, 3)], (Input((1, 6, 6, 6, 2)),)),
        "dense": (lambda L: [L.Dense(8)], (_VECTOR,)),
        "dense_3d": (lambda L: [L.Dense(8, activation="relu")], (_SERIES,)),
        "embedding": (
            lambda L: [L.Embedding(20, 8)],
            (Input((1, 12), 0, 20, "int32"),),
        ),
        "embedding_pool_dense": (
            lambda L: [L.Embedding(20, 8), L.GlobalAveragePooling1D(), L.Dense(4)],
            (Input((1, 12), 0, 20, "int32"),),
        ),
    },
)
_functions(
    "weighted",
    {
        "matmul_two_activations": (lambda tf: tf.matmul, (Input((1, 6, 8)), Input((1, 8, 5)))),
        "matmul_transposed": (
            lambda tf: lambda x, y: tf.matmul(x, y, transpose_b=True),
            (Input((1, 6, 8)), Input((1, 5, 8))),
        ),
        "einsum": (
            lambda tf: lambda x, y: tf.einsum("bik,bkj->bij", x, y),
            (Input((1, 6, 8)), Input((1, 8, 5))),
        ),
        "einsum_heads": (
            lambda tf: lambda x, y: tf.einsum("bqhd,bkhd->bhqk", x, y),
            (Input((1, 6, 2, 4)), Input((1, 6, 2, 4))),
        ),
    },
)


def _attention(kind: str) -> Callable[[], Any]:
    def build() -> Any:
        import keras

        x = first = keras.Input(batch_shape=(1, 8, 16))
        if kind == "multi_head":
            x = keras.layers.MultiHeadAttention(2, 8)(x, x)
        elif kind == "dot":
            x = keras.layers.Attention()([x, x])
        elif kind == "additive":
            x = keras.layers.AdditiveAttention()([x, x])
        else:  # A pre-norm encoder block.
            y = keras.layers.LayerNormalization()(x)
            x = x + keras.layers.MultiHeadAttention(2, 8)(y, y)
            y = keras.layers.LayerNormalization()(x)
            y = keras.layers.Dense(32, activation="gelu")(y)
            x = x + keras.layers.Dense(16)(y)
        return keras.Model(first, x)

    return build


_TOKENS = Input((1, 8, 16), -2, 2)
_add("attention", "multi_head_attention", _attention("multi_head"), _TOKENS)
_add("attention", "attention", _attention("dot"), Input((1, 8, 16), -1, 1))
_add("attention", "additive_attention", _attention("additive"), Input((1, 8, 16), -1, 1))
_add("attention", "transformer_block", _attention("block"), _TOKENS)

_layers(
    "recurrent",
    {
        "lstm": (lambda L: [L.LSTM(8)], (_SERIES,)),
        "lstm_sequences": (lambda L: [L.LSTM(8, return_sequences=True)], (_SERIES,)),
        "gru": (lambda L: [L.GRU(8)], (_SERIES,)),
        "simple_rnn": (lambda L: [L.SimpleRNN(8)], (_SERIES,)),
        "bidirectional_lstm": (lambda L: [L.Bidirectional(L.LSTM(6))], (_SERIES,)),
        "lstm_unrolled": (lambda L: [L.LSTM(8, unroll=True)], (Input((1, 5, 6)),)),
    },
)


def _residual() -> Any:
    import keras

    L = keras.layers
    first = keras.Input(batch_shape=(1, 8, 8, 4))
    x = L.Conv2D(8, 3, padding="same")(first)
    x = L.ReLU()(L.BatchNormalization()(x))
    y = L.Conv2D(8, 3, padding="same")(x)
    y = L.BatchNormalization()(y)
    return keras.Model(first, L.ReLU()(L.Add()([x, y])))


def _squeeze_excite() -> Any:
    import keras

    L = keras.layers
    first = keras.Input(batch_shape=(1, 8, 8, 4))
    x = L.Conv2D(8, 3, padding="same", activation="relu")(first)
    s = L.GlobalAveragePooling2D(keepdims=True)(x)
    s = L.Conv2D(4, 1, activation="relu")(s)
    s = L.Conv2D(8, 1, activation="hard_sigmoid")(s)
    return keras.Model(first, L.Multiply()([x, s]))


def _inverted_residual() -> Any:
    import keras

    L = keras.layers
    first = keras.Input(batch_shape=(1, 8, 8, 8))
    x = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(24, 1, use_bias=False)(first)))
    x = L.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = L.ReLU(6.0)(L.BatchNormalization()(x))
    x = L.BatchNormalization()(L.Conv2D(8, 1, use_bias=False)(x))
    return keras.Model(first, L.Add()([first, x]))


_add("block", "residual_block", _residual)
_add("block", "squeeze_excite_block", _squeeze_excite)
_add("block", "inverted_residual_block", _inverted_residual, Input((1, 8, 8, 8)))

GRAPHS: tuple[Graph, ...] = tuple(_GRAPHS.values())
