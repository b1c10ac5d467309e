"""A model's graph as distillation reads it: its operations, and where its logits are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from tfq.keras.distillation.losses import Key

_RESHAPING = (keras.layers.Reshape, keras.layers.Flatten)


def is_visible(model: keras.Model) -> bool:
    """Whether the model has a graph of layers: Functional or Sequential, not subclassed."""
    return isinstance(model, keras.Sequential) or hasattr(model, "operations")


def operations(model: keras.Model) -> Sequence[Any]:
    """The layers and raw operations of a visible model, those of nested models left out."""
    return model.layers if isinstance(model, keras.Sequential) else model.operations


@dataclasses.dataclass(frozen=True)
class Scores:
    """One output of a model, as a classifier's scores.

    Attributes:
      kind: "logits", "softmax" or "sigmoid": what the tensor `key` holds.
      key: of the tensor, as in `PairLoss`.
      axis: of the softmax; -1 for the others.
    """

    kind: str
    key: Key
    axis: int = -1


def _activation(op: Any) -> tuple[str, int] | None:
    """The kind of scores that the operation makes, and the classes' axis."""
    name = type(op).__name__
    if name == "Softmax":  # The layer, and the operation of keras.ops.
        return "softmax", op.axis if isinstance(op.axis, int) else -1
    function = getattr(op, "activation", None)
    if function is keras.activations.softmax:
        return "softmax", -1
    if name == "Sigmoid" or function is keras.activations.sigmoid:
        return "sigmoid", -1
    return None


def _is_only_activation(op: Any) -> bool:
    """The operation is its activation and nothing else, so that its input holds the logits."""
    return isinstance(op, keras.layers.Activation) or type(op).__name__ == "Softmax"


def _passes(op: Any) -> bool:
    """The operation leaves scores as they are."""
    if isinstance(op, keras.layers.Activation):
        return op.activation is keras.activations.linear
    # tfq's activation quantizers are known by their grid.
    quantizes = callable(getattr(op, "grid", None))
    return quantizes or isinstance(op, keras.layers.Identity | keras.layers.Dropout)


def is_called_once(op: Any) -> bool:
    """The operation has one output tensor, which its name can stand for."""
    return len(op._inbound_nodes) == 1 and not isinstance(op.output, list | tuple | dict)


def find_scores(model: keras.Model, index: int) -> Scores:
    """What flattened output `index` of a visible model is, and where its logits are.

    Quantizers, dropout, linear activations and reshapes after the softmax are seen through. The
    logits are named where a softmax of its own follows them; a softmax inside a Dense layer, in a
    nested model or before a reshape leaves the output itself, as probabilities.
    """
    tensor: Any = model.outputs[index]
    reachable = True
    while True:
        op = tensor._keras_history.operation
        if isinstance(op, keras.Model) and is_visible(op):
            tensor = op.outputs[tensor._keras_history.tensor_index]
            reachable = False
        elif isinstance(op, _RESHAPING):
            tensor = op.input
            reachable = False
        elif _passes(op):
            tensor = op.input
        else:
            break
    found = _activation(op)
    if found is None:
        return Scores("logits", index)
    kind, axis = found
    axis = -1 if axis == len(tensor.shape) - 1 else axis
    if kind == "softmax" and reachable and _is_only_activation(op):
        source = op.input._keras_history.operation
        if is_called_once(source) and not isinstance(source, keras.layers.InputLayer):
            return Scores("logits", source.name, axis)
    return Scores(kind, index, axis)
