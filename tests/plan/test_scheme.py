"""What a user may ask for."""

import json

import pytest

from tfq.calibrate.rules import get_rule
from tfq.errors import UsageError
from tfq.plan.scheme import SCHEMES, Config, LayerRule, get_scheme


@pytest.mark.parametrize("name", SCHEMES)
def test_schemes_by_name(name):
    scheme = get_scheme(name)
    assert scheme.name == name
    assert get_scheme(scheme) is scheme


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_type": "unit8"}, "Unknown input_type 'unit8'.*Did you mean 'uint8'"),
        ({"output_type": "flaot32"}, "Unknown output_type.*Did you mean 'float32'"),
        ({"weights": "mnmax"}, "Unknown weights rule.*Did you mean 'minmax'"),
        ({"granularity": "channel"}, "Unknown granularity.*Did you mean 'per_channel'"),
        ({"dense_granularity": "per_tenser"}, "dense granularity.*Did you mean 'per_tensor'"),
        ({"weight_bits": 3}, "8, 4 or 2 bits.*Received: weight_bits=3"),
        ({"weight_bits": 6}, "integers of other widths"),
        ({"weight_bits": 1}, "One-bit weights come from training"),
        ({"weight_bits": "4"}, "Received: weight_bits='4'"),
        ({"weight_bits": True}, "Received: weight_bits=True"),
        ({"input_range": (1.0, -1.0)}, "lo <= 0 <= hi. Received: 1.0,-1.0"),
        ({"input_range": (0.5, 1.0)}, "lo <= 0 <= hi. Received: 0.5,1.0"),
        ({"input_range": (0.0, 0.0)}, "lo <= 0 <= hi"),
        ({"input_range": (-1.0, float("inf"))}, "Received: -1.0,inf"),
    ],
)
def test_wrong_values_name_the_nearest_right_one(options, message):
    with pytest.raises(UsageError, match=message):
        Config(**options)


def test_unknown_scheme_and_activations():
    with pytest.raises(UsageError, match="Did you mean 'int16x8'"):
        get_scheme("int16x")
    with pytest.raises(UsageError, match="Did you mean 'int16'"):
        LayerRule(regex="x", activations="int61")
    with pytest.raises(UsageError, match="Did you mean 'per_tensor'"):
        LayerRule(regex="x", granularity="per_tensr")
    with pytest.raises(UsageError, match=r"'\(' is not a regular expression"):
        LayerRule(regex="(")


@pytest.mark.parametrize("scheme", ["dynamic", "weight_only", "float16", "float32"])
def test_integer_inputs_need_an_integer_scheme(scheme):
    with pytest.raises(UsageError, match="needs an integer scheme"):
        Config(scheme=get_scheme(scheme), input_type="int8")
    with pytest.raises(UsageError, match="input_range needs an integer scheme"):
        Config(scheme=get_scheme(scheme), input_range=(-1.0, 1.0))
    assert Config(scheme=get_scheme(scheme), input_type="float32").input_type == "float32"


def test_the_first_rule_that_matches_decides():
    config = Config(
        rules=(
            LayerRule(regex="conv_1$", activations="int16"),
            LayerRule(regex="conv", granularity="per_tensor"),
        )
    )
    assert config.rule_for("block/conv_1", "activations").activations == "int16"
    assert config.rule_for("block/conv_10", "granularity").granularity == "per_tensor"
    assert config.rule_for("dense", "granularity") is None


def test_a_config_is_plain_data():
    config = Config(
        calibration=get_rule("percentile:99.9"),
        input_range=(-1.0, 1.0),
        allow_float=("FLOOR",),
        rules=(LayerRule(regex="a"),),
    )
    body = json.loads(json.dumps(config.as_dict()))
    assert body["scheme"] == "int8"
    assert body["input_range"] == [-1.0, 1.0]
    assert body["rules"][0]["regex"] == "a"
    assert body["calibration"] == json.loads(json.dumps(config.calibration.get_config()))


def test_the_granularity_of_a_layer():
    rules = (LayerRule(regex="head", granularity="per_channel"), LayerRule(regex="a"))
    config = Config(dense_granularity="per_tensor", rules=rules)
    assert config.granularity_of("CONV_2D", "b") == "per_channel"
    assert config.granularity_of("FULLY_CONNECTED", "b") == "per_tensor"
    assert config.granularity_of("FULLY_CONNECTED", "a") == "per_tensor"
    assert config.granularity_of("FULLY_CONNECTED", "head") == "per_channel"


def test_integer_rules_need_an_integer_scheme():
    rule = LayerRule(regex="conv", activations="int16")
    with pytest.raises(
        UsageError, match="'conv' is to be computed in integers, but scheme=dynamic"
    ):
        Config(scheme=get_scheme("dynamic"), rules=(rule,))
    with pytest.raises(UsageError, match="equalization=cross_layer needs an integer scheme"):
        Config(scheme=get_scheme("float16"), equalization="cross_layer")
    with pytest.raises(UsageError, match=r"Unknown equalization.*Did you mean 'cross_layer'"):
        Config(equalization="cross-layer")


@pytest.mark.parametrize("scheme", ["float16", "float32"])
def test_narrow_weights_need_integer_weights(scheme):
    with pytest.raises(UsageError, match="weight_bits=4 needs a scheme with integer weights"):
        Config(scheme=get_scheme(scheme), weight_bits=4)
    with pytest.raises(UsageError, match="weight_bits=2 needs"):
        Config(scheme=get_scheme(scheme), rules=(LayerRule(regex="a", weight_bits=2),))
    assert Config(scheme=get_scheme(scheme)).weight_bits == 8


def test_each_choice_is_that_of_the_first_rule_that_makes_it():
    rules = (
        LayerRule(regex="conv", weight_bits=4),
        LayerRule(regex="conv_1", activations="int16", weight_bits=8),
    )
    config = Config(weight_bits=2, rules=rules)
    assert [config.weight_bits_of(n) for n in ("conv_1", "conv_2", "dense")] == [4, 4, 2]
    assert config.rule_for("conv_1", "activations").activations == "int16"
    with pytest.raises(UsageError, match="8, 4 or 2 bits"):
        LayerRule(regex="a", weight_bits=5)
