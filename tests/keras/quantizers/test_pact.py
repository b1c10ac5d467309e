"""The trained clipping bound against its formula."""

import numpy as np
import pytest
import tensorflow as tf

from tfq.errors import UsageError
from tfq.keras import quantizers

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("bits", [8, 16])
def test_value_and_gradients(bits):
    layer = quantizers.PACT(bits)
    layer.initialize(0.0, 1.5)
    x = tf.constant(np.random.default_rng(0).uniform(0, 3, (8, 6)).astype(np.float32))
    g = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    gx, ga = tape.gradient(y, [x, layer.alpha.value], output_gradients=tf.constant(g))
    values = x.numpy()
    steps = 255 if bits == 8 else 32767
    expected = np.rint(np.clip(values, 0, 1.5) / 1.5 * steps) * 1.5 / steps
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_array_equal(gx, np.where(values <= 1.5, g, 0))
    np.testing.assert_allclose(ga, g[values > 1.5].sum(), rtol=1e-4)
    np.testing.assert_allclose(layer(x), y, atol=1e-5)


def test_frozen():
    layer = quantizers.PACT()
    layer.initialize(0.0, 1.0)
    quantizers.set_phase(layer, "freeze")
    with tf.GradientTape() as tape:
        y = layer(tf.constant([0.5, 2.0]), training=True)
    gradient = tape.gradient(y, layer.alpha.value)
    assert gradient is None or float(gradient) == 0


def test_the_first_batch_gives_alpha():
    layer = quantizers.PACT()
    layer(np.array([[0.0, 2.5]], np.float32), training=True)
    layer(np.array([[0.0, 7.5]], np.float32), training=True)
    assert float(layer.alpha) == 2.5
    assert layer.grid() == (float(np.float32(2.5 / 255)), -128)


def test_decay_is_in_the_loss():
    layer = quantizers.PACT(decay=0.01)
    layer.initialize(0, 3.0)
    np.testing.assert_allclose(layer.losses[0], 0.01 * 9, rtol=1e-6)


def test_negative_values_are_refused():
    with pytest.raises(UsageError, match="after ReLU"):
        quantizers.PACT().initialize(-0.5, 1.0)


def test_a_collapsed_bound_is_reported():
    layer = quantizers.PACT()
    layer.initialize(0, 1)
    layer.alpha.assign(-3.0)
    assert "clips all values" in layer.problems()[0]


@pytest.mark.parametrize("bits", [8, 16])
def test_negative_values_of_the_first_batch_are_reported(bits):
    layer = quantizers.PACT(bits)
    layer(np.array([[-1e-7, 2.0]], np.float32), training=True)  # Rounds to 0.
    assert layer.problems() == []
    layer = quantizers.PACT(bits)
    low = -0.5 if bits == 8 else -2.5  # int16 is symmetric.
    layer(np.array([[low, 2.0]], np.float32), training=True)
    assert "negative values, which PACT cuts off" in layer.problems()[0]
    x = tf.constant([[low, 1.0]])
    graph = tf.function(lambda x: layer(x), autograph=False)
    np.testing.assert_array_equal(graph(x), layer(x))
    layer.initialize(0.0, 2.0)
    assert layer.problems() == []
    assert float(graph(x)[0, 0]) > low  # Cut off.
