import itertools

import numpy as np
import pytest

from tfq.errors import UsageError

pytestmark = pytest.mark.slow


def dense(units=8, seed=0):
    import tf_keras

    tf_keras.utils.set_random_seed(seed)
    inputs = tf_keras.Input((16,))
    hidden = tf_keras.layers.Dense(32, activation="relu", name="hidden")(inputs)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(units, name="out")(hidden))
    model.compile("adam", "mse")
    return model


def conv():
    import tf_keras

    inputs = tf_keras.Input((8, 8, 4))
    x = tf_keras.layers.DepthwiseConv2D(3, name="dw")(inputs)
    x = tf_keras.layers.SeparableConv2D(8, 3, name="sep")(x)
    x = tf_keras.layers.Conv2DTranspose(6, 2, name="up")(x)
    x = tf_keras.layers.Reshape((25, 6))(x)
    return tf_keras.Model(inputs, tf_keras.layers.LSTM(4, name="memory")(x))


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(200, 16)).astype(np.float32), rng.normal(size=(200, 8))


def watching(function):
    """A callback whose `seen` has what `function` said after every batch."""
    import tf_keras

    callback = tf_keras.callbacks.LambdaCallback(
        on_batch_end=lambda batch, logs: callback.seen.append(function())
    )
    callback.seen = []
    return callback


def test_zeros_are_exact_after_every_step(data):
    from tfq.keras import legacy

    model = dense()
    pruning = legacy.prune(model, 0.75)
    watch = watching(pruning.sparsity)
    model.fit(*data, batch_size=20, verbose=0, callbacks=[pruning, watch])
    assert watch.seen == [{"hidden": 0.75, "out": 0.75}] * 10
    assert np.mean(model.get_layer("hidden").kernel.numpy() == 0) == 0.75


def test_decay_ends_at_its_final_sparsity_and_never_brings_weights_back(data):
    from tfq.keras import legacy
    from tfq.keras.pruning.schedules import PolynomialDecay

    model = dense()
    # The last step is no multiple of the frequency.
    pruning = legacy.prune(model, schedule=PolynomialDecay(0, 0.5, 0, 15, frequency=10))
    kernel = model.get_layer("hidden").kernel
    watch = watching(lambda: kernel.numpy() == 0)
    model.fit(*data, batch_size=10, verbose=0, callbacks=[pruning, watch])
    masks = [np.zeros_like(watch.seen[0]), *watch.seen]
    assert all(np.all(b[a]) for a, b in itertools.pairwise(masks))
    shares = [m.mean() for m in watch.seen]
    assert shares[8] == 0
    assert 0.3 < shares[9] < 0.5
    assert shares[-1] == 0.5


def test_an_unfinished_decay_warns(data):
    from tfq.keras import legacy
    from tfq.keras.pruning.schedules import PolynomialDecay

    model = dense()
    pruning = legacy.prune(model, schedule=PolynomialDecay(0, 0.5, 0, 15))
    with pytest.warns(UserWarning, match="step 10, the pruning schedule at 15"):
        model.fit(*data, batch_size=20, verbose=0, callbacks=[pruning])


def test_two_of_four_inputs_and_blocks():
    from tfq.keras import legacy

    model = dense()
    before = model.get_layer("hidden").kernel.numpy()
    legacy.prune(model, pattern="2:4").begin()
    kernel = model.get_layer("hidden").kernel.numpy()
    groups = np.abs(before).reshape(4, 4, 32)
    largest = np.sort(np.argsort(groups, axis=1)[:, 2:], axis=1)
    kept = np.sort(np.argsort(kernel.reshape(4, 4, 32) != 0, axis=1, kind="stable")[:, 2:], axis=1)
    np.testing.assert_array_equal(kept, largest)

    model = dense()
    legacy.prune(model, 0.5, "block", block=(4, 2)).begin()
    zero = model.get_layer("hidden").kernel.numpy() == 0
    blocks = zero.reshape(4, 4, 16, 2).mean((1, 3))
    assert set(np.unique(blocks)) == {0.0, 1.0}
    assert blocks.mean() == 0.5


def test_kernels_of_all_kinds_and_rules():
    from tfq.keras import legacy

    model = conv()
    pruning = legacy.prune(model, 0.5, rules=[{"regex": "up", "sparsity": 0}])
    pruning.begin()
    found = pruning.sparsity()
    assert set(found) == {
        "sep/pointwise_kernel",
        "memory/lstm_cell",
        "memory/lstm_cell/recurrent_kernel",
    }
    assert all(v == 0.5 for v in found.values())
    assert np.all(model.get_layer("dw").depthwise_kernel.numpy() != 0)
    named = legacy.prune(conv(), 0.5, rules=[{"regex": "dw", "sparsity": 0.25}])
    named.begin()
    assert named.sparsity()["dw/depthwise_kernel"] == 0.25


def test_weights_of_a_cluster_stay_equal_and_move_by_their_mean(data):
    import tf_keras

    from tfq.keras import legacy

    model = dense()
    model.compile(tf_keras.optimizers.SGD(0.5), "mse")
    clustering = legacy.cluster(model, 5, "linear", rules=[{"regex": "out", "clusters": 0}])
    clustering.begin()
    kernel = model.get_layer("hidden").kernel
    start = kernel.numpy()
    twin = tf_keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    twin.compile(tf_keras.optimizers.SGD(0.5), "mse")
    twin.fit(*data, batch_size=200, verbose=0)
    model.fit(*data, batch_size=200, verbose=0, callbacks=[clustering])
    moved = twin.get_layer("hidden").kernel.numpy()
    assert clustering.distinct() == {"hidden": 5}
    for value in np.unique(start):
        members = start == value
        np.testing.assert_allclose(kernel.numpy()[members], moved[members].mean(), rtol=1e-5)
    assert len(np.unique(model.get_layer("out").kernel.numpy())) == 32 * 8


def test_clusters_per_channel_and_around_zeros():
    from tfq.keras import legacy

    model = dense()
    legacy.prune(model, 0.5).begin()
    zero = model.get_layer("hidden").kernel.numpy() == 0
    legacy.cluster(model, 4, per_channel=True, preserve_sparsity=True).begin()
    kernel = model.get_layer("hidden").kernel.numpy()
    np.testing.assert_array_equal(kernel == 0, zero)
    assert all(len(np.unique(column)) <= 4 for column in kernel.T)
    assert len(np.unique(kernel)) > 4


def test_the_student_learns_from_the_teacher_alone(data):
    from tfq.keras import legacy

    teacher, student = dense(seed=1), dense(seed=2)
    before = [w.copy() for w in teacher.get_weights()]

    def gap():
        return float(np.mean((teacher(data[0]) - student(data[0])).numpy() ** 2))

    start = gap()
    distiller = legacy.distill(teacher, student, loss="mse", student_loss_weight=0)
    distiller.compile("adam", "mse")
    distiller.fit(*data, epochs=20, batch_size=20, verbose=0)
    assert gap() < 0.3 * start
    assert all(np.array_equal(a, b) for a, b in zip(before, teacher.get_weights(), strict=True))
    assert len(distiller.trainable_variables) == len(student.trainable_variables)


@pytest.mark.parametrize("probabilities", [False, True])
def test_the_distillation_loss_is_the_formula(probabilities):
    import tf_keras
    from scipy.special import log_softmax, softmax

    from tfq.keras import legacy

    rng = np.random.default_rng(0)
    t, s = rng.normal(size=(2, 6, 4)).astype(np.float32)

    def constant(name):
        inputs = tf_keras.Input((4,))
        x = tf_keras.layers.Dense(4, use_bias=False, name=name)(inputs)
        x = tf_keras.layers.Softmax()(x) if probabilities else x
        model = tf_keras.Model(inputs, x)
        model.set_weights([np.eye(4)])
        return model

    teacher, student = constant("t"), constant("s")
    student.layers[1].kernel.assign(2 * np.eye(4))
    distiller = legacy.distill(teacher, student, temperature=2.0, student_loss_weight=0.25)
    distiller.compile("sgd", "mse")
    y = softmax(s, -1)
    predicted = 2 * t
    outputs = softmax(predicted, -1) if probabilities else predicted
    p = softmax(t / 2, -1)
    kl = np.sum(p * (np.log(p) - log_softmax(predicted / 2, -1)), -1).mean()
    expected = 0.25 * np.mean((outputs - y) ** 2) + 0.75 * 4 * kl
    history = distiller.fit(t, y, batch_size=6, verbose=0)
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda k, m: k.prune(m, 0.5, "channels"), "Keras 3"),
        (lambda k, m: k.prune(m, 0.5, "blocks"), "Did you mean 'block'"),
        (lambda k, m: k.prune(m, 1.5), "share"),
        (lambda k, m: k.prune(m, 0.3, "2:4"), "sparsity of 0.5"),
        (lambda k, m: k.prune(m, 0.5, rules=[{"regex": "x", "sparsity": 0}]), "matches none"),
        (lambda k, m: k.cluster(m, 1), "from 2 on"),
        (lambda k, m: k.cluster(m, 4, "densit"), "Did you mean 'density'"),
        (lambda k, m: k.distill(m, m), "share weights"),
        (lambda k, m: k.distill(m, dense(9)), "same shapes"),
        (lambda k, m: k.distill(m, dense(), temperature=0), "above 0"),
        (lambda k, m: k.distill(m, dense(), features=["hidden"]), "Keras 3"),
        (lambda k, m: k.distill(m, object()), "student"),
    ],
)
def test_bad_input_is_one_clear_error(call, says):
    from tfq.keras import legacy

    with pytest.raises(UsageError, match=says):
        call(legacy, dense())


def test_a_callback_of_another_model_is_refused(data):
    from tfq.keras import legacy

    for callback in (legacy.prune(dense(), 0.5), legacy.cluster(dense(), 4)):
        with pytest.raises(UsageError, match="made for the model"):
            dense().fit(*data, verbose=0, callbacks=[callback])


def test_the_calls_of_tfq_keras_take_tf_keras_models(data):
    import keras
    import tf_keras

    import tfq
    from tfq.keras import legacy

    model = dense()
    assert isinstance(tfq.keras.prune(model, 0.5), tf_keras.callbacks.Callback)
    assert isinstance(tfq.keras.cluster(model, 4), tf_keras.callbacks.Callback)
    quantized = tfq.keras.quantize(model, data=data[0])
    assert legacy.is_tf_keras(quantized)
    assert legacy.is_tf_keras(tfq.keras.distill(model, student=quantized))
    inputs = keras.Input((16,))
    new = keras.Model(inputs, keras.layers.Dense(8)(inputs))
    assert not legacy.is_tf_keras(new)
    assert isinstance(tfq.keras.prune(new, 0.5), keras.callbacks.Callback)
    assert tfq.keras.prune.__doc__ == tfq.keras.pruning.prune.__doc__
