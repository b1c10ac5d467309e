import os
import subprocess
import sys

import numpy as np
import pytest

from tfq.errors import ModelError, UsageError

pytestmark = pytest.mark.slow


def quantize(model, scheme="int8", **options):
    from tfq.keras import legacy

    return legacy.quantize(model, scheme, **options)


def layer_of(model, name):
    return next(layer for layer in model.layers if layer.name == f"quant_{name}")


def quantized_kernel(model, name):
    """The kernel as the layer last used it in an eager call."""
    layer = layer_of(model, name).layer
    attribute = "depthwise_kernel" if hasattr(layer, "depthwise_kernel") else "kernel"
    return np.asarray(getattr(layer, attribute))


def ranges(model):
    return {
        w.name: float(w.numpy())
        for w in model.weights
        if w.name.endswith(("_min:0", "_max:0")) and w.shape.rank == 0
    }


@pytest.fixture(scope="module")
def retrained(trained, digits, helpers):
    """int8 after two epochs."""
    model = helpers.compiled(quantize(trained, data=digits.x[:256]), 5e-4)
    model.fit(digits.x, digits.y, epochs=2, batch_size=32, verbose=0)
    return model


def test_given_model_is_neither_changed_nor_shared(trained, retrained, digits, helpers):
    before = [w.copy() for w in trained.get_weights()]
    other = helpers.compiled(quantize(trained, data=digits.x[:64]))
    outputs = retrained.predict(digits.x_test, verbose=0)
    other.fit(digits.x[:320], digits.y[:320], verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, trained.get_weights(), strict=True))
    np.testing.assert_array_equal(outputs, retrained.predict(digits.x_test, verbose=0))


def test_is_accurate_before_the_first_step_and_after_training(trained, retrained, digits, helpers):
    start = helpers.accuracy(quantize(trained, data=digits.x[:256]), digits)
    float_accuracy = helpers.accuracy(trained, digits)
    assert start >= float_accuracy - 0.02
    assert helpers.accuracy(retrained, digits) >= float_accuracy - 0.01


@pytest.mark.parametrize(("scheme", "levels"), [("int8", 127), ("w4a8", 7)])
def test_every_kernel_has_its_own_grid_per_channel(trained, digits, scheme, levels):
    model = quantize(trained, scheme, data=digits.x[:32])
    model(digits.x[:1])
    kernels = {
        "conv": trained.get_layer("conv").kernel,
        "depthwise": trained.get_layer("depthwise").depthwise_kernel,
        "separable_depthwise": trained.get_layer("separable").depthwise_kernel,
        "separable_pointwise": trained.get_layer("separable").pointwise_kernel,
        "logits": trained.get_layer("logits").kernel,
    }
    for name, kernel in kernels.items():
        kernel, found = np.asarray(kernel), quantized_kernel(model, name)
        if "depthwise" in name:
            kernel, found = (k.reshape(-1, k.shape[2] * k.shape[3]) for k in (kernel, found))
        else:
            kernel, found = (k.reshape(-1, k.shape[-1]) for k in (kernel, found))
        scale = np.abs(kernel).max(0) / levels
        np.testing.assert_allclose(found, np.rint(kernel / scale) * scale, rtol=1e-6)
        assert np.all(np.abs(found).max(0) > 0)


def test_transposed_convolution_is_per_output_channel(digits):
    import tf_keras

    inputs = tf_keras.Input((8, 8, 2))
    model = tf_keras.Model(inputs, tf_keras.layers.Conv2DTranspose(3, 2, name="up")(inputs))
    kernel = model.get_layer("up").kernel.numpy()
    kernel[:, :, 1] *= 100
    model.get_layer("up").kernel.assign(kernel)
    quantized = quantize(model, "w4a8")
    quantized(np.zeros((1, 8, 8, 2), np.float32))
    found = quantized_kernel(quantized, "up")
    scale = np.abs(kernel).max((0, 1, 3), keepdims=True) / 7
    np.testing.assert_allclose(found, np.rint(kernel / scale) * scale, rtol=1e-6)


def test_ranges_start_from_data_then_follow_the_moving_average(trained, digits, helpers):
    import tf_keras

    model = quantize(trained, data=digits.x[:32])
    relu = tf_keras.Model(trained.input, trained.get_layer("relu1").output)
    largest = float(relu.predict(digits.x[:32], verbose=0).max())
    name = "quant_relu1/output_max:0"
    assert ranges(model)[name] == pytest.approx(largest, rel=0.02)
    before = ranges(model)[name]
    model(digits.x[32:64] * 3, training=True)
    seen = float(relu(digits.x[32:64] * 3, training=True).numpy().max())
    assert ranges(model)[name] == pytest.approx(0.99 * before + 0.01 * seen, rel=0.02)


def test_without_data_the_first_batch_sets_the_ranges(trained, digits):
    model = quantize(trained)
    model(digits.x[:32], training=True)
    start = ranges(model)
    assert start["quant_relu1/output_min:0"] == 0
    assert start["quant_logits/post_activation_max:0"] != 6.0
    assert -6.0 not in start.values()
    assert 6.0 not in start.values()


def test_h5_and_saved_model_are_exact(retrained, digits, tmp_path):
    import tensorflow as tf
    import tf_keras

    from tfq.keras import legacy

    expected = retrained.predict(digits.x_test, verbose=0)
    retrained.save(tmp_path / "model.h5")
    with legacy.scope():
        loaded = tf_keras.models.load_model(tmp_path / "model.h5", compile=False)
    np.testing.assert_array_equal(loaded.predict(digits.x_test, verbose=0), expected)
    retrained.save(tmp_path / "model", save_format="tf")
    serve = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
    outputs = serve(tf.constant(digits.x_test))
    np.testing.assert_allclose(next(iter(outputs.values())), expected, atol=1e-5)


@pytest.mark.parametrize("scheme", ["int8", "w4a8"])
def test_what_was_trained_is_what_the_file_computes(
    trained, retrained, digits, helpers, tmp_path, scheme
):
    import tfq

    model = retrained
    if scheme == "w4a8":
        model = helpers.compiled(quantize(trained, "w4a8", data=digits.x[:256]), 5e-4)
        model.fit(digits.x, digits.y, epochs=2, batch_size=32, verbose=0)
    result = tfq.convert_model(model)  # No data: every tensor has a trained range.
    assert result.summary["model"]["full_integer"]
    result.save(tmp_path / "model.tflite")
    answers = run(tmp_path / "model.tflite", digits.x_test).argmax(1)
    expected = model.predict(digits.x_test, verbose=0).argmax(1)
    assert np.mean(answers == expected) >= 0.995


def test_saved_model_converts_to_the_same_grids(retrained, digits, tmp_path):
    import tfq

    retrained.save(tmp_path / "model", save_format="tf")
    from_file = tfq.convert_model(str(tmp_path / "model"))
    (tmp_path / "a.tflite").write_bytes(from_file.model)
    output = grid(tmp_path / "a.tflite")
    lo, hi = (ranges(retrained)[f"quant_logits/post_activation_{e}:0"] for e in ("min", "max"))
    assert output[0] == pytest.approx((hi - lo) / 255, rel=1e-5)
    assert output[1] == round(-128 - lo / output[0])


def test_pruned_zeros_stay_zero(trained, digits, helpers, tmp_path):
    import tf_keras

    from tfq.keras import legacy

    model = helpers.compiled(tf_keras.models.clone_model(trained))
    model.set_weights(trained.get_weights())
    pruning = legacy.prune(model, 0.5)
    pruning.begin()
    zeros = {n: np.asarray(model.get_layer(n).kernel) == 0 for n in ("conv", "logits")}
    quantized = helpers.compiled(quantize(model, data=digits.x[:64]))
    quantized.fit(digits.x[:640], digits.y[:640], verbose=0)
    quantized(digits.x[:1])
    for name, zero in zeros.items():
        assert np.mean(zero) == pytest.approx(0.5, abs=0.01)
        assert np.all(quantized_kernel(quantized, name)[zero] == 0)
        assert np.mean(quantized_kernel(quantized, name)[~zero] == 0) < 0.2


def test_a_kernel_before_a_separate_relu_layer_is_quantized():
    import tf_keras

    model = tf_keras.Sequential(
        [
            tf_keras.Input((8, 8, 1)),
            tf_keras.layers.Conv2D(4, 3, name="conv"),
            tf_keras.layers.ReLU(name="relu"),
        ]
    )
    quantized = quantize(model)
    quantized(np.ones((1, 8, 8, 1), np.float32))
    assert not np.array_equal(
        quantized_kernel(quantized, "conv"), np.asarray(model.get_layer("conv").kernel)
    )
    assert not [n for n in ranges(quantized) if n.startswith("quant_conv/")]


def relu6(layers, inputs):
    return layers.Activation("relu6", name="a")(
        layers.BatchNormalization(name="bn")(layers.Conv2D(4, 3, name="c")(inputs))
    )


def fused_relu6(layers, inputs):
    import tensorflow as tf

    return layers.Conv2D(4, 3, activation=tf.nn.relu6, name="c")(inputs)


def concat(layers, inputs):
    a = layers.Conv2D(4, 3, activation="relu", name="c")(inputs)
    return layers.Concatenate(name="a")([a, layers.Conv2D(4, 3, activation="relu", name="d")(a)])


def siblings(layers, inputs):
    a = layers.Conv2D(4, 3, activation="relu", name="c")(inputs)
    b = layers.Conv2D(4, 3, activation="relu", name="d")(inputs)
    return layers.Concatenate(name="a")([a, b])


@pytest.mark.parametrize(
    ("build", "quantized"),
    [(relu6, {"quant_a"}), (fused_relu6, {"quant_c"}), (siblings, {"quant_a"})],
)
def test_one_quantizer_where_the_runtime_has_one_tensor(build, quantized):
    import tf_keras

    inputs = tf_keras.Input((8, 8, 1))
    model = quantize(tf_keras.Model(inputs, build(tf_keras.layers, inputs)))
    found = {n.split("/")[0] for n in ranges(model)}
    assert {n for n in found if not n.startswith("quantize_layer")} == quantized


def test_rules_leave_layers_float(trained, digits, tmp_path):
    import tf_keras

    from tfq.keras import legacy

    model = quantize(
        trained,
        data=digits.x[:32],
        rules=[
            {"regex": "^logits$", "weights": None, "activations": None},
            {"regex": "^separable$", "weights": None},
        ],
    )
    names = [layer.name for layer in model.layers]
    assert "logits" in names
    assert "quant_logits" not in names
    model(digits.x[:1])
    np.testing.assert_array_equal(
        quantized_kernel(model, "separable_pointwise"),
        trained.get_layer("separable").pointwise_kernel,
    )
    assert "quant_separable_pointwise/post_activation_max:0" in ranges(model)
    model.save(tmp_path / "model.h5")
    with legacy.scope():
        loaded = tf_keras.models.load_model(tmp_path / "model.h5", compile=False)
    np.testing.assert_array_equal(
        loaded.predict(digits.x_test, verbose=0), model.predict(digits.x_test, verbose=0)
    )


def nested():
    import tf_keras

    inner = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3)], name="backbone")
    inputs = tf_keras.Input((4,))
    return tf_keras.Model(inputs, tf_keras.layers.Dense(2)(inner(inputs)))


def subclassed():
    import tf_keras

    class Net(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = tf_keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    net = Net()
    net.build((None, 4))
    return net


def unknown():
    import tf_keras

    x = inputs = tf_keras.Input((8, 4))
    x = tf_keras.layers.LSTM(4, name="memory")(x)
    return tf_keras.Model(inputs, tf_keras.layers.ELU(name="bend")(x))


def unbuilt():
    import tf_keras

    return tf_keras.Sequential([tf_keras.layers.Dense(2)])


def wrapped():
    return quantize(small())


def small():
    import tf_keras

    inputs = tf_keras.Input((4,))
    return tf_keras.Model(inputs, tf_keras.layers.Dense(2, name="dense")(inputs))


@pytest.mark.parametrize(
    ("build", "options", "error", "says"),
    [
        (nested, {}, ModelError, "backbone"),
        (subclassed, {}, ModelError, "subclassed"),
        (unknown, {}, ModelError, r"'memory' \(LSTM with tanh\), 'bend' \(ELU\)"),
        (unbuilt, {}, UsageError, "not built"),
        (wrapped, {}, ModelError, "quantized already"),
        (small, {"scheme": "int16x8"}, UsageError, "'int8' and 'w4a8'. Keras 3"),
        (small, {"weights": "lsq"}, UsageError, "Keras 3"),
        (small, {"activations": "pact"}, UsageError, "'moving_average'. Keras 3"),
        (small, {"rules": [{"regex": "conv", "weights": None}]}, UsageError, "matches no layer"),
        (small, {"rules": [{"regex": "("}]}, UsageError, "weights"),
        (small, {"rules": [{"regex": "(", "weights": None}]}, UsageError, "regular expression"),
        (small, {"rules": [{"regex": "d", "weight": None}]}, UsageError, "Did you mean 'weights'"),
        (
            small,
            {"rules": [{"regex": "d", "weights": None}, {"regex": "e", "weights": "minmax"}]},
            UsageError,
            "contradict",
        ),
        (small, {"data": np.zeros((3, 5), np.float32)}, Exception, "shape|fit"),
    ],
)
def test_bad_input_is_one_clear_error(build, options, error, says):
    with pytest.raises(error, match=says):
        quantize(build(), **options)


def test_importing_it_does_not_turn_tf_keras_into_keras_2():
    # In a process of its own: which Keras it is, is settled once.
    code = """
import os
import tensorflow as tf
from tfq.keras.legacy import backend
assert backend.tf_keras.__version__.startswith("2.")
assert tf.keras.__version__.startswith("3.")
assert "TF_USE_LEGACY_KERAS" not in os.environ
"""
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def run(path, x):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    target = interpreter.get_output_details()[0]
    scale, zero = source["quantization"]
    outputs = []
    for sample in x:
        q = np.clip(np.rint(sample / np.float32(scale)) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(source["index"], q[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(target["index"])[0])
    return np.array(outputs)


def grid(path):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(path)).get_output_details()[0]["quantization"]
