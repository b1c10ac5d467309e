"""Trained models that a conversion cannot finish: what it says."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812

import tfq
from tfq.errors import UsageError

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
