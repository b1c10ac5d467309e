"""Quantizers by name."""

from __future__ import annotations

from typing import Any

import keras

from tfq.errors import TfqError, UsageError, unknown_option
from tfq.keras.quantizers.base import ActivationQuantizer, WeightQuantizer
from tfq.keras.quantizers.binary import Binary
from tfq.keras.quantizers.lsq import LSQ, LSQWeights
from tfq.keras.quantizers.mean_deviation import MeanDeviation
from tfq.keras.quantizers.minmax_weights import MinMaxWeights, MSEWeights
from tfq.keras.quantizers.observers import MSE, MinMax, MovingAverage, Percentile
from tfq.keras.quantizers.pact import PACT
from tfq.keras.quantizers.ternary import Ternary

ACTIVATION_QUANTIZERS: dict[str, type[ActivationQuantizer]] = {
    "lsq": LSQ,
    "minmax": MinMax,
    "moving_average": MovingAverage,
    "mse": MSE,
    "pact": PACT,
    "percentile": Percentile,
}

WEIGHT_QUANTIZERS: dict[str, type[WeightQuantizer]] = {
    "binary": Binary,
    "lsq": LSQWeights,
    "mean_deviation": MeanDeviation,
    "minmax": MinMaxWeights,
    "mse": MSEWeights,
    "ternary": Ternary,
}


def get_activation_quantizer(identifier: Any, bits: int = 8) -> ActivationQuantizer:
    """The quantizer of activations that `identifier` names.

    Args:
      identifier: a name, a quantizer, or its config as Keras serializes it.
      bits: for a name.

    Raises:
      UsageError: no such quantizer.
    """
    return _get(identifier, bits, ACTIVATION_QUANTIZERS, ActivationQuantizer, "activations")


def get_weight_quantizer(identifier: Any, bits: int = 8) -> WeightQuantizer:
    """The quantizer of weights that `identifier` names.

    Args:
      identifier: a name, a quantizer, or its config as Keras serializes it.
      bits: for a name; "ternary" and "binary" have their own width.

    Raises:
      UsageError: no such quantizer.
    """
    return _get(identifier, bits, WEIGHT_QUANTIZERS, WeightQuantizer, "weights")


def _get(identifier: Any, bits: int, names: Any, base: type, what: str) -> Any:
    if isinstance(identifier, base):
        return identifier
    if isinstance(identifier, str):
        if identifier not in names:
            raise unknown_option(f"quantizer of {what}", identifier, sorted(names))
        cls = names[identifier]
        return cls() if cls in (Ternary, Binary) else cls(bits=bits)
    if isinstance(identifier, dict):
        try:
            made = keras.saving.deserialize_keras_object(identifier)
        except Exception as error:
            said: BaseException | None = error
            while said is not None and not isinstance(said, TfqError):
                said = said.__cause__ or said.__context__  # Keras wraps what a constructor raises.
            if said is not None:
                raise said from None
            raise UsageError(
                f"This config describes no quantizer of {what}: {error}. Received: {identifier!r}."
            ) from error
        if isinstance(made, base):
            return made
        raise UsageError(f"This config describes no quantizer of {what}. Received: {identifier!r}.")
    raise UsageError(
        f"A quantizer of {what} is a name ({', '.join(sorted(names))}), an object, or its config. "
        f"Received: {identifier!r}."
    )
