"""Quantizers in training: fit, XLA, mixed precision, custom loops, strategies, files."""

import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from two_layers import compiled, digits, network

from tfq.keras import quantizers

pytestmark = pytest.mark.slow

PAIRS = [
    ("moving_average", "minmax"),
    ("minmax", "mse"),
    ("percentile", "ternary"),
    ("lsq", "lsq"),
    ("pact", "mean_deviation"),
    ("mse", "binary"),
]


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize(("activations", "weights"), PAIRS)
def test_fit_learns_and_saves_exactly(activations, weights, tmp_path):
    x, y = digits()
    model = compiled(network(activations, weights))
    model.fit(x[:1400], y[:1400], batch_size=64, epochs=4, verbose=0)
    assert model.evaluate(x[1400:], y[1400:], verbose=0)[1] > 0.8
    assert quantizers.check_ranges(model) == []
    eager = model(x[1400:]).numpy()
    np.testing.assert_array_equal(model.predict(x[1400:], batch_size=397, verbose=0), eager)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(x[1400:]).numpy(), eager)
    for old, new in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy())


@pytest.mark.parametrize(("activations", "weights"), [PAIRS[0], PAIRS[3], PAIRS[4]])
def test_xla(activations, weights):
    x, y = digits()
    model = compiled(network(activations, weights), jit_compile=True)
    history = model.fit(x[:640], y[:640], batch_size=64, epochs=3, verbose=0).history
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    before = [float(q.grid()[0]) for q in model.layers if hasattr(q, "grid")]
    quantizers.set_phase(model, "freeze")
    model.fit(x[:640], y[:640], batch_size=64, epochs=1, verbose=0)
    assert [float(q.grid()[0]) for q in model.layers if hasattr(q, "grid")] == before


@pytest.mark.parametrize(("activations", "weights"), [PAIRS[0], PAIRS[3], PAIRS[4]])
def test_mixed_float16(activations, weights):
    x, y = digits()
    keras.mixed_precision.set_global_policy("mixed_float16")
    model = compiled(network(activations, weights))
    history = model.fit(x[:640], y[:640], batch_size=64, epochs=3, verbose=0).history
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert model(x[:2]).dtype == tf.float16
    for variable in model.variables:
        assert variable.dtype in ("float32", "int32", "uint32"), variable.path
    assert quantizers.check_ranges(model) == []


@pytest.mark.parametrize(("activations", "weights"), [PAIRS[0], PAIRS[3], PAIRS[4]])
@pytest.mark.parametrize("jit", [False, True])
def test_custom_loop_follows_the_phase(activations, weights, jit):
    x, y = digits()
    model = network(activations, weights)
    optimizer = keras.optimizers.Adam(5e-3)
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(jit_compile=jit)
    def step(a, b):
        with tf.GradientTape() as tape:
            loss = loss_of(b, model(a, training=True))
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    def epoch():
        batches = range(0, 640, 64)
        return np.mean([float(step(x[i : i + 64], y[i : i + 64])) for i in batches])

    quantizers.set_phase(model, "observe")
    first = epoch()
    quantizers.set_phase(model, "train")
    losses = [epoch() for _ in range(3)]
    assert losses[-1] < 0.6 * first
    quantizers.set_phase(model, "freeze")
    grids = [q.grid() for _, q in quantizers.quantizers_of(model) if hasattr(q, "grid")]
    epoch()
    assert len(grids) == 2
    assert grids == [q.grid() for _, q in quantizers.quantizers_of(model) if hasattr(q, "grid")]


def test_two_replicas_keep_one_range():
    """Apart, since TensorFlow splits its device only before it is first used."""
    script = textwrap.dedent(
        """
        import numpy as np, tensorflow as tf, keras
        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(cpu, [logical] * 2)
        from two_layers import compiled, digits, network
        from tfq.keras import quantizers
        from tfq.keras.schedule import Schedule

        x, y = digits()
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        for activations, weights in [
            ("moving_average", "minmax"), ("lsq", "lsq"), ("pact", "mean_deviation")
        ]:
            keras.utils.set_random_seed(0)
            with strategy.scope():
                model = compiled(network(activations, weights))
            history = model.fit(
                x[:640], y[:640], batch_size=64, epochs=4, verbose=0, callbacks=[Schedule(1, 3)]
            ).history
            assert history["loss"][2] < 0.6 * history["loss"][0], history
            for variable in model.variables:
                copies = [v.numpy() for v in strategy.experimental_local_results(variable.value)]
                assert len(copies) == 2 and np.array_equal(*copies), variable.path
            assert quantizers.check_ranges(model) == []
        # One batch, half of it on each replica: the mean of both.
        with strategy.scope():
            layer = quantizers.MovingAverage()
        @tf.function
        def step(values):
            return strategy.run(lambda v: layer(v, training=True), args=(values,))
        halves = iter([np.array([[0.0, 2.0]], "f4"), np.array([[-1.0, 4.0]], "f4")])
        step(strategy.experimental_distribute_values_from_function(lambda _: next(halves)))
        assert (float(layer.minimum.value.values[0]), float(layer.maximum.value.values[1])) == (
            -0.5, 3.0
        )
        print("two replicas agree")
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    assert "two replicas agree" in done.stdout, done.stderr[-3000:]
