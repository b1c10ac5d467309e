"""Trained models that a conversion cannot finish: what it says."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from small_models import cnn, plan_of

import tfq
from tfq.convert.refusals import refused
from tfq.errors import UsageError
from tfq.keras import quantizers

pytestmark = pytest.mark.slow


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((6,), name="x")
    y = L.Dense(5, activation="relu", name="first")(x)
    return keras.Model(x, L.Dense(3, name="second")(y))


X = np.random.default_rng(0).normal(0, 1, (16, 6)).astype(np.float32)


def test_another_scheme_than_the_trained_one() -> None:
    trained = tfq.keras.quantize(model(), "int16x8", data=X)
    with pytest.raises(UsageError, match="Convert with --scheme=int16x8"):
        tfq.convert_model(trained)
    result = tfq.convert_model(trained, scheme="int16x8")
    assert result.summary["model"]["full_integer"]


def test_a_layer_that_was_left_out_needs_samples() -> None:
    rules = [{"regex": "first", "weights": None, "activations": None}]
    trained = tfq.keras.quantize(model(), rules=rules, data=X)
    with pytest.raises(UsageError, match=r"Training gave no range to 1 tensors of .*'first'"):
        tfq.convert_model(trained)
    result = tfq.convert_model(trained, X)
    assert result.summary["model"]["full_integer"]


def test_a_quantizer_that_has_seen_nothing() -> None:
    with pytest.raises(tfq.ModelError, match="without a range"):
        tfq.convert_model(tfq.keras.quantize(model()))


def test_a_proof_without_samples_is_within_the_trained_range() -> None:
    trained = tfq.keras.quantize(model(), data=X * 100)
    proof = tfq.convert_model(trained).summary["proof"]
    assert not proof["collapsed"]
    assert proof["outputs"][0]["sqnr_db"] > 25


def test_a_collapsed_range() -> None:
    trained = tfq.keras.quantize(model(), data=X)
    quantizer = next(
        q for _, q in quantizers.quantizers_of(trained) if isinstance(q, quantizers.MovingAverage)
    )
    quantizer.initialize(0.0, 0.0)
    with pytest.raises(tfq.ModelError, match=r"collapsed the range of .*all values it saw are 0"):
        tfq.convert_model(trained)


def test_a_learned_step_that_collapsed() -> None:
    trained = tfq.keras.quantize(model(), weights="lsq", data=X)
    step = next(
        q for _, q in quantizers.quantizers_of(trained) if isinstance(q, quantizers.LSQWeights)
    )
    step.relative_scale.assign([1.0, 1.0, -1.0, 1.0, 1.0])
    with pytest.raises(tfq.ModelError, match=r"first.* without a range.* in 1 of 5 channels"):
        tfq.convert_model(trained)


def test_values_that_pact_cuts_off() -> None:
    x = keras.Input((6,), name="x")
    y = quantizers.PACT(name="bound")(x)
    trained = keras.Model(x, L.Dense(3)(y))
    trained(X, training=True)
    assert "bound has negative values" in quantizers.check_ranges(trained)[0]
    with pytest.raises(tfq.ModelError, match="'bound' without a range"):
        tfq.convert_model(trained)


def mixed() -> keras.Model:
    x = keras.Input((6,), name="x")
    y = quantizers.Fixed(0.05, name="entry")(x)
    y = L.Dense(5, name="first")(y)
    y = quantizers.Fixed(0.001, bits=16, name="wide")(y)
    y = L.Dense(3, name="second")(y)
    return keras.Model(x, quantizers.Fixed(0.1, name="exit")(y))


def test_two_widths_of_activations() -> None:
    with pytest.raises(UsageError, match=r"int16 to 1 tensor\(s\), at '(first|wide)"):
        tfq.convert_model(mixed())
    rules = [tfq.LayerRule(regex="first|wide", activations="int16")]
    result = tfq.convert_model(mixed(), rules=rules)
    assert result.summary["model"]["full_integer"]


def test_activations_of_four_bits() -> None:
    x = keras.Input((6,), name="x")
    four = L.Lambda(lambda v: tf.quantization.fake_quant_with_min_max_args(v, -1, 1, 4), name="f")
    y = L.Dense(3)(four(x))
    with pytest.raises(UsageError, match="to int4, but kernels take activations of 8 or 16"):
        tfq.convert_model(keras.Model(x, y))


def test_an_op_that_litert_refuses_is_named() -> None:
    planned = plan_of(cnn())
    model = planned.emit().model
    at = [op.key for op in model.main.ops].index("point")
    message = f"(xnnpack kernels) refuses the model: not true.Node number {at} (CONV_2D) failed."
    said = refused(message, planned.plan, model.main)
    assert "That is the op that computes 'point'. The narrowest range is that of" in said
    assert said.endswith("Nothing was written.")
