"""Phases over epochs, freezing, and the warning about broken ranges."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tfq.errors import UsageError
from tfq.keras import quantizers
from tfq.keras.schedule import Schedule

sys.path.insert(0, str(Path(__file__).parent / "quantizers"))
from two_layers import compiled, digits, network

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("schedule", "phases"),
    [
        (Schedule(), "ttttttttff"),
        (Schedule(observe=2, freeze=5), "ootttfffff"),
        (Schedule(observe=0.3, freeze=0.7), "oootttt"[:7] + "fff"),
        (Schedule(observe=1, freeze=None), "o" + "t" * 9),
        (Schedule(observe=3, freeze=3), "ooofffffff"),
    ],
)
def test_phases_of_ten_epochs(schedule, phases):
    assert "".join(schedule.phase_of(e, 10)[0] for e in range(10)) == phases


@pytest.mark.parametrize(
    ("schedule", "epochs", "phases"),
    [
        (Schedule(), 1, "t"),
        (Schedule(), 2, "tf"),
        (Schedule(), 3, "ttf"),
        (Schedule(freeze=0.1), 4, "tfff"),
        (Schedule(freeze=0.0), 2, "ff"),
        (Schedule(freeze=1.0), 2, "tt"),
        (Schedule(observe=0.9, freeze=0.9), 3, "oof"),
    ],
)
def test_shares_of_few_epochs(schedule, epochs, phases):
    assert "".join(schedule.phase_of(e, epochs)[0] for e in range(epochs)) == phases


def test_freezing_before_observing_ends_is_refused_in_fit():
    x, y = digits()
    model = compiled(network())
    with pytest.raises(UsageError, match="first 5 observe, but ranges freeze after 3"):
        model.fit(x[:8], y[:8], epochs=6, verbose=0, callbacks=[Schedule(observe=5, freeze=0.5)])


class Watch(keras.callbacks.Callback):
    """What every epoch ended with."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        norm = self.model.get_layer("norm")
        entry = self.model.get_layer("entry")
        self.seen.append(
            (int(entry.phase.value), int(norm.frozen.value), norm.moving_mean.numpy(), entry.grid())
        )


@pytest.mark.parametrize("nested", [False, True])
def test_fit_goes_through_the_phases(nested):
    keras.utils.set_random_seed(0)
    x, y = digits()
    model = inner = network()
    if nested:
        inputs = keras.Input((64,))
        model = keras.Model(inputs, inner(inputs))
    watch = Watch()
    watch_inner = watch
    compiled(model)

    class Inner(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            watch_inner.set_model(inner)
            watch_inner.on_epoch_end(epoch)

    model.fit(
        x[:256], y[:256], batch_size=32, epochs=4, verbose=0,
        callbacks=[Schedule(observe=1, freeze=0.5), Inner()],
    )  # fmt: skip
    assert [s[:2] for s in watch.seen] == [(0, 0), (1, 0), (2, 1), (2, 1)]
    means = [s[2] for s in watch.seen]
    assert np.abs(means[1] - means[0]).max() > 0
    np.testing.assert_array_equal(means[1], means[3])
    assert watch.seen[1][3] == watch.seen[3][3]


def test_batch_norm_may_go_on():
    x, y = digits()
    model = compiled(network())
    model.fit(
        x[:64], y[:64], epochs=2, verbose=0, callbacks=[Schedule(freeze=0, freeze_batch_norm=False)]
    )
    assert int(model.get_layer("norm").frozen.value) == 0


def test_a_broken_range_is_one_warning():
    x, y = digits()
    model = compiled(network("lsq", norm=False))
    layer = next(q for q in model.layers if isinstance(q, quantizers.LSQ))
    layer.initialize(0.0, 1.0)
    layer.relative_scale.assign(-1.0)
    with pytest.warns(UserWarning, match=r"After epoch 1 .*drove to zero.*learning rate") as caught:
        model.fit(x[:64], y[:64], epochs=3, verbose=0, callbacks=[Schedule()])
    assert len(caught) == 1
    assert layer.name in str(caught[0].message)


def test_check_ranges_names_the_layers():
    model = network()
    assert quantizers.check_ranges(model)[0] == "entry has seen no data"
    model.get_layer("entry").initialize(0.0, 0.0)
    assert "entry has a range of zero: all values it sees are 0" in quantizers.check_ranges(model)
    first = model.get_layer("first")
    first.kernel.assign(first.kernel.value * np.nan)
    assert "first/kernel holds NaN or infinite values" in quantizers.check_ranges(model)


@pytest.mark.parametrize(
    "arguments",
    [{"observe": -1}, {"observe": 1.5}, {"freeze": "late"}, {"observe": 3, "freeze": 2},
     {"observe": 0.9}, {"observe": None}, {"freeze": True}],
)  # fmt: skip
def test_wrong_arguments(arguments):
    with pytest.raises(UsageError, match="Received"):
        Schedule(**arguments)


def test_a_model_without_quantizers_is_refused():
    model = compiled(keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)]))
    x, y = digits()
    with pytest.raises(UsageError, match="found no quantizer"):
        model.fit(x[:64], y[:64], verbose=0, callbacks=[Schedule()])


def test_unknown_phase():
    with pytest.raises(UsageError, match="Did you mean 'freeze'"):
        quantizers.set_phase(network(), "frozen")
