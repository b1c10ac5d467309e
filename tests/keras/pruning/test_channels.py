"""Removing channels: the smaller model computes what the given one does without them."""

import keras
import numpy as np
import pytest
from small_nets import L, draw, nested, residual, scrambled, sequential, tower

from tfq.errors import ModelError, UsageError
from tfq.keras.pruning import channel_groups, prune, remove_channels

pytestmark = pytest.mark.slow


def outputs(model: keras.Model, x) -> list[np.ndarray]:
    return [np.asarray(v) for v in keras.tree.flatten(model(x, training=False))]


@pytest.mark.parametrize("build", [residual, sequential, nested, tower])
@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.9])
def test_the_smaller_model_equals_the_one_with_channels_of_zero(build, fraction: float) -> None:
    model = scrambled(build())
    x = draw(model)
    pruning = prune(model, fraction, "channels")
    pruning.begin()
    expected = outputs(model, x)
    assert max(np.abs(v).max() for v in expected) > 1e-3
    for smaller in (remove_channels(model, None), remove_channels(model, fraction)):
        assert smaller.count_params() < model.count_params()
        for a, b in zip(outputs(smaller, x), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("criterion", ["l2", "l1", "bn_gamma"])
def test_weights_that_stay_are_copied_and_the_given_model_is_unchanged(criterion: str) -> None:
    model = scrambled(tower())
    before = [w.numpy() for w in model.weights]
    smaller = remove_channels(model, 0.5, criterion=criterion)
    for w, b in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(w.numpy(), b)
    kernel, small = (m.get_layer("conv0").kernel.numpy() for m in (model, smaller))
    norm = model.get_layer("norm0")
    score = {
        "l2": np.sqrt((kernel**2).sum((0, 1, 2))),
        "l1": np.abs(kernel).sum((0, 1, 2)),
        "bn_gamma": np.abs(norm.gamma.numpy()),
    }[criterion]
    stay = np.sort(np.argsort(score)[4:])
    np.testing.assert_array_equal(small, kernel[..., stay])
    moved = smaller.get_layer("norm0").moving_mean.numpy()
    np.testing.assert_array_equal(moved, norm.moving_mean.numpy()[stay])
    assert not {id(w) for w in model.weights} & {id(w) for w in smaller.weights}
    assert [v.name for v in smaller.layers] == [v.name for v in model.layers]


def test_groups_say_what_goes_together_and_what_stays() -> None:
    groups = {g.layers: g for g in channel_groups(residual())}
    assert groups[("stem", "branch")].removable == 16
    assert next(g for n, g in groups.items() if "excite" in n).channels == 20
    assert groups[("scores",)].removable == 0
    assert "output" in groups[("scores",)].reason
    (line,) = [g for g in channel_groups(sequential()) if g.layers == ("line",)]
    assert line.removable == 5


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: L.LayerNormalization(name="x"), "x (LayerNormalization)"),
        (lambda: L.Permute((3, 2, 1), name="x"), "x (Permute)"),
        (lambda: L.Reshape((4, 36, 2), name="x"), "splits channels up"),
        (lambda: L.Conv2D(4, 1, groups=2, name="x"), "has groups"),
        (lambda: L.Softmax(name="x"), "x (Softmax)"),
        (lambda: L.Activation("softmax", name="x"), "softmax over all channels"),
        (lambda: L.BatchNormalization(axis=1, name="x"), "another axis"),
        (lambda: L.Rescaling(np.arange(8.0), name="x"), "by a constant"),
        (lambda: L.Lambda(lambda v: v * 2, name="x"), "x (Lambda)"),
    ],
)
def test_channels_that_cannot_be_followed_stay(layer, reason: str) -> None:
    i = keras.Input((8, 8, 3))
    x = L.Conv2D(8, 3, name="before")(i)
    x = L.Flatten()(layer()(x))
    model = scrambled(keras.Model(i, L.Dense(2)(L.Dense(6, name="after")(x))))
    groups = {g.layers[0]: g for g in channel_groups(model)}
    assert groups["before"].removable == 0
    assert reason in groups["before"].reason
    smaller = remove_channels(model, 0.5)
    assert smaller.get_layer("before").filters == 8
    assert smaller.get_layer("after").units == 3
    with pytest.raises(UsageError, match="before"):
        remove_channels(model, 0.5, rules=[{"regex": "before", "fraction": 0.5}])


def test_rules_choose_layers_and_leave_others_alone() -> None:
    model = scrambled(tower())
    smaller = remove_channels(model, 0.0, rules=[{"regex": "conv1", "fraction": 0.75}])
    assert smaller.get_layer("conv0").filters == 8
    assert smaller.get_layer("conv1").filters == 4
    assert smaller.get_layer("hidden").units == 20


def test_a_layer_keeps_one_channel() -> None:
    smaller = remove_channels(tower(), 0.99)
    assert smaller.get_layer("conv0").filters == 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: remove_channels(tower(), 1.0), "fraction=1.0"),
        (lambda: remove_channels(tower(), 0.5, criterion="l3"), "criterion 'l3'"),
        (lambda: remove_channels(tower(), None), "No channel of 'tower' is zero"),
        (
            lambda: remove_channels(tower(), rules=[{"regex": "nowhere", "fraction": 0.1}]),
            "nowhere",
        ),
        (lambda: remove_channels(tower(), rules=[{"regex": "conv", "share": 0.1}]), "share"),
        (
            lambda: remove_channels(residual(), rules=[{"regex": "stem", "fraction": 0.1}]),
            "stem .0.1., branch .0.5. are tied",
        ),
        (
            lambda: prune(residual(), 0.5, "channels", rules=[{"regex": "stem", "pattern": "2:4"}]),
            "are tied",
        ),
        (lambda: remove_channels(keras.Sequential([L.Dense(3)])), "input shape is known"),
        (
            lambda: remove_channels(keras.Sequential([keras.Input((3,)), L.Dense(3)])),
            "an output of the model",
        ),
    ],
)
def test_what_cannot_be_done_is_said(call, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call()


def test_a_layer_that_cannot_be_made_again_is_named() -> None:
    class Odd(L.Layer):
        def __init__(self, function):
            super().__init__(name="odd")
            self.function = function

        def call(self, x):
            return self.function(x)

    i = keras.Input((4,))
    model = keras.Model(i, L.Dense(2)(L.Dense(6)(Odd(keras.ops.relu)(i))))
    with pytest.raises(ModelError, match=r"'odd' .Odd. cannot be made again"):
        remove_channels(model)
