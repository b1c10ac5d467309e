"""The phases and the health of all quantizers of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tfq.errors import unknown_option
from tfq.keras.quantizers.base import PHASES, Quantizer, value_of


def quantizers_of(model: Any) -> Iterator[tuple[Any, Quantizer]]:
    """The quantizers in a model, nested ones too, each with the layer that directly holds it."""
    seen: set[int] = set()
    for owner in model._flatten_layers(include_self=True, recursive=True):
        for layer in owner._flatten_layers(include_self=False, recursive=False):
            if isinstance(layer, Quantizer) and id(layer) not in seen:
                seen.add(id(layer))
                yield owner, layer
    if isinstance(model, Quantizer) and id(model) not in seen:
        yield model, model


def set_phase(model: Any, phase: str) -> None:
    """Sets the phase of every quantizer in a model; takes effect in traced steps too.

    Args:
      model: a quantized model, or any layer.
      phase: "observe" (values pass unquantized while ranges are learnt), "train" (quantized, the
        ranges move) or "freeze" (quantized, the ranges stay).

    Raises:
      UsageError: no such phase.
    """
    if phase not in PHASES:
        raise unknown_option("phase", phase, PHASES)
    for _, quantizer in quantizers_of(model):
        quantizer.set_phase(PHASES[phase])


def check_ranges(model: Any) -> list[str]:
    """What is wrong with the ranges and weights that training arrived at.

    Args:
      model: a quantized model.

    Returns:
      One line for each quantizer whose range is zero, NaN, infinite or missing, and for each
      layer whose weights are not finite; mostly none.
    """
    found = []
    for owner, quantizer in quantizers_of(model):
        where = quantizer.name
        if owner is not model and owner is not quantizer:
            where = f"{owner.name}/{where}"
        found += [f"{where} {problem}" for problem in quantizer.problems()]
    for layer in model._flatten_layers(include_self=True, recursive=True):
        if isinstance(layer, Quantizer):
            continue
        for variable in [*layer._trainable_variables, *layer._non_trainable_variables]:
            value = value_of(variable)
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                found.append(f"{layer.name}/{variable.name} holds NaN or infinite values")
    return found
