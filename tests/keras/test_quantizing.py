"""`tfq.keras.quantize`: what it makes of which model, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from keras import ops

import tfq
from tfq.errors import DataError, UsageError
from tfq.keras.layers import QuantizedWeights
from tfq.keras.quantizers import ActivationQuantizer, MovingAverage, quantizers_of

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(3)
X = RNG.uniform(0, 1, (32, 8, 8, 3)).astype(np.float32)
Y = RNG.integers(0, 4, 32)


def cnn() -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3), name="image")
    y = L.Conv2D(6, 3, use_bias=False, name="conv")(x)
    y = L.ReLU(name="relu")(L.BatchNormalization(name="norm")(y))
    y = L.DepthwiseConv2D(3, name="depthwise")(y)
    return keras.Model(x, L.Dense(4, activation="softmax", name="head")(L.Flatten()(y)))


def compiled(model: keras.Model, **options: Any) -> keras.Model:
    model.compile("sgd", "sparse_categorical_crossentropy", **options)
    return model


class TestModels:
    def test_weights_are_the_same_and_the_given_model_stays_as_it_is(self) -> None:
        model = cnn()
        before = [w.copy() for w in model.get_weights()]
        quantized = tfq.keras.quantize(model, data=X)
        for layer in model.layers:
            own = quantized.get_layer({"head": "head_layer"}.get(layer.name, layer.name))
            mine = own.own_weights if isinstance(own, QuantizedWeights) else own.weights
            for a, b in zip(layer.weights, mine, strict=False):
                assert a is not b
                np.testing.assert_array_equal(a, b)
        compiled(quantized).fit(X, Y, epochs=1, verbose=0)
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        assert not np.array_equal(
            model.get_layer("conv").kernel, quantized.get_layer("conv").kernel
        )

    def test_outputs_keep_names_and_structure(self) -> None:
        x = {"a": keras.Input((4,), name="a"), "b": keras.Input((4,), name="b")}
        y = L.Dense(3, name="left")(x["a"])
        z = L.Dense(2, activation="softmax", name="right")(L.Add()([x["a"], x["b"]]))
        model = keras.Model(x, {"one": y, "two": z})
        quantized = tfq.keras.quantize(model)
        assert quantized.output_names == model.output_names == ["left", "right"]
        given = {"a": X[:2, 0, :4, 0], "b": X[:2, 1, :4, 0]}
        assert set(quantized(given)) == {"one", "two"}

    def test_every_output_has_a_name_of_its_own(self) -> None:
        x = keras.Input((4,), name="x")
        a, b = L.Dense(3, name="a")(x), L.Dense(3, name="b")(x)
        c = L.Concatenate(name="c")([a, b])
        inside = keras.Input((6,))
        body = keras.Model(inside, L.Reshape((2, 3))(L.Dense(6)(inside)), name="body")
        taken = L.Dense(2, name="a_layer")(c)
        model = keras.Model(x, [a, b, c, body(c), taken, x])
        quantized = tfq.keras.quantize(model, data=X[:, 0, :4, 0])
        assert quantized.output_names[:5] == ["a", "b", "c", "body", "a_layer"]
        for mine, given in zip(quantized(X[:, 0, :4, 0]), model(X[:, 0, :4, 0]), strict=True):
            np.testing.assert_allclose(mine, given, atol=0.05)

    def test_constants_are_within_the_range(self) -> None:
        x = keras.Input((4, 4))
        y = ops.pad(ops.maximum(x, 3.0), ((0, 0), (1, 1), (0, 0)), constant_values=-9.0)
        model = keras.Model(x, y)
        quantized = tfq.keras.quantize(model, data=X[:, 0, :4, 0:1] * np.ones((1, 1, 4)))
        given = X[:2, 0, :4, 0:1] * np.ones((1, 1, 4), np.float32)
        np.testing.assert_allclose(quantized(given), model(given), atol=0.05)

    def test_activations_that_are_objects_are_ops_of_their_own(self) -> None:
        x = keras.Input((4,))
        model = keras.Model(x, L.Dense(3, activation=L.LeakyReLU(0.1), name="d")(x))
        quantized = tfq.keras.quantize(model)
        assert [type(v).__name__ for v in quantized.layers[2:]] == [
            "QuantizedDense",
            "MovingAverage",
            "Activation",
            "MovingAverage",
        ]

    def test_subclassed_sequential_and_nested_models(self) -> None:
        class Net(keras.Model):
            def __init__(self) -> None:
                super().__init__()
                self.conv, self.head = L.Conv2D(4, 3, name="conv"), L.Dense(4, name="head")

            def call(self, x: Any) -> Any:
                return self.head(ops.mean(ops.relu(self.conv(x)), axis=(1, 2)))

        net = Net()
        net(X[:1])
        backbone = keras.Sequential([keras.Input((8, 8, 3)), net, L.Dense(4, activation="softmax")])
        quantized = tfq.keras.quantize(backbone, data=X)
        names = {x.name for x in quantized.layers if isinstance(x, QuantizedWeights)}
        assert {n.rpartition("_")[2] for n in names} >= {"conv", "head"}
        np.testing.assert_allclose(quantized(X), backbone(X), atol=0.02)
        compiled(quantized).fit(X, Y, epochs=1, verbose=0)

    def test_shared_layers_stay_shared(self) -> None:
        a, b = keras.Input((4,)), keras.Input((4,))
        shared = L.Dense(3, name="shared")
        model = keras.Model([a, b], L.Subtract()([shared(a), shared(b)]))
        quantized = tfq.keras.quantize(model)
        assert sum(isinstance(x, QuantizedWeights) for x in quantized.layers) == 1
        assert len(quantized.trainable_weights) == len(model.trainable_weights)

    def test_masks_pass_quantizers(self) -> None:
        x = keras.Input((5,), dtype="int32")
        y = L.Embedding(10, 4, mask_zero=True, name="table")(x)
        model = keras.Model(x, L.LSTM(3, name="lstm")(y))
        tokens = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 7]], np.int32)
        quantized = tfq.keras.quantize(model, data=tokens)
        np.testing.assert_allclose(quantized(tokens), model(tokens), atol=0.02)

    def test_regularizers_and_frozen_layers_stay(self) -> None:
        x = keras.Input((4,))
        y = L.Dense(4, kernel_regularizer=keras.regularizers.L2(0.1), name="a")(x)
        model = keras.Model(x, L.Dense(2, trainable=False, name="b")(y))
        quantized = tfq.keras.quantize(model)
        assert len(quantized.trainable_weights) == 2
        np.testing.assert_allclose(sum(quantized.losses), sum(model.losses), rtol=1e-6)


class TestTraining:
    @pytest.mark.parametrize("scheme", ["int8", "int16x8", "w4a8", "w2a8", "ternary", "binary"])
    def test_every_scheme_learns(self, scheme: str) -> None:
        quantized = compiled(tfq.keras.quantize(cnn(), scheme, data=X))
        losses = quantized.fit(X, Y, epochs=8, verbose=0).history["loss"]
        assert losses[-1] < losses[0]

    def test_xla_gives_the_same_steps(self) -> None:
        results = []
        for jit in (False, True):
            keras.utils.set_random_seed(1)
            quantized = compiled(tfq.keras.quantize(cnn(), data=X), jit_compile=jit)
            quantized.fit(X, Y, epochs=2, shuffle=False, verbose=0)
            results.append(quantized.predict(X, verbose=0))
        np.testing.assert_allclose(results[0], results[1], atol=0.02)

    def test_mixed_precision_keeps_grids_in_full(self) -> None:
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = cnn()
        finally:
            keras.config.set_dtype_policy("float32")
        quantized = compiled(tfq.keras.quantize(model, data=X))
        quantized.fit(X, Y, epochs=1, verbose=0)
        assert quantized.get_layer("conv").compute_dtype == "float16"
        for _, quantizer in quantizers_of(quantized):
            assert {v.dtype for v in quantizer.variables} <= {"float32", "int32"}

    def test_a_custom_loop(self) -> None:
        quantized = tfq.keras.quantize(cnn(), data=X)
        optimizer = keras.optimizers.SGD(0.1)
        loss = keras.losses.SparseCategoricalCrossentropy()

        @tf.function
        def step() -> Any:
            with tf.GradientTape() as tape:
                value = loss(Y, quantized(X, training=True))
            gradients = tape.gradient(value, quantized.trainable_variables)
            optimizer.apply_gradients(zip(gradients, quantized.trainable_variables, strict=True))
            return value

        optimizer.build(quantized.trainable_variables)
        values = [float(step()) for _ in range(6)]
        assert values[-1] < values[0]

    def test_a_strategy(self) -> None:
        with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
            quantized = compiled(tfq.keras.quantize(cnn(), data=X))
        losses = quantized.fit(X, Y, epochs=4, verbose=0).history["loss"]
        assert losses[-1] < losses[0]

    def test_saved_models_are_the_same(self, tmp_path: Path) -> None:
        rules = [{"regex": "head", "weights": "mse", "activations": "lsq"}]
        quantized = compiled(tfq.keras.quantize(cnn(), "w4a8", rules=rules, data=X))
        quantized.fit(X, Y, epochs=1, verbose=0)
        quantized.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(again(X), quantized(X))
        assert [x.name for x in again.layers] == [x.name for x in quantized.layers]
        assert again.output_names == quantized.output_names
        for a, b in zip(quantized.variables, again.variables, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_saved_models_load_in_another_process(self, tmp_path: Path) -> None:
        tfq.keras.quantize(cnn(), data=X).save(tmp_path / "model.keras")
        code = "import sys, keras, tfq.keras; keras.models.load_model(sys.argv[1])"
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "model.keras")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def test_ranges_come_from_data(self) -> None:
        quantized = tfq.keras.quantize(cnn(), data=X, activations="minmax")
        entry = quantized.get_layer("image_quantizer")
        assert (float(entry.minimum), float(entry.maximum)) == (0.0, float(X.max()))
        scale, zero = entry.grid()
        assert (np.float32(scale), zero) == (np.float32(X.max() / 255), -128)

    def test_a_single_quantizer_sees_all_samples(self) -> None:
        x = keras.Input((8, 8, 3))
        given = RNG.normal(0, 1, (16, 8, 8, 3)).astype(np.float32)
        quantized = tfq.keras.quantize(keras.Model(x, L.MaxPooling2D(2)(x)), data=given)
        ((_, only),) = quantizers_of(quantized)
        assert (float(only.minimum), float(only.maximum)) == (given.min(), given.max())


class TestRules:
    def test_a_rule_changes_its_layers_only(self) -> None:
        rules = [{"regex": "^conv", "weights": tfq.keras.quantizers.LSQWeights(bits=4)}]
        quantized = tfq.keras.quantize(cnn(), rules=rules)
        bits = {
            x.name: x.weight_quantizer.bits
            for x in quantized.layers
            if isinstance(x, QuantizedWeights)
        }
        assert bits == {"conv": 4, "depthwise": 8, "head_layer": 8}

    def test_none_leaves_a_layer_to_calibration(self) -> None:
        rules = [{"regex": "depthwise", "weights": None, "activations": None}]
        quantized = tfq.keras.quantize(cnn(), rules=rules)
        layer = quantized.get_layer("depthwise")
        assert type(layer) is L.DepthwiseConv2D
        assert not any("depthwise" in x.name for _, x in quantizers_of(quantized))

    def test_a_rule_holds_for_all_that_share_the_grid(self) -> None:
        x = keras.Input((4, 4, 2))
        both = [L.Conv2D(2, 1, name=n)(x) for n in ("a", "b")]
        model = keras.Model(x, L.Concatenate()(both))
        special = MovingAverage(momentum=0.5)
        quantized = tfq.keras.quantize(model, rules=[{"regex": "^b$", "activations": special}])
        shared = quantized.get_layer("a_quantizer")
        assert shared.momentum == 0.5
        with pytest.raises(UsageError, match="share one grid"):
            tfq.keras.quantize(
                model,
                rules=[
                    {"regex": "^a$", "activations": "minmax"},
                    {"regex": "^b$", "activations": "moving_average"},
                ],
            )

    @pytest.mark.parametrize(
        ("rules", "message"),
        [
            ([{"regex": "convx", "weights": "lsq"}], "'convx' matches no layer"),
            ([{"regex": "relu", "weights": "lsq"}], "no layer that it matches has a kernel"),
            ([{"regexp": "conv", "weights": "lsq"}], "Did you mean 'regex'"),
            ([{"regex": "conv"}], 'has a "regex" and "weights" or "activations"'),
            ([{"regex": "(", "weights": "lsq"}], "cannot be read"),
            ([{"regex": "conv", "weights": "lqs"}], "Did you mean 'lsq'"),
            (
                [{"regex": "conv", "weights": "lsq"}, {"regex": "^c", "weights": "mse"}],
                "Two rules contradict each other on the weights of layer 'conv'",
            ),
            ({"regex": "conv"}, "rules is a list"),
        ],
    )
    def test_wrong_rules(self, rules: Any, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            tfq.keras.quantize(cnn(), rules=rules)

    def test_schemes_of_few_bits_keep_their_edges(self) -> None:
        quantized = tfq.keras.quantize(cnn(), "w2a8", weights="mse", data=X)
        bits = [
            x.weight_quantizer.bits for x in quantized.layers if isinstance(x, QuantizedWeights)
        ]
        assert bits == [8, 8, 8]
        rules = [{"regex": "conv", "weights": "lsq"}]
        quantized = tfq.keras.quantize(cnn(), "binary", rules=rules, data=X)
        assert quantized.get_layer("conv").weight_quantizer.bits == 2

    def test_activations_have_one_width(self) -> None:
        with pytest.raises(UsageError, match="Give it bits=16"):
            tfq.keras.quantize(cnn(), "int16x8", activations=MovingAverage())

    def test_nothing_but_weights(self) -> None:
        rules = [{"regex": ".", "activations": None}]
        quantized = tfq.keras.quantize(cnn(), rules=rules, data=X)
        found = [x for _, x in quantizers_of(quantized) if isinstance(x, ActivationQuantizer)]
        assert [type(x).__name__ for x in found] == ["Fixed"]  # Of the softmax.


class TestRefusals:
    def test_a_quantized_model(self) -> None:
        with pytest.raises(UsageError, match="has quantizers already"):
            tfq.keras.quantize(tfq.keras.quantize(cnn()))

    def test_a_model_that_is_not_built(self) -> None:
        with pytest.raises(UsageError, match="is not built"):
            tfq.keras.quantize(keras.Sequential([L.Dense(2)]))

    def test_what_is_no_model(self) -> None:
        with pytest.raises(UsageError, match="A Keras 3 model is quantized"):
            tfq.keras.quantize("model.keras")

    def test_an_unknown_scheme(self) -> None:
        with pytest.raises(UsageError, match="Did you mean 'int8'"):
            tfq.keras.quantize(cnn(), "int9")

    def test_quantizers_that_need_samples(self) -> None:
        with pytest.raises(UsageError, match="start from representative samples"):
            tfq.keras.quantize(cnn(), activations="mse")

    def test_samples_that_do_not_fit(self) -> None:
        with pytest.raises(DataError, match="takes samples of shape"):
            tfq.keras.quantize(cnn(), data=X[:, :4])
        with pytest.raises(DataError, match="not finite"):
            tfq.keras.quantize(cnn(), data=X * np.nan)

    def test_a_model_that_computes_nan(self) -> None:
        model = cnn()
        model.get_layer("conv").kernel.assign(np.full((3, 3, 3, 6), 1e38, np.float32))
        with pytest.raises(DataError, match="NaN or infinite values at"):
            tfq.keras.quantize(model, data=X)

    def test_a_layer_changed_by_keras_itself(self) -> None:
        model = cnn()
        model.get_layer("head").enable_lora(2)
        with pytest.raises(UsageError, match="enable_lora"):
            tfq.keras.quantize(model)
