"""Weight quantizers: scales by brute force, integers to the bit, zeros, gradients, refusals."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize, stats

from tfq.calibrate.weight_rules import SCALE_FLOOR, weight_scales
from tfq.errors import UsageError
from tfq.keras import quantizers
from tfq.keras.quantizers.mean_deviation import DEVIATIONS

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
W = RNG.normal(0, 0.1, (3, 3, 4, 6)).astype(np.float32)
ALL = [
    (name, bits)
    for name, cls in sorted(quantizers.WEIGHT_QUANTIZERS.items())
    for bits in cls.widths
]  # fmt: skip


def rows(w, per_channel):
    return w.reshape(-1, w.shape[-1]).T if per_channel else w.reshape(1, -1)


def made(name, bits, per_channel=True, w=W):
    layer = quantizers.WEIGHT_QUANTIZERS[name](bits=bits, per_channel=per_channel)
    layer.initialize(w)
    return layer


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(("name", "bits"), ALL)
def test_call_is_integers_times_scales_to_the_bit(name, bits, per_channel):
    layer = made(name, bits, per_channel)
    # Not the weights it was fitted to: they move in training.
    w = W + RNG.normal(0, 0.03, W.shape).astype(np.float32)
    integers, scales = layer.integers(w), layer.scales(w)
    assert integers.dtype == np.int8
    assert scales.dtype == np.float32
    assert scales.shape == ((6,) if per_channel else (1,))
    assert np.abs(integers).max() <= 2 ** (bits - 1) - 1
    truth = (integers * scales).astype(np.float32)
    for training in (True, False):
        np.testing.assert_array_equal(layer(w, training=training), truth)
        for jit in (False, True):
            graph = tf.function(layer.__call__, autograph=False, jit_compile=jit)
            np.testing.assert_array_equal(graph(tf.constant(w), training=training), truth)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_scales_of_post_training_quantization(bits, per_channel):
    axis = 3 if per_channel else None
    np.testing.assert_array_equal(
        made("minmax", bits, per_channel).scales(W), weight_scales(W, axis=axis, bits=bits)
    )
    mse = weight_scales(W, axis=axis, bits=bits, rule="mse")
    layer = made("mse", bits, per_channel)
    np.testing.assert_allclose(layer.scales(W), mse, rtol=2e-7)
    np.testing.assert_allclose(layer.scales(3 * W), 3 * mse, rtol=2e-7)


@pytest.mark.parametrize("per_channel", [True, False])
def test_ternary_is_the_papers(per_channel):
    layer = made("ternary", 2, per_channel)
    for scale, row, q in zip(
        layer.scales(W),
        rows(W, per_channel).astype(np.float64),
        rows(layer.integers(W), per_channel),
        strict=True,
    ):
        kept = np.abs(row) > 0.7 * np.abs(row).mean()
        np.testing.assert_allclose(scale, np.abs(row)[kept].mean(), rtol=1e-6)
        np.testing.assert_array_equal(q, np.sign(row) * kept)


@pytest.mark.parametrize("per_channel", [True, False])
def test_binary_is_the_papers(per_channel):
    layer = made("binary", 2, per_channel)
    expected = np.abs(rows(W, per_channel).astype(np.float64)).mean(axis=1)
    np.testing.assert_allclose(layer.scales(W), expected, rtol=1e-6)
    np.testing.assert_array_equal(
        layer.integers(np.array([[-0.0], [0.0], [-2.0]])), [[1], [1], [-1]]
    )


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_mean_and_deviation(bits):
    w = W + 0.05
    scales = quantizers.MeanDeviation(bits).scales(w)
    row = rows(w, True).astype(np.float64)
    top = 2 ** (bits - 1) - 1
    expected = (np.abs(row.mean(1)) + DEVIATIONS[bits] * row.std(1)) / top
    np.testing.assert_allclose(scales, expected, rtol=1e-6)
    other = quantizers.MeanDeviation(bits, deviations=2.0).scales(w)
    np.testing.assert_allclose(other, (np.abs(row.mean(1)) + 2 * row.std(1)) / top, rtol=1e-6)


@pytest.mark.parametrize("bits", sorted(DEVIATIONS))
def test_the_deviations_are_the_best_for_normal_weights(bits):
    """The mean squared error of a uniform quantizer of a standard normal variable, integrated."""
    top = 2 ** (bits - 1) - 1
    levels = np.arange(-top, top + 1)

    def error(bound):
        step = bound / top
        edges = np.concatenate([[-np.inf], (levels[:-1] + 0.5) * step, [np.inf]])
        density = np.where(np.isfinite(edges), stats.norm.pdf(edges), 0)
        first = -np.diff(density)
        finite = np.where(np.isfinite(edges), edges, 0)
        second = np.diff(stats.norm.cdf(edges)) - np.diff(finite * density)
        y = levels * step
        return (second - 2 * y * first + y**2 * np.diff(stats.norm.cdf(edges))).sum()

    best = optimize.minimize_scalar(error, bounds=(0.5, 6), method="bounded").x
    assert DEVIATIONS[bits] == pytest.approx(best, abs=0.005)


@pytest.mark.parametrize(("name", "bits"), [a for a in ALL if a[0] != "binary"])
def test_zeros_stay_zero(name, bits):
    pruned = np.where(RNG.random(W.shape) < 0.7, 0, W).astype(np.float32)
    y = np.asarray(made(name, bits, w=pruned)(pruned))
    assert (y[pruned == 0] == 0).all()


@pytest.mark.parametrize(("name", "bits"), ALL)
def test_an_empty_channel_is_finite(name, bits):
    w = W.copy()
    w[..., 2] = 0
    layer = made(name, bits, w=w)
    assert (layer.scales(w) >= SCALE_FLOOR).all()
    with tf.GradientTape() as tape:
        x = tf.constant(w)
        tape.watch(x)
        y = layer(x, training=True)
    assert np.isfinite(y).all()
    assert np.isfinite(tape.gradient(y, x)).all()
    nothing = np.zeros_like(w)
    assert np.abs(np.asarray(made(name, bits, w=nothing)(nothing))).max() <= SCALE_FLOOR


@pytest.mark.parametrize(("name", "bits"), [a for a in ALL if a[0] != "lsq"])
def test_gradients_pass_straight_through(name, bits):
    layer = made(name, bits)
    w = tf.constant(W * 8)
    with tf.GradientTape() as tape:
        tape.watch(w)
        y = layer(w, training=True)
    g = RNG.normal(size=W.shape).astype(np.float32)
    expected = np.where(np.abs(w) <= 1, g, 0) if name == "binary" else g
    np.testing.assert_array_equal(tape.gradient(y, w, tf.constant(g)), expected)


@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 5, 7), (2, 2, 2, 3, 7)])
def test_any_rank(shape):
    w = RNG.normal(size=shape).astype(np.float32)
    layer = quantizers.MinMaxWeights()
    layer.initialize(w)
    graph = tf.function(layer.__call__, autograph=False)
    np.testing.assert_allclose(graph(tf.constant(w)), w, atol=layer.scales(w).max())
    assert layer.scales(w).shape == (7,)


@pytest.mark.parametrize("bits", [3, 5, 6, 7])
def test_widths_without_kernels_only_simulate(bits):
    with pytest.raises(UsageError, match="simulation_only=True"):
        quantizers.MinMaxWeights(bits)
    layer = quantizers.MinMaxWeights(bits, simulation_only=True)
    assert layer.simulation_only
    assert not quantizers.MinMaxWeights(4, simulation_only=True).simulation_only
    truth = (layer.integers(W) * layer.scales(W)).astype(np.float32)
    np.testing.assert_array_equal(
        tf.function(layer.__call__, autograph=False)(tf.constant(W)), truth
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: quantizers.MinMaxWeights(1),
        lambda: quantizers.Ternary(4),
        lambda: quantizers.Binary(3, True, True),
    ],
)
def test_other_widths_are_refused(make):
    with pytest.raises(UsageError, match="no kernel computes"):
        make()


def test_deviations_above_zero():
    with pytest.raises(UsageError, match="deviations"):
        quantizers.MeanDeviation(deviations=0)
    with pytest.raises(UsageError, match=r"deviations must be .*Received: 'x'"):
        quantizers.MeanDeviation(deviations="x")
