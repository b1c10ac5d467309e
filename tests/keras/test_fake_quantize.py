"""Marks: the value against numpy, the gradient, and that they pass through all that Keras does."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfq.errors import UsageError
from tfq.keras.fake_quantize import fake_quantize, limits, mark

pytestmark = pytest.mark.slow

X = np.random.default_rng(0).normal(0, 2, (3, 5, 4)).astype(np.float32)


def numpy_truth(x, scale, zero_point, bits, axis, narrow):
    lowest, highest = limits(bits, narrow)
    shape = [1] * x.ndim
    if axis >= 0:
        shape[axis] = -1
    s = np.asarray(scale, np.float32).reshape(shape)
    z = np.asarray(zero_point, np.float32).reshape(shape)
    q = np.clip(np.rint(x / s) + z, lowest, highest)
    return ((q - z) * s).astype(np.float32), (x >= (lowest - z) * s) & (x <= (highest - z) * s)


CASES = [
    (np.float32(0.013), 5.0, 8, -1, False),
    (np.float32(0.013), -128.0, 8, -1, False),
    (np.float32(1e-4), 0.0, 16, -1, False),
    (np.float32(0.011), 0.0, 8, -1, True),
    (np.array([0.1, 0.2, 0.3, 0.7], np.float32), np.zeros(4, np.float32), 4, 2, True),
    (np.array([0.01, 0.02, 0.03], np.float32), np.zeros(3, np.float32), 8, 0, True),
    (np.array([0.5, 1, 2, 0.25, 3], np.float32), np.zeros(5, np.float32), 2, 1, True),
]


@pytest.mark.parametrize(("scale", "zero", "bits", "axis", "narrow"), CASES)
@pytest.mark.parametrize("how", ["eager", "graph", "xla", "plain"])
def test_value_and_gradient(scale, zero, bits, axis, narrow, how):
    def step(x, s):
        with tf.GradientTape() as tape:
            tape.watch(x)
            function = fake_quantize if how == "plain" else mark
            y = function(x, s, zero, bits, axis, narrow)
            total = tf.reduce_sum(y * y) / 2
        return y, tape.gradient(total, x)

    if how in ("graph", "xla"):
        step = tf.function(step, jit_compile=how == "xla", autograph=False)
    y, gradient = step(tf.constant(X), tf.constant(scale))
    truth, inside = numpy_truth(X, scale, zero, bits, axis, narrow)
    np.testing.assert_array_equal(y, truth)
    np.testing.assert_array_equal(gradient, truth * inside)


def test_halves_round_to_even():
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    marked = tf.function(lambda v: mark(v, 1.0))
    np.testing.assert_array_equal(marked(x), [-2, -2, 0, 0, 2, 2])


def test_narrow_by_default_per_channel_and_below_8_bits():
    low = np.full((1, 2), -1e6, np.float32)
    scales = np.ones(2, np.float32)
    assert mark(low, scales, bits=8, axis=1)[0, 0] == -127
    assert mark(low, 1.0, bits=4)[0, 0] == -7
    assert mark(low, 1.0, bits=2)[0, 0] == -1
    assert mark(low, 1.0, bits=8)[0, 0] == -128


def test_the_dtype_of_x_comes_back_and_float32_is_inside():
    x = tf.constant(X, tf.float16)
    for function in (mark, tf.function(lambda v, s: mark(v, s))):
        y = function(x, np.float32(0.013))
        truth = numpy_truth(x.numpy().astype(np.float32), 0.013, 0, 8, -1, False)[0]
        assert y.dtype == tf.float16
        np.testing.assert_array_equal(y, truth.astype(np.float16))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 1.0, "bits": 6}, "bits must be one of"),
        ({"scale": 1.0, "axis": -2}, "axis must be"),
        ({"scale": np.float16(1)}, "autocast=False"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(UsageError, match=message):
        mark(X, **arguments)


def test_axis_beyond_the_rank():
    with pytest.raises(UsageError, match="rank"):
        tf.function(lambda x: mark(x, np.ones(3, np.float32), axis=3), autograph=False)(X)


@keras.saving.register_keras_serializable(package="tfq_test")
class Marked(keras.layers.Layer):
    """A dense layer with quantized weights and result."""

    def build(self, shape):
        constant = keras.initializers.Constant
        fixed = {"trainable": False, "autocast": False}
        self.w = self.add_weight(shape=(shape[-1], 3), name="w", autocast=False)
        self.steps = self.add_weight(shape=(3,), initializer=constant(0.02), name="steps", **fixed)
        self.step = self.add_weight(shape=(), initializer=constant(0.03), name="step", **fixed)

    def call(self, x):
        w = mark(self.w, self.steps, 0.0, 8, 1)
        return mark(tf.matmul(x, tf.cast(w, x.dtype)), self.step, 3.0)


def small(**kwargs):
    keras.utils.set_random_seed(1)
    x = keras.Input((4,))
    return keras.Model(x, Marked(**kwargs)(x))


INPUT = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("jit", [True, False])
def test_trains_and_predicts(policy, jit):
    model = small(dtype=policy)
    before = model.layers[-1].w.numpy()
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit)
    model.fit(INPUT, np.ones((8, 3), np.float32), verbose=0)
    assert np.abs(model.layers[-1].w.numpy() - before).max() > 1e-4
    np.testing.assert_array_equal(model.predict(INPUT, verbose=0), model(INPUT))


def test_trains_in_a_strategy():
    strategy = tf.distribute.MirroredStrategy(["cpu:0"])
    with strategy.scope():
        model = small()
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    before = model.layers[-1].w.numpy()
    model.fit(INPUT, np.ones((8, 3), np.float32), verbose=0)
    assert np.abs(model.layers[-1].w.numpy() - before).max() > 1e-4


@pytest.mark.parametrize("how", ["export", "saved_model", "keras"])
def test_saved_and_loaded(tmp_path, how):
    model = small()
    expected = model(INPUT)
    if how == "keras":
        model.save(tmp_path / "m.keras")
        call = loaded = keras.saving.load_model(tmp_path / "m.keras")
    elif how == "export":
        model.export(tmp_path / "m", verbose=False)
        loaded = tf.saved_model.load(tmp_path / "m")
        call = loaded.serve
    else:
        tf.saved_model.save(model, tmp_path / "m")
        loaded = tf.saved_model.load(tmp_path / "m")
        call = loaded.signatures["serving_default"]
    found = call(tf.constant(INPUT))
    found = next(iter(found.values())) if isinstance(found, dict) else found
    np.testing.assert_array_equal(found, expected)
