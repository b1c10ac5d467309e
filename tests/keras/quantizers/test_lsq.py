"""Learned steps against the paper's formulas, by brute force."""

import numpy as np
import pytest
import tensorflow as tf

from tfq.calibrate.weight_rules import weight_scales
from tfq.keras import quantizers

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)


def slope(v, low, high):
    """d(q s)/ds for v = x / s + z, counted from the zero point (Esser et al., equation 3)."""
    q = np.clip(np.rint(v), low, high)
    return np.where(v <= low, low, np.where(v >= high, high, q - v))


@pytest.mark.parametrize("bits", [8, 16])
def test_gradient_of_an_activations_step(bits):
    layer = quantizers.LSQ(bits)
    layer.initialize(-1.0, 2.0)
    layer.relative_scale.assign(0.6)
    scale, zero = layer.grid()
    x = RNG.normal(0.3, 1, (16, 7)).astype(np.float32)
    g = RNG.normal(size=x.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        y = layer(x, training=True)
    gradient = tape.gradient(y, layer.relative_scale.value, output_gradients=tf.constant(g))
    low, high = -(2 ** (bits - 1)) - zero, 2 ** (bits - 1) - 1 - zero
    expected = (g * slope(x.astype(np.float64) / scale, low, high)).sum()
    expected /= np.sqrt(7 * (2 ** (bits - 1) - 1)) * float(layer.initial_scale)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3)


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("per_channel", [True, False])
def test_gradients_of_weights(bits, per_channel):
    w = RNG.normal(size=(3, 3, 4, 5)).astype(np.float32)
    layer = quantizers.LSQWeights(bits, per_channel)
    layer.initialize(w)
    start = weight_scales(w, axis=3 if per_channel else None, bits=bits, rule="mse")
    np.testing.assert_array_equal(layer.scales(w), start)
    layer.relative_scale.assign(layer.relative_scale.value * 0.7)
    g = RNG.normal(size=w.shape).astype(np.float32)
    x = tf.constant(w)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    gw, gs = tape.gradient(y, [x, layer.relative_scale.value], output_gradients=tf.constant(g))
    top = 2 ** (bits - 1) - 1
    v = w / layer.scales(w)
    np.testing.assert_array_equal(gw, np.where(np.abs(v) <= top, g, 0))
    axes = (0, 1, 2) if per_channel else None
    n = 36 if per_channel else w.size
    expected = (g * slope(v, -top, top)).sum(axes) / np.sqrt(n * top) / start
    np.testing.assert_allclose(np.ravel(gs), np.ravel(expected), rtol=1e-3, atol=1e-5)


def test_sgd_takes_the_papers_step():
    w = RNG.normal(size=(6, 3)).astype(np.float32)
    layer = quantizers.LSQWeights(4)
    layer.initialize(w)
    before = layer.scales(w)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(w, training=True) ** 3)
    gradient = tape.gradient(loss, layer.relative_scale.value)
    layer.relative_scale.assign(layer.relative_scale.value - 1e-3 * gradient)
    v = w.astype(np.float64) / before
    paper = (3 * (np.clip(np.rint(v), -7, 7) * before) ** 2 * slope(v, -7, 7)).sum(0)
    paper /= np.sqrt(6 * 7)
    np.testing.assert_allclose(layer.scales(w), before - 1e-3 * paper, rtol=1e-4)


def test_frozen_steps_have_no_gradient():
    w = RNG.normal(size=(6, 3)).astype(np.float32)
    layer = quantizers.LSQWeights()
    layer.initialize(w)
    activation = quantizers.LSQ()
    activation.initialize(-1, 1)
    for quantizer in (layer, activation):
        quantizers.set_phase(quantizer, "freeze")
        with tf.GradientTape() as tape:
            y = quantizer(tf.constant(w), training=True)
        gradient = tape.gradient(y, quantizer.relative_scale.value)
        assert gradient is None or not np.any(gradient)


def test_without_data_the_first_batch_or_the_weights_decide():
    x = RNG.normal(size=(6, 3)).astype(np.float32)
    layer, reference = quantizers.LSQ(), quantizers.MinMax()
    layer(x, training=True)
    reference(x, training=True)
    assert layer.grid() == reference.grid()
    layer(10 * x, training=True)
    assert layer.grid() == reference.grid()
    weights = quantizers.LSQWeights()
    weights.build(x.shape)
    np.testing.assert_array_equal(weights.scales(x), weight_scales(x, axis=1, bits=8))


def test_a_step_that_training_drove_to_zero_is_reported():
    layer = quantizers.LSQ()
    layer.initialize(-1, 1)
    assert layer.problems() == []
    layer.relative_scale.assign(-1.0)
    assert "drove to zero" in layer.problems()[0]
    assert np.isfinite(layer(np.ones((2, 2), np.float32), training=True)).all()
    weights = quantizers.LSQWeights()
    weights.initialize(np.ones((2, 3), np.float32))
    weights.relative_scale.assign([1.0, -1.0, 1.0])
    assert weights.problems() == ["has 1 of 3 steps that training drove to zero"]
