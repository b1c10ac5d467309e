"""The kernels of a tf_keras model, for pruning and clustering of its own variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfq.errors import UsageError
from tfq.keras.legacy.backend import wrapper
from tfq.keras.pruning.kernels import Kernel, check_rules, choices_for

_NAMES = ("kernel", "recurrent_kernel", "pointwise_kernel", "depthwise_kernel", "embeddings")


class Variable:
    """A TensorFlow variable that reads as a Keras 3 one, which `Kernel` expects."""

    def __init__(self, variable: Any) -> None:
        self.variable = variable
        self.shape = tuple(variable.shape)

    @property
    def value(self) -> Any:
        return self.variable.read_value()

    def assign(self, value: Any) -> None:
        self.variable.assign(value)


def select(
    model: Any, rules: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> list[tuple[Kernel, dict[str, Any]]]:
    """The kernels to work on, each with what the rules say of it.

    Depthwise kernels and embeddings are taken only where a rule names them.

    Raises:
      UsageError: the model is not built or has no kernel, or the rules are wrong.
    """
    if not model.built:
        raise UsageError(
            f"The model {model.name!r} is not built, so it has no weights yet. Call "
            f"model.build(input_shape), or give its first layer an input shape."
        )
    check_rules(rules, keys)
    kernels = find_kernels(model)
    found = choices_for([k.name for k in kernels], rules, "layers with a kernel")
    chosen = [(k, c) for k, c in zip(kernels, found, strict=True) if k.default or c]
    if not chosen:
        raise UsageError(
            f"The model {model.name!r} has no kernel to work on (convolutions, dense and recurrent "
            f"layers have; depthwise ones only where a rule names them)."
        )
    return chosen


def find_kernels(model: Any) -> list[Kernel]:
    """The kernels of all layers, also inside nested models and quantization wrappers."""
    kernels: list[Kernel] = []
    seen: set[int] = set()
    for layer in model._flatten_layers(include_self=False, recursive=True):
        owner = layer.layer if isinstance(layer, wrapper.QuantizeWrapper) else layer
        # A wrapper takes the kernel out of its layer whenever it is called, and holds it itself.
        for variable in layer._trainable_weights + layer._non_trainable_weights:
            name = variable.name.split("/")[-1].split(":")[0]
            if name in _NAMES and id(variable) not in seen and len(variable.shape) > 1:
                seen.add(id(variable))
                kernels.append(_kernel(owner, variable, name))
    return kernels


def values(variable: Any) -> np.ndarray:
    return np.asarray(variable.value, np.float32)


def _kernel(layer: Any, variable: Any, name: str) -> Kernel:
    rank = len(variable.shape)
    axes = tuple(range(rank))
    shown = layer.name if name in ("kernel", "embeddings") else f"{layer.name}/{name}"
    if type(layer).__name__.endswith("Cell"):  # Users know the recurrent layer, not its cell.
        owners = [p for p in variable.name.split("/")[:-1] if p != layer.name]
        shown = "/".join([*owners[-1:], shown])
    if name == "depthwise_kernel":
        return Kernel(shown, layer, Variable(variable), False, axes, 0, rank - 2)
    if type(layer).__name__.endswith("Transpose"):  # [window, out, in]
        axes = (*axes[:-2], axes[-1], axes[-2])
    return Kernel(shown, layer, Variable(variable), name != "embeddings", axes, rank - 2, 1)
