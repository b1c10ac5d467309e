"""Pruning during training: exact counts, at all times, whatever trains the model."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_nets import L, compiled, digits, residual, scrambled, tower

from tfq.errors import UsageError
from tfq.keras.pruning import ConstantSparsity, PolynomialDecay, keep_sparsity, prune

pytestmark = pytest.mark.slow

KERNELS = ("conv0", "conv1", "hidden", "scores")


def zeros(model: keras.Model, name: str) -> int:
    return int((model.get_layer(name).kernel.numpy() == 0).sum())


def wanted(model: keras.Model, name: str, sparsity: float) -> int:
    return int(np.floor(sparsity * model.get_layer(name).kernel.numpy().size + 0.5))


def fit(model: keras.Model, *callbacks, epochs: int = 1, count: int = 256):
    x, y = digits()
    return model.fit(
        x[:count], y[:count], batch_size=32, epochs=epochs, verbose=0, callbacks=list(callbacks)
    )


class Watch(keras.callbacks.Callback):
    """Sparsity of a layer after each batch."""

    def __init__(self, name: str):
        super().__init__()
        self.layer, self.seen = name, []

    def on_train_batch_end(self, batch, logs=None):
        kernel = self.model.get_layer(self.layer).kernel.numpy()
        self.seen.append(float((kernel == 0).mean()))


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"steps_per_execution": 3}])
def test_zeros_are_exact_and_stay(options) -> None:
    model = compiled(tower(), **options)
    layers, kind = list(model.layers), type(model)
    fit(model, prune(model, 0.7), epochs=2)
    for name in KERNELS:
        assert zeros(model, name) == wanted(model, name, 0.7)
    assert model.layers == layers
    assert type(model) is kind
    bias = model.get_layer("scores").bias.numpy()
    assert (bias != 0).all()


def test_mixed_precision() -> None:
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = compiled(tower())
    finally:
        keras.mixed_precision.set_global_policy("float32")
    fit(model, prune(model, 0.7))
    assert [zeros(model, n) for n in KERNELS] == [wanted(model, n, 0.7) for n in KERNELS]


def test_strategies() -> None:
    # Two devices can only be asked for before TensorFlow has started.
    script = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from tfq.keras.pruning import prune
from tfq.keras.clustering import cluster
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(10), keras.layers.Dense(1)])
    model.compile("adam", "mse")
x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
pruning = prune(model, 0.5)
model.fit(x, x[:, :1], batch_size=16, verbose=0, callbacks=[pruning])
kernel = model.layers[0].kernel
copies = [v.numpy() for v in kernel.value.values]
assert len(copies) == 2 and (copies[0] == copies[1]).all()
assert (copies[0] == 0).sum() == 30, copies
clustering = cluster(model, 4, preserve_sparsity=True)
model.fit(x, x[:, :1], batch_size=16, verbose=0, callbacks=[clustering])
copies = [v.numpy() for v in kernel.value.values]
assert (copies[0] == copies[1]).all() and len(np.unique(copies[0])) <= 4
assert (copies[0] == 0).sum() == 30, copies
print("fine")
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert run.stdout.strip().endswith("fine"), run.stderr[-2000:]


def test_sparsity_grows_as_scheduled_and_never_falls() -> None:
    model = compiled(tower())
    watch = Watch("hidden")
    schedule = PolynomialDecay(0.2, 0.8, 2, 14, frequency=4)
    fit(model, prune(model, schedule=schedule), watch, epochs=2)
    size = model.get_layer("hidden").kernel.numpy().size
    expected, reached = [], 0.0
    for step in range(1, 17):
        if step in (2, 6, 10, 14):
            reached = np.floor(0.8 * schedule.progress(step) * size + 0.5) / size
        expected.append(reached)
    np.testing.assert_allclose(watch.seen, expected)


def test_a_schedule_that_training_did_not_finish_is_said() -> None:
    pruning = prune(tower(), schedule=PolynomialDecay(0.0, 0.8, 0, 100, frequency=2))
    pruning.step(8)
    with pytest.warns(UserWarning, match="step 8, the pruning schedule at 100"):
        pruning.on_train_end()


def test_a_loop_of_ones_own() -> None:
    model = tower()
    x, y = digits()
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    pruning = prune(model, 0.5, "2:4")
    pruning.begin()

    @tf.function
    def train(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        weights = model.trainable_variables
        optimizer.apply(tape.gradient(value, weights), weights)

    for n in range(3):
        train(x[n * 32 : n * 32 + 32], y[n * 32 : n * 32 + 32])
        pruning.step()
        kernel = model.get_layer("conv1").kernel.numpy()
        groups = kernel.reshape(9, 2, 4, 16)
        assert ((groups == 0).sum(axis=2) == 2).all()


def test_training_goes_on_from_a_file(tmp_path) -> None:
    model = compiled(tower())
    fit(model, prune(model, 0.6))
    model.save(tmp_path / "m.keras")
    before = model.get_layer("conv1").kernel.numpy() == 0
    again = keras.saving.load_model(tmp_path / "m.keras")
    watch = Watch("conv1")
    schedule = PolynomialDecay(0.0, 0.8, 0, 12, frequency=4)
    fit(again, prune(again, schedule=schedule, initial_step=4), watch)
    after = again.get_layer("conv1").kernel.numpy() == 0
    assert (after | ~before).all()
    assert watch.seen[0] >= before.mean()
    assert zeros(again, "conv1") == wanted(again, "conv1", 0.8)


def test_a_kernel_that_starts_at_zero_is_trained() -> None:
    model = compiled(tower())
    kernel = model.get_layer("scores").kernel
    kernel.assign(np.zeros(kernel.shape))
    fit(model, prune(model, schedule=ConstantSparsity(0.5, begin_step=4)))
    assert zeros(model, "scores") == wanted(model, "scores", 0.5)


def test_rules() -> None:
    model = tower()
    rules = [
        {"regex": "conv0", "sparsity": 0},
        {"regex": "conv1", "sparsity": 0.5, "pattern": "block"},
        {"regex": "^hidden$", "pattern": "2:4"},
    ]
    prune(model, 0.8, rules=rules).begin()
    assert zeros(model, "conv0") == 0
    blocks = (model.get_layer("conv1").kernel.numpy() == 0).reshape(9, 2, 4, 16)
    assert (blocks.all(axis=2) == blocks.any(axis=2)).all()
    assert blocks.mean() == 0.5
    assert zeros(model, "hidden") == wanted(model, "hidden", 0.5)
    assert zeros(model, "scores") == wanted(model, "scores", 0.8)


def test_depthwise_kernels_and_tables_only_where_a_rule_names_them() -> None:
    model = residual()
    prune(model, 0.5).begin()
    assert zeros(model, "depthwise") == 0
    prune(model, 0.5, rules=[{"regex": "depthwise", "sparsity": 0.25}]).begin()
    assert zeros(model, "depthwise") == 36


def test_layers_of_all_kinds_are_found() -> None:
    i = keras.Input((12, 6))
    x = L.Bidirectional(L.GRU(4), name="both")(i)
    y = L.MultiHeadAttention(2, 3, name="attention")(i, i)
    x = L.Concatenate()([x, L.GlobalAveragePooling1D()(y)])
    model = keras.Model(i, L.Dense(2, name="scores")(x))
    prune(model, 0.5).begin()
    found = {w.path: float((w.numpy() == 0).mean()) for w in model.weights if "kernel" in w.path}
    assert len(found) == 9
    assert set(found.values()) == {0.5}


def test_zeros_are_kept_in_the_model_that_a_distiller_trains() -> None:
    teacher, student = scrambled(tower()), tower(4)
    pruning = prune(student, 0.6)
    distiller = keras.distillation.Distiller(
        teacher, student, keras.distillation.LogitsDistillation()
    )
    compiled(distiller)
    fit(distiller, pruning)
    assert zeros(student, "hidden") == wanted(student, "hidden", 0.6)


def test_keep_sparsity_freezes_the_zeros_that_are_there() -> None:
    model = compiled(tower())
    prune(model, 0.7).begin()
    before = model.get_layer("hidden").kernel.numpy()
    fit(model, keep_sparsity(model))
    after = model.get_layer("hidden").kernel.numpy()
    np.testing.assert_array_equal(after == 0, before == 0)
    assert (after[after != 0] != before[before != 0]).any()
    with pytest.raises(UsageError, match="no sparsity to keep"):
        keep_sparsity(tower())


def test_channels_become_zero_step_by_step() -> None:
    model = compiled(tower())
    schedule = PolynomialDecay(0.0, 0.5, 0, 8, frequency=2)
    fit(model, prune(model, pattern="channels", schedule=schedule), epochs=2)
    for name, count in (("conv0", 4), ("conv1", 8), ("hidden", 10)):
        dead = (model.get_layer(name).kernel.numpy() == 0).all(
            axis=tuple(range(len(model.get_layer(name).kernel.shape) - 1))
        )
        assert dead.sum() == count
    dead = (model.get_layer("conv0").kernel.numpy() == 0).all(axis=(0, 1, 2))
    for name in ("gamma", "beta"):
        values = getattr(model.get_layer("norm0"), name).numpy()
        np.testing.assert_array_equal(values == 0, dead)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: prune(m, 1.0), "sparsity=1.0"),
        (lambda m: prune(m, pattern="diagonal"), "pattern 'diagonal'"),
        (lambda m: prune(m, 0.7, "2:4"), "its sparsity is 0.5"),
        (lambda m: prune(m, pattern="4:2"), "4:2"),
        (lambda m: prune(m, pattern="block", block=(0, 4)), "block"),
        (lambda m: prune(m, 0.5, schedule=ConstantSparsity(0.7)), "0.7, and sparsity is 0.5"),
        (lambda m: prune(m, schedule="fast"), "Received: str"),
        (lambda m: prune(m, initial_step=-1), "initial_step"),
        (lambda m: prune(m, rules=[{"regex": "conv9", "sparsity": 0.1}]), "'conv9' matches none"),
        (lambda m: prune(m, rules=[{"regex": "(", "sparsity": 0.1}]), "not a regular expression"),
        (lambda m: prune(m, rules=[{"regex": "conv"}]), "at least one of"),
        (lambda m: prune(m, rules=[{"regex": "conv", "spars": 0.1}]), "Did you mean 'sparsity'"),
        (
            lambda m: prune(
                m,
                rules=[{"regex": "conv", "sparsity": 0.1}, {"regex": "v0", "sparsity": 0.2}],
            ),
            "'conv' says sparsity=0.1, 'v0' says sparsity=0.2",
        ),
        (lambda m: prune(keras.Sequential([L.Dense(3)])), "is not built"),
        (lambda m: prune("model.keras"), "Received: str"),
        (lambda m: prune(keras.Sequential([keras.Input((3,)), L.ReLU()])), "no kernel"),
    ],
)
def test_what_cannot_be_done_is_said(call, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call(tower())


def test_training_another_model_is_an_error() -> None:
    other = compiled(tower())
    with pytest.raises(UsageError, match="none of whose weights"):
        fit(other, prune(tower(), 0.5))
