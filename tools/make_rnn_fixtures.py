"""Writes the float .tflite models that tests/unroll/ unrolls.

    python tools/make_rnn_fixtures.py

Needs tensorflow and tf_keras; the tests themselves do not. Weights are random with a fixed seed.
"""

from __future__ import annotations

import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
import tf_keras

DATA = pathlib.Path(__file__).parents[1] / "tests" / "unroll" / "data"
STEPS, FEATURES, UNITS = 10, 5, 6


def write(name: str, converter: tf.lite.TFLiteConverter) -> None:
    content = converter.convert()
    (DATA / f"{name}.tflite").write_bytes(content)
    print(f"{name}: {len(content)} bytes")


def from_function(name: str, function, shape, dtype=tf.float32) -> None:
    traced = tf.function(function, input_signature=[tf.TensorSpec(shape, dtype)])
    concrete = traced.get_concrete_function()
    write(name, tf.lite.TFLiteConverter.from_concrete_functions([concrete]))


def keras_models() -> dict[str, tuple[list, tuple[int, ...], type]]:
    layers = keras.layers
    x = (1, STEPS, FEATURES)
    return {
        "lstm": ([layers.LSTM(UNITS)], x, tf.float32),
        "lstm_28": ([layers.LSTM(UNITS)], (1, 28, FEATURES), tf.float32),
        "lstm_100": ([layers.LSTM(UNITS, return_sequences=True)], (1, 100, 2), tf.float32),
        "lstm_batch": (
            [layers.LSTM(UNITS, return_sequences=True)],
            (3, STEPS, FEATURES),
            tf.float32,
        ),
        "lstm_backwards": (
            [layers.LSTM(UNITS, go_backwards=True, return_sequences=True)],
            x,
            tf.float32,
        ),
        "lstm_stacked": (
            [layers.LSTM(UNITS, return_sequences=True), layers.LSTM(4)],
            x,
            tf.float32,
        ),
        "lstm_bidirectional": (
            [layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True))],
            x,
            tf.float32,
        ),
        "lstm_masked": (
            [layers.Embedding(20, FEATURES, mask_zero=True), layers.LSTM(UNITS)],
            (1, STEPS),
            tf.int32,
        ),
        "conv_lstm": (
            [layers.ConvLSTM2D(3, 3, padding="same", return_sequences=True)],
            (1, 4, 6, 6, 2),
            tf.float32,
        ),
        "rnn_cells": (
            [layers.RNN([layers.LSTMCell(6), layers.GRUCell(5)], return_sequences=True)],
            x,
            tf.float32,
        ),
        "gru": ([layers.GRU(UNITS)], x, tf.float32),
        "gru_reset_before": (
            [layers.GRU(UNITS, reset_after=False, return_sequences=True)],
            x,
            tf.float32,
        ),
        "simple_rnn": ([layers.SimpleRNN(UNITS)], x, tf.float32),
    }


def main() -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    for name, (layers, shape, dtype) in keras_models().items():
        keras.utils.clear_session()
        keras.utils.set_random_seed(7)
        entry = keras.Input(shape[1:], batch_size=shape[0], dtype=dtype.name)
        model = keras.Sequential([entry, *layers])
        from_function(name, lambda x, m=model: m(x, training=False), shape, dtype)

    keras.utils.clear_session()
    keras.utils.set_random_seed(7)
    entry = keras.Input((STEPS, FEATURES), batch_size=1)
    model = keras.Model(entry, keras.layers.LSTM(UNITS, return_state=True)(entry))
    from_function("lstm_states", lambda x: model(x, training=False), (1, STEPS, FEATURES))

    layers = tf_keras.layers
    for name, layer in {
        "fused_lstm": layers.LSTM(UNITS),
        "fused_lstm_sequences": layers.LSTM(UNITS, return_sequences=True),
        "fused_bidirectional": layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True)),
    }.items():
        tf_keras.backend.clear_session()
        tf_keras.utils.set_random_seed(7)
        model = tf_keras.Sequential([tf_keras.Input((STEPS, FEATURES), batch_size=1), layer])
        with tempfile.TemporaryDirectory() as folder:
            call = tf.function(lambda x, m=model: m(x, training=False))
            spec = tf.TensorSpec((1, STEPS, FEATURES), tf.float32)
            tf.saved_model.save(model, folder, signatures=call.get_concrete_function(spec))
            write(name, tf.lite.TFLiteConverter.from_saved_model(folder))

    def data_dependent(x):
        return tf.while_loop(
            lambda y: tf.reduce_sum(y) < 100.0, lambda y: (y * 2.0,), [tf.abs(x) + 1.0]
        )[0]

    from_function("while_on_data", data_dependent, (1, 4))

    def nested(x):
        def inner(i, j, y):
            return i, j + 1, tf.tanh(y + tf.cast(i, tf.float32) * 0.1)

        def outer(i, y):
            y = tf.while_loop(lambda i, j, y: j < 3, inner, [i, 0, y])[2]
            return i + 1, y * 1.5

        return tf.while_loop(lambda i, y: i < 4, outer, [0, x])[1]

    from_function("while_nested", nested, (1, 4))

    def backwards(x):
        array, state = tf.TensorArray(tf.float32, 6, element_shape=(1, 4)), tf.zeros((1, 4))
        for i in tf.range(6):
            state = tf.tanh(x[:, i] + state)
            array = array.write(5 - i, state)
        return array.stack(), state

    from_function("while_tensor_array", backwards, (1, 6, 4))

    def growing(x):
        rows, i = tf.zeros((0, 4)), tf.constant(0)
        while i < 6:
            tf.autograph.experimental.set_loop_options(
                shape_invariants=[(rows, tf.TensorShape([None, 4]))]
            )
            if i % 2 == 0:
                rows = tf.concat([rows, tf.nn.relu(x[:, i])], 0)
            i += 1
        return rows

    from_function("while_growing", growing, (1, 6, 4))


if __name__ == "__main__":
    main()
