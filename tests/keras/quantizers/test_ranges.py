"""Ranges of activations: moving average, min/max, fitted; their grids and phases."""

import numpy as np
import pytest
import tensorflow as tf

from tfq.errors import UsageError
from tfq.graph.numerics import activation_grid
from tfq.keras import quantizers

pytestmark = pytest.mark.slow

BATCHES = [np.random.default_rng(i).normal(0.3, 1 + i, (8, 5)).astype(np.float32) for i in range(4)]


def test_moving_average_is_the_formula():
    layer = quantizers.MovingAverage(momentum=0.9)
    lo, hi = BATCHES[0].min(), BATCHES[0].max()
    layer(BATCHES[0], training=True)
    for batch in BATCHES[1:]:
        layer(batch, training=True)
        lo, hi = 0.9 * lo + 0.1 * batch.min(), 0.9 * hi + 0.1 * batch.max()
    np.testing.assert_allclose(layer.minimum, lo, rtol=1e-5)
    np.testing.assert_allclose(layer.maximum, hi, rtol=1e-5)


def test_min_max_only_widens():
    layer = quantizers.MinMax()
    for batch in [BATCHES[2], BATCHES[0]]:
        layer(batch, training=True)
    assert float(layer.minimum) == BATCHES[2].min()
    assert float(layer.maximum) == BATCHES[2].max()
    layer(BATCHES[3], training=True)
    assert float(layer.maximum) == max(BATCHES[2].max(), BATCHES[3].max())


@pytest.mark.parametrize("cls", [quantizers.Percentile, quantizers.MSE])
def test_a_fitted_range_stays(cls):
    layer = cls()
    layer.initialize(-1.0, 2.0)
    layer(BATCHES[3], training=True)
    assert (float(layer.minimum), float(layer.maximum)) == (-1.0, 2.0)
    assert cls.needs_data
    fresh = cls()
    fresh(BATCHES[0], training=True)
    fresh(BATCHES[3], training=True)
    assert float(fresh.maximum) == BATCHES[0].max()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("span", [(-1.3, 2.7), (0.0, 6.0), (-3.0, -1.0), (0.5, 0.7), (0.0, 0.0)])
def test_the_grid_is_that_of_post_training_quantization(span, bits):
    layer = quantizers.MovingAverage(bits)
    layer.initialize(*span)
    # A range is kept in float32.
    expected = activation_grid(
        min(float(np.float32(span[0])), 0.0), max(float(np.float32(span[1])), 0.0), f"int{bits}"
    )
    assert layer.grid() == (expected.scale[0], expected.zero_point[0])
    x = np.linspace(span[0] - 1, span[1] + 1, 1001, dtype=np.float32)
    scale, zero = np.float32(expected.scale[0]), expected.zero_point[0]
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    q = np.clip(np.rint(x / scale) + np.float32(zero), low, high)
    np.testing.assert_array_equal(layer(x), (q - zero) * scale)


@pytest.mark.parametrize("bits", [8, 16])
def test_training_rounds_as_inference_does(bits):
    layer = quantizers.MinMax(bits)
    trained = np.asarray(layer(BATCHES[0], training=True))
    np.testing.assert_allclose(trained, layer(BATCHES[0]), atol=1e-4 * layer.grid()[0])


def test_gradients_pass_inside_and_stop_outside():
    layer = quantizers.Percentile()
    layer.initialize(-1.0, 1.0)
    x = tf.constant([-5.0, -0.5, 0.0, 0.7, 3.0])
    for training in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
        np.testing.assert_array_equal(tape.gradient(y, x), [0, 1, 1, 1, 0])


def test_phases():
    layer = quantizers.MovingAverage(momentum=0.5)
    quantizers.set_phase(layer, "observe")
    y = layer(BATCHES[0], training=True)
    np.testing.assert_array_equal(y, BATCHES[0])
    assert float(layer.maximum) == BATCHES[0].max()
    np.testing.assert_array_equal(layer(BATCHES[1]), BATCHES[1])
    quantizers.set_phase(layer, "train")
    y = np.asarray(layer(BATCHES[1], training=True))
    assert np.abs(y - BATCHES[1]).max() > 0
    moved = float(layer.maximum)
    assert moved != BATCHES[0].max()
    quantizers.set_phase(layer, "freeze")
    layer(BATCHES[3], training=True)
    assert float(layer.maximum) == moved
    quantizers.set_phase(layer, "train")
    layer(BATCHES[3])
    assert float(layer.maximum) == moved, "inference moves nothing"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_batch_that_is_not_finite_moves_nothing(bad):
    layer = quantizers.MovingAverage()
    broken = BATCHES[0].copy()
    broken[1, 2] = bad
    layer(broken, training=True)
    assert not layer.has_grid()
    layer(BATCHES[1], training=True)
    before = float(layer.minimum), float(layer.maximum)
    layer(broken, training=True)
    assert (float(layer.minimum), float(layer.maximum)) == before


def test_without_data_values_pass_and_the_grid_is_refused():
    layer = quantizers.MovingAverage()
    np.testing.assert_array_equal(layer(BATCHES[0]), BATCHES[0])
    graph = tf.function(layer.__call__, autograph=False)
    np.testing.assert_array_equal(graph(BATCHES[0]), BATCHES[0])
    with pytest.raises(UsageError, match="no range yet"):
        layer.grid()
    assert layer.problems() == ["has seen no data"]


@pytest.mark.parametrize("name", sorted(quantizers.ACTIVATION_QUANTIZERS))
def test_the_first_batch_gives_the_range_in_any_phase(name):
    x = np.abs(BATCHES[0])
    layer = quantizers.get_activation_quantizer(name)
    quantizers.set_phase(layer, "freeze")
    np.testing.assert_array_equal(layer(x * np.nan, training=True), x * np.nan)
    assert not layer.has_grid()
    np.testing.assert_allclose(layer(x, training=True), x, atol=x.max() / 255)
    grid = layer.grid()
    layer(10 * x, training=True)
    assert layer.grid() == grid


def test_dtype_is_kept():
    layer = quantizers.MinMax()
    for training in (True, False):
        assert layer(tf.cast(BATCHES[0], tf.float16), training=training).dtype == tf.float16


@pytest.mark.parametrize("by_kernel", [False, True])
def test_fixed_is_one_grid(by_kernel):
    layer = quantizers.Fixed(scale=1 / 256, zero_point=-128, by_kernel=by_kernel)
    x = np.random.default_rng(0).random((4, 9)).astype(np.float32)
    expected = np.clip(np.rint(x * 256), 0, 255) / 256
    np.testing.assert_array_equal(layer(x), expected)
    np.testing.assert_allclose(layer(x, training=True), expected, atol=1e-7)
    traced = tf.function(layer.__call__, autograph=False)(x)
    np.testing.assert_array_equal(traced, x if by_kernel else expected)
    assert layer.grid() == (1 / 256, -128)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: quantizers.MinMax(bits=6), "8 or 16 bits"),
        (lambda: quantizers.MovingAverage(momentum=1.0), "momentum"),
        (lambda: quantizers.Percentile(percentile=40), "percentile"),
        (lambda: quantizers.PACT(decay=-1), "decay"),
        (lambda: quantizers.PACT(decay="a"), "decay"),
        (lambda: quantizers.MovingAverage(momentum="a"), "momentum must be .*Received: 'a'"),
        (lambda: quantizers.Percentile(percentile=None), "percentile must be .*Received: None"),
        (lambda: quantizers.Fixed(scale="a"), "positive scale"),
        (lambda: quantizers.Fixed(scale=1.0, zero_point=0.5), "whole number"),
        (lambda: quantizers.Fixed(scale=0.0), "positive scale"),
        (lambda: quantizers.MinMax().initialize(2.0, 1.0), "finite numbers"),
        (lambda: quantizers.MinMax().initialize(0.0, np.nan), "finite numbers"),
    ],
)
def test_wrong_arguments(make, match):
    with pytest.raises(UsageError, match=match):
        make()
