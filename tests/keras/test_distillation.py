"""tfq.keras.distill against formulas in numpy, and what it must leave alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, softmax

from tfq.errors import UsageError
from tfq.keras.distillation import distill
from tfq.keras.quantizing import quantize
from tfq.keras.schedule import Schedule

pytestmark = pytest.mark.slow

LAYERS = keras.layers
CLASSES = 4


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


def _data(n=32):
    rng = np.random.default_rng(0)
    return rng.normal(0, 1, (n, 6)).astype(np.float32), rng.integers(0, CLASSES, n)


def _model(end="logits", *, width=8, norm=False, name=None):
    x = inputs = keras.Input((6,))
    x = LAYERS.Dense(width, name="hidden")(x)
    if norm:
        x = LAYERS.BatchNormalization(name="norm")(x)
    x = LAYERS.ReLU(name="act")(x)
    if end == "dense":
        x = LAYERS.Dense(CLASSES, activation="softmax", name="scores")(x)
    else:
        x = LAYERS.Dense(CLASSES, name="scores")(x)
    if end == "layer":
        x = LAYERS.Softmax(name="softmax")(x)
    elif end == "activation":
        x = LAYERS.Activation("softmax", name="softmax")(x)
    elif end == "op":
        x = keras.ops.softmax(x)
    elif end == "sigmoid":
        x = LAYERS.Activation("sigmoid")(x)
    elif end == "passed":
        x = LAYERS.Activation("linear")(LAYERS.Dropout(0.5)(LAYERS.Softmax()(x)))
    elif end == "reshaped":
        x = LAYERS.Reshape((2, CLASSES // 2))(LAYERS.Softmax()(x))
    return keras.Model(inputs, x, name=name)


def _logits(model, x):
    """Logits of a model of `_model`, whatever it ends in, in numpy."""
    for layer in map(model.get_layer, ("hidden", "scores")):
        kernel, bias = (w.numpy().astype(np.float64) for w in layer.weights)
        x = x @ kernel + bias
        if layer.name == "hidden":
            x = np.maximum(x, 0)
    return x


def _divergence(t, s, temperature):
    p = softmax(t / temperature, axis=-1)
    difference = log_softmax(t / temperature, axis=-1) - log_softmax(s / temperature, axis=-1)
    return temperature**2 * (p * difference).sum(-1).mean()


def _fit(distiller, x, y, **kwargs):
    """One step on the whole batch at a rate of 0: the losses before any change."""
    distiller.compile(keras.optimizers.SGD(0.0), **kwargs)
    history = distiller.fit(x, y, batch_size=len(x), epochs=1, verbose=0).history
    return {k: v[0] for k, v in history.items()}


@pytest.mark.parametrize("teacher_end", ["logits", "dense", "layer", "activation", "op", "passed"])
@pytest.mark.parametrize("student_end", ["logits", "dense", "layer"])
def test_loss_is_that_of_the_logits_whatever_the_models_end_in(teacher_end, student_end):
    x, y = _data()
    teacher, student = _model(teacher_end, width=16), _model(student_end)
    t, s = _logits(teacher, x), _logits(student, x)
    distiller = distill(teacher, student, temperature=2.5, student_loss_weight=0.3)
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=student_end == "logits")
    got = _fit(distiller, x, y, loss=crossentropy)
    own = -log_softmax(s, axis=-1)[np.arange(len(y)), y].mean()
    assert got["student_loss"] == pytest.approx(own, rel=1e-4)
    assert got["distillation_loss"] == pytest.approx(_divergence(t, s, 2.5), rel=1e-4)
    assert got["loss"] == pytest.approx(0.3 * own + 0.7 * _divergence(t, s, 2.5), rel=1e-4)


def test_probabilities_before_a_reshape_are_seen():
    x, _ = _data()
    teacher, student = _model("reshaped"), _model("reshaped")
    distiller = distill(teacher, student, temperature=2.0, student_loss_weight=0.0)
    t, s = (np.log(m.predict(x, verbose=0)) for m in (teacher, student))
    got = _fit(distiller, x, None)
    assert got["distillation_loss"] == pytest.approx(_divergence(t, s, 2.0), rel=1e-4)


@pytest.mark.parametrize("softmax_inside", [True, False])
def test_nested_and_sequential_models(softmax_inside):
    x, _ = _data()
    core = _model("layer" if softmax_inside else "logits")
    inputs = keras.Input((6,))
    teacher = keras.Model(inputs, core(inputs))
    student = keras.Sequential([keras.Input((6,)), LAYERS.Dense(CLASSES), LAYERS.Softmax()])
    kernel, bias = student.get_weights()
    expected = _divergence(_logits(core, x), x @ kernel + bias, 3.0)
    got = _fit(distill(teacher, student, student_loss_weight=0.0), x, None)
    assert got["loss"] == pytest.approx(expected, rel=1e-4)


def test_subclassed_models_say_what_their_outputs_are():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = LAYERS.Dense(CLASSES, activation="softmax")

        def call(self, x):
            return self.dense(x)

    x, _ = _data()
    teacher, student = Subclassed(), Subclassed()
    with pytest.raises(UsageError, match=r"teacher.*not built"):
        distill(teacher, student)
    t, s = (np.log(m(x).numpy()) for m in (teacher, student))
    with pytest.raises(UsageError, match="from_logits"):
        distill(teacher, student)
    distiller = distill(teacher, student, from_logits=False, student_loss_weight=0.0)
    assert _fit(distiller, x, None)["loss"] == pytest.approx(_divergence(t, s, 3.0), rel=1e-4)


def test_features_are_compared_in_one_run_of_the_student():
    x, y = _data()
    teacher, student = _model(norm=True), _model(norm=True)
    features = ["act", ("norm", "hidden")]
    outputs = {
        "t": keras.Model(teacher.input, [teacher.get_layer(n).output for n in ("act", "norm")]),
        "s": keras.Model(student.input, [student.get_layer(n).output for n in ("act", "hidden")]),
    }
    t, s = outputs["t"](x, training=False), outputs["s"](x, training=True)
    apart = [float(np.mean((np.array(a) - np.array(b)) ** 2)) for a, b in zip(t, s, strict=True)]
    norm = student.get_layer("norm")
    norm.moving_mean.assign(np.zeros(8))
    distiller = distill(teacher, student, loss=None, features=features, feature_weight=[2, 0.5])
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    got = _fit(distiller, x, y, loss=crossentropy)
    assert got["distillation_loss"] == pytest.approx(2 * apart[0] + 0.5 * apart[1], rel=1e-4)
    # One update of the statistics: momentum 0.99.
    mean = (x @ student.get_layer("hidden").kernel.numpy()).mean(0)
    np.testing.assert_allclose(norm.moving_mean.numpy(), 0.01 * mean, atol=1e-6)
    before = norm.moving_mean.numpy()
    distiller.evaluate(x, y, verbose=0)
    np.testing.assert_array_equal(norm.moving_mean.numpy(), before)


def test_teacher_is_left_as_it_was_and_the_student_learns_it():
    x, y = _data(256)
    teacher = _model("layer", width=16, norm=True)
    teacher.get_layer("hidden").bias.trainable = False
    flags = [v.trainable for v in teacher.variables]
    values = teacher.get_weights()
    student = _model("layer", width=16, norm=True)
    distiller = distill(teacher, student, features=["act"], student_loss_weight=0.0)
    assert distiller.student is student
    distiller.compile(keras.optimizers.Adam(0.02))
    losses = distiller.fit(x, y, epochs=60, batch_size=64, verbose=0).history["loss"]
    assert losses[-1] < 0.05 * losses[0]
    agree = teacher.predict(x, verbose=0).argmax(1) == student.predict(x, verbose=0).argmax(1)
    assert agree.mean() > 0.9
    assert [v.trainable for v in teacher.variables] == flags
    assert teacher.trainable
    for before, after in zip(values, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert {id(v) for v in distiller.trainable_variables} == {
        id(v) for v in student.trainable_variables
    }


def test_sample_weights_and_regularization_count():
    x, y = _data()
    inputs = keras.Input((6,))
    penalized = LAYERS.Dense(CLASSES, kernel_regularizer=keras.regularizers.L2(0.1))
    student = keras.Model(inputs, penalized(inputs))
    teacher_inputs = keras.Input((6,))
    teacher = keras.Model(
        teacher_inputs, LAYERS.Dense(CLASSES, kernel_regularizer="l2")(teacher_inputs)
    )
    distiller = distill(teacher, student, student_loss_weight=0.5)
    weights = np.linspace(0, 2, len(x)).astype(np.float32)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    got = _fit_weighted(distiller, x, y, weights, loss)
    kernel, bias = student.get_weights()
    s = x @ kernel + bias
    own = -(weights * log_softmax(s, axis=-1)[np.arange(len(y)), y]).mean()
    assert got["student_loss"] == pytest.approx(own + 0.1 * (kernel**2).sum(), rel=1e-4)


def _fit_weighted(distiller, x, y, weights, loss):
    distiller.compile(keras.optimizers.SGD(0.0), loss=loss)
    history = distiller.fit(x, y, sample_weight=weights, batch_size=len(x), verbose=0).history
    return {k: v[0] for k, v in history.items()}


def test_other_losses_compare_the_outputs_as_they_are():
    x, y = _data()
    teacher, student = _model("sigmoid"), _model("sigmoid")
    with pytest.raises(UsageError, match="sigmoid"):
        distill(teacher, student)
    t, s = (m.predict(x, verbose=0) for m in (teacher, student))
    for loss in ("mse", keras.losses.MeanSquaredError()):
        got = _fit(distill(teacher, student, loss=loss, student_loss_weight=0.0), x, y)
        assert got["loss"] == pytest.approx(((t - s) ** 2).mean(), rel=1e-4)


def test_several_outputs_and_named_inputs():
    def model():
        a, b = keras.Input((6,), name="a"), keras.Input((3,), name="b")
        both = LAYERS.Concatenate()([a, b])
        first = LAYERS.Softmax()(LAYERS.Dense(3, name="first")(both))
        return keras.Model({"a": a, "b": b}, {"p": first, "q": LAYERS.Dense(5)(both)})

    x, _ = _data()
    feed = {"a": x, "b": x[:, :3]}
    teacher, student = model(), model()
    t, s = (m.predict(feed, verbose=0) for m in (teacher, student))
    expected = _divergence(np.log(t["p"]), np.log(s["p"]), 3) + _divergence(t["q"], s["q"], 3)
    distiller = distill(teacher, student, features=["first"], feature_weight=0)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        loss={"p": "sparse_categorical_crossentropy", "q": "mse"},
        metrics={"p": ["accuracy"], "q": []},
    )
    labels = {"p": np.zeros(len(x), int), "q": np.zeros((len(x), 5))}
    history = distiller.fit(feed, labels, batch_size=len(x), verbose=0).history
    assert history["distillation_loss"][0] == pytest.approx(expected, rel=1e-4)
    own = -np.log(s["p"][:, 0]).mean() + (s["q"] ** 2).mean()
    assert history["student_loss"][0] == pytest.approx(own, rel=1e-4)


def test_saved_distiller_computes_the_same(tmp_path):
    x, y = _data()
    distiller = distill(_model("layer"), _model("layer"), temperature=2, features=["act"])
    loss = _fit(distiller, x, y, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), distiller.student.predict(x, verbose=0)
    )
    again = loaded.evaluate(x, y, batch_size=len(x), verbose=0, return_dict=True)
    assert again["distillation_loss"] == pytest.approx(loss["distillation_loss"], rel=1e-5)
    assert again["student_loss"] == pytest.approx(loss["student_loss"], rel=1e-5)


def test_half_precision_student_learns_from_a_float_teacher():
    x, y = _data()
    teacher = _model("layer")
    keras.config.set_dtype_policy("mixed_float16")
    try:
        student = _model("layer")
    finally:
        keras.config.set_dtype_policy("float32")
    distiller = distill(teacher, student, features=["act"])
    distiller.compile(keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy")
    assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    losses = distiller.fit(x, y, epochs=20, verbose=0).history["distillation_loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("jit_compile", [True, False])
def test_replicas_and_jit_take_the_same_step(jit_compile):
    x, y = _data()
    start = _model("layer").get_weights()
    taught = _model("layer", width=16)
    stepped = []
    for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0"])):
        with strategy.scope():
            teacher, student = _model("layer", width=16), _model("layer")
            teacher.set_weights(taught.get_weights())
            student.set_weights(start)
            distiller = distill(teacher, student)
            distiller.compile(
                keras.optimizers.SGD(0.1),
                loss="sparse_categorical_crossentropy",
                jit_compile=jit_compile,
            )
        distiller.fit(x, y, batch_size=len(x), shuffle=False, verbose=0)
        stepped.append(student.get_weights())
    for a, b, before in zip(*stepped, start, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
        assert not np.array_equal(a, before)


def test_own_loop_may_call_the_student():
    x, y = _data()
    teacher, student = _model("layer"), _model("layer")
    distiller = distill(teacher, student, student_loss_weight=0.5)
    distiller.compile("sgd", loss="sparse_categorical_crossentropy")
    through = distiller.compute_loss(x, y, distiller(x), training=False)
    direct = distiller.compute_loss(x, y, student(x), training=False)
    assert float(through) == pytest.approx(float(direct), rel=1e-6)


@pytest.mark.parametrize("end", ["logits", "dense", "layer"])
def test_quantized_student_is_compared_by_the_logits_before_its_softmax(end):
    x, y = _data(64)
    teacher = _model(end)
    student = quantize(teacher, "w4a8", data=x)
    for layer in student.layers:
        if hasattr(layer, "bias"):  # Something to learn.
            layer.bias.assign(np.random.default_rng(1).normal(0, 1, layer.bias.shape))
    distiller = distill(teacher, student, temperature=2.0, student_loss_weight=0.0)
    name = distiller.distillation_losses[0].student_key
    shown = keras.Model(student.input, student.output)
    if end != "logits":
        tapped = next(op for op in student.operations if op.name == name)
        shown = keras.Model(student.input, tapped.output)
    s = shown(x, training=False).numpy()
    assert np.abs(s.sum(1) - 1).max() > 0.1  # No probabilities.
    distiller.compile(keras.optimizers.Adam(0.03))
    got = distiller.evaluate(x, y, batch_size=len(x), verbose=0, return_dict=True)
    expected = _divergence(_logits(teacher, x), s, 2.0)
    assert got["distillation_loss"] == pytest.approx(expected, rel=1e-3)
    before = teacher.get_weights()
    history = distiller.fit(x, y, epochs=10, verbose=0, callbacks=[Schedule()]).history
    assert history["distillation_loss"][-1] < 0.7 * got["distillation_loss"]
    for a, b in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def _wrong():
    base = _model(name="base")
    other = _model(width=5)
    view = keras.Model(base.input, base.get_layer("scores").output)
    a = keras.Input((6,))
    single = keras.Model(a, LAYERS.Dense(1)(a))
    b = keras.Input((6,))
    single_student = keras.Model(b, LAYERS.Dense(1)(b))
    unbuilt = keras.Sequential([LAYERS.Dense(CLASSES)])
    return {
        "same": ((base, base), {}, "same model"),
        "shared": ((base, view), {}, "share 4 variables"),
        "unbuilt": ((unbuilt, base), {}, "teacher .* is not built"),
        "no_model": ((base, "student"), {}, "student must be a Keras 3 model"),
        "outputs": ((base, single), {}, "outputs of the same shapes"),
        "single": ((single, single_student), {}, "single number"),
        "temperature": ((base, other), {"temperature": 0}, "temperature must be above 0"),
        "share": ((base, other), {"student_loss_weight": 1.5}, r"in 0\.\.1"),
        "nothing": ((base, other), {"student_loss_weight": 1}, "nothing would be distilled"),
        "no_loss": ((base, other), {"loss": None}, "nothing to distill"),
        "loss": ((base, other), {"loss": "msee"}, "loss that Keras knows"),
        "layer": ((base, other), {"features": ["hiden"]}, "Did you mean 'hidden'"),
        "student_layer": (
            (base, other),
            {"features": [("hidden", "relu")]},
            "student .* no layer 'relu'",
        ),
        "shapes": ((base, other), {"features": ["hidden"]}, r"\(None, 8\).*\(None, 5\)"),
        "pair": ((base, other), {"features": [("a", "b", "c")]}, "pair"),
        "weights": ((base, other), {"feature_weight": [1.0]}, "feature_weight"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "same", "shared", "unbuilt", "no_model", "outputs", "single", "temperature", "share",
        "nothing", "no_loss", "loss", "layer", "student_layer", "shapes", "pair", "weights",
    ],
)  # fmt: skip
def test_errors_name_the_way_out(case):
    models, options, message = _wrong()[case]
    with pytest.raises(UsageError, match=message) as caught:
        distill(*models, **options)
    assert str(caught.value).count(". ") <= 3


def test_labels_are_asked_for():
    x, _ = _data()
    distiller = distill(_model(), _model())
    with pytest.raises(UsageError, match="no loss for the labels"):
        distiller.compile("sgd")
    distiller.compile("sgd", loss="mse")
    with pytest.raises(UsageError, match="no labels"):
        distiller.fit(x, verbose=0)
