"""Quantizers by name, by config, as objects."""

import keras
import pytest

from tfq.calibrate.rules import get_rule
from tfq.errors import UsageError
from tfq.keras import quantizers

pytestmark = pytest.mark.slow


def test_names():
    for name, cls in quantizers.ACTIVATION_QUANTIZERS.items():
        made = quantizers.get_activation_quantizer(name, bits=16)
        assert type(made) is cls
        assert made.bits == 16
        get_rule(made.range_rule)
    for name, cls in quantizers.WEIGHT_QUANTIZERS.items():
        made = quantizers.get_weight_quantizer(name, bits=4)
        assert type(made) is cls
        assert made.bits == (2 if name in ("ternary", "binary") else 4)


@pytest.mark.parametrize(
    "made",
    [
        quantizers.MovingAverage(16, momentum=0.9, name="a"),
        quantizers.Percentile(percentile=99.9),
        quantizers.PACT(decay=0.1),
        quantizers.Fixed(1 / 128, 3),
        quantizers.LSQ(),
        quantizers.LSQWeights(4, per_channel=False),
        quantizers.MinMaxWeights(5, simulation_only=True),
        quantizers.MeanDeviation(2, deviations=1.5),
        quantizers.Binary(),
    ],
)
def test_objects_and_configs(made):
    get = (
        quantizers.get_weight_quantizer
        if isinstance(made, quantizers.WeightQuantizer)
        else quantizers.get_activation_quantizer
    )
    assert get(made) is made
    again = get(keras.saving.serialize_keras_object(made))
    assert type(again) is type(made)
    assert again.get_config() == made.get_config()


def test_the_percentile_is_in_the_rule():
    assert quantizers.Percentile(percentile=99.9).range_rule == "percentile:99.9"
    assert get_rule(quantizers.Percentile(percentile=99.999).range_rule).percent == 99.999


@pytest.mark.parametrize(
    "identifier", ["moving_avrage", 3, {"class_name": "Nothing"}, quantizers.Binary()]
)
def test_what_is_no_quantizer(identifier):
    with pytest.raises(UsageError, match=r"Did you mean 'moving_average'|Received"):
        quantizers.get_activation_quantizer(identifier)


@pytest.mark.parametrize("cls", [quantizers.MovingAverage, quantizers.LSQWeights])
def test_an_unknown_option_is_named(cls):
    with pytest.raises(UsageError, match=r"'bit'.* bits.*Did you mean 'bits'"):
        cls(bit=4)
    config = keras.saving.serialize_keras_object(cls())
    config["config"]["momentun"] = 0.5
    weights = cls is quantizers.LSQWeights
    get = quantizers.get_weight_quantizer if weights else quantizers.get_activation_quantizer
    with pytest.raises(UsageError, match=rf"^Unknown option of the quantizer {cls.__name__} 'mom"):
        get(config)
