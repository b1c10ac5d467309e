"""BatchNormalization that freezes: Keras's until then, its own inference afterwards."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfq.errors import UsageError
from tfq.keras.batch_norm import FreezableBatchNormalization, freeze_batch_norm

pytestmark = pytest.mark.slow

X = np.random.default_rng(0).normal(2, 3, (16, 5, 4)).astype(np.float32)


def test_training_is_kerass():
    ours, theirs = (
        FreezableBatchNormalization(momentum=0.9),
        keras.layers.BatchNormalization(momentum=0.9),
    )
    for _ in range(3):
        np.testing.assert_array_equal(ours(X, training=True), theirs(X, training=True))
    for mine, its in zip(ours.weights, theirs.weights, strict=False):
        assert mine.name == its.name
        np.testing.assert_array_equal(mine, its)
    np.testing.assert_array_equal(ours(X), theirs(X))
    assert ours.weights[-1].name == "frozen"


@pytest.mark.parametrize("jit", [False, True])
def test_freezing_acts_in_a_traced_step(jit):
    layer = FreezableBatchNormalization()
    layer.build(X.shape)
    gamma = layer.gamma

    @tf.function(jit_compile=jit, autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            y = layer(x, training=True)
            loss = tf.reduce_sum(y**2)
        return y, tape.gradient(loss, gamma.value)

    step(X)
    freeze_batch_norm(layer)
    before = [v.numpy() for v in (layer.moving_mean, layer.moving_variance)]
    y, gradient = step(X)
    np.testing.assert_allclose(y, layer(X), rtol=1e-5, atol=1e-5)
    assert np.abs(gradient).min() > 0
    for old, variable in zip(before, (layer.moving_mean, layer.moving_variance), strict=True):
        np.testing.assert_array_equal(old, variable)
    freeze_batch_norm(layer, False)
    step(X)
    assert np.abs(before[0] - layer.moving_mean.numpy()).max() > 0


def test_a_kerass_config_makes_it_and_it_saves(tmp_path):
    config = keras.layers.BatchNormalization(epsilon=0.01, center=False, name="bn").get_config()
    layer = FreezableBatchNormalization.from_config(config)
    assert layer.get_config() == config
    model = keras.Sequential([keras.Input((5, 4)), layer])
    model(X, training=True)
    freeze_batch_norm(model)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(X), model(X))
    assert int(again.layers[-1].frozen) == 1


def test_float16_inside_and_mask():
    layer = FreezableBatchNormalization(dtype="mixed_float16")
    assert layer(X, training=True).dtype == tf.float16
    mask = np.ones((16, 5), bool)
    mask[8:] = False
    ours, theirs = FreezableBatchNormalization(), keras.layers.BatchNormalization()
    np.testing.assert_array_equal(
        ours(X, training=True, mask=mask), theirs(X, training=True, mask=mask)
    )


def test_renorm_is_refused():
    with pytest.raises(UsageError, match="renorm=False"):
        FreezableBatchNormalization(renorm=True)
