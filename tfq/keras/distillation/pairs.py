"""Which tensors of teacher and student are compared, by which loss, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from tfq.errors import UsageError, nearest
from tfq.keras.distillation.graph import find_scores, is_called_once, is_visible, operations
from tfq.keras.distillation.losses import FeatureDistillation, LogitsDistillation, PairLoss


def are_alike(a: Sequence[Sequence[int | None]], b: Sequence[Sequence[int | None]]) -> bool:
    """Shapes agree; an unknown dimension agrees with any."""
    if len(a) != len(b) or any(len(s) != len(t) for s, t in zip(a, b, strict=True)):
        return False
    pairs = ((i, j) for s, t in zip(a, b, strict=True) for i, j in zip(s, t, strict=True))
    return all(i is None or j is None or i == j for i, j in pairs)


def _keras_loss(argument: str, loss: str | Callable[..., Any]) -> Any:
    try:
        return keras.losses.get(loss)
    except ValueError as error:
        raise UsageError(
            f"{argument} must be a loss that Keras knows, as 'mse'. Received: {loss!r}."
        ) from error


def output_losses(
    teacher: keras.Model,
    student: keras.Model,
    loss: str | Callable[..., Any],
    temperature: float,
    from_logits: bool | None,
) -> list[PairLoss]:
    """One loss for each output of the models."""
    function = _keras_loss("loss", loss)
    count = len(getattr(teacher, "outputs", None) or getattr(student, "outputs", None) or [0])
    kl = isinstance(function, keras.losses.KLDivergence)
    if not kl and function is not keras.losses.get("kl_divergence"):
        return [FeatureDistillation(i, i, function) for i in range(count)]
    losses: list[PairLoss] = []
    for i in range(count):
        (t, t_is), (s, s_is) = (_logits(m, i, from_logits) for m in (teacher, student))
        losses.append(LogitsDistillation(t, s, float(temperature), t_is, s_is))
    return losses


def _logits(model: keras.Model, index: int, from_logits: bool | None) -> tuple[str | int, bool]:
    """The tensor to compare, and whether it holds probabilities."""
    outputs = getattr(model, "outputs", None)
    if outputs and outputs[index].shape[-1] == 1:
        raise UsageError(
            f"Output {index} of {model.name!r} is a single number, and loss='kl_divergence' "
            "compares classes. Pass loss='mse', or 'binary_crossentropy' for probabilities."
        )
    if from_logits is not None:
        return index, not from_logits
    if not is_visible(model):
        raise UsageError(
            f"The layers of {model.name!r} cannot be seen, because it is subclassed. Pass "
            "from_logits=True if its outputs are logits, False if they are probabilities."
        )
    scores = find_scores(model, index)
    if scores.kind == "sigmoid" or scores.axis != -1:
        what = "a sigmoid" if scores.kind == "sigmoid" else f"a softmax over axis {scores.axis}"
        raise UsageError(
            f"Output {index} of {model.name!r} ends in {what}, and loss='kl_divergence' compares "
            "classes along the last axis. Pass loss='binary_crossentropy' or 'mse'."
        )
    return scores.key, scores.kind == "softmax"


def feature_losses(
    teacher: keras.Model,
    student: keras.Model,
    features: Sequence[str | tuple[str, str]],
    loss: str | Callable[..., Any],
) -> list[PairLoss]:
    """One loss for each pair of layers."""
    function = _keras_loss("feature_loss", loss)
    return [FeatureDistillation(*_feature_keys(teacher, student, f), function) for f in features]


def _feature_keys(
    teacher: keras.Model, student: keras.Model, pair: str | tuple[str, str]
) -> tuple[str, str]:
    """The names of a pair's layers, both there and of one shape."""
    names = (pair, pair) if isinstance(pair, str) else tuple(pair)
    if len(names) != 2 or not all(isinstance(n, str) for n in names):
        raise UsageError(
            "A feature is a layer's name, or a pair (teacher's layer, student's layer) of names. "
            f"Received: {pair!r}."
        )
    t, s = (
        _layer(role, model, name)
        for role, model, name in zip(("teacher", "student"), (teacher, student), names, strict=True)
    )
    shapes = tuple(t.output.shape), tuple(s.output.shape)
    if not are_alike(*([shape] for shape in shapes)):
        raise UsageError(
            f"Features of different shapes cannot be compared: {names[0]!r} of the teacher gives "
            f"{shapes[0]}, {names[1]!r} of the student {shapes[1]}. Name layers of one shape."
        )
    return names[0], names[1]


def _layer(role: str, model: keras.Model, name: str) -> Any:
    """The layer whose output a feature is."""
    if not is_visible(model):
        raise UsageError(
            f"The layers of the {role} {model.name!r} cannot be named, because it is subclassed. "
            "Leave features out, or make it a Functional model."
        )
    by_name = {op.name: op for op in operations(model)}
    if name not in by_name:
        raise UsageError(
            f"The {role} {model.name!r} has no layer {name!r}.{nearest(name, by_name)} Layers "
            "inside nested models cannot be named."
        )
    if not is_called_once(by_name[name]):
        raise UsageError(
            f"Layer {name!r} of the {role} has several outputs, or is called several times, so its "
            "name stands for no single tensor. Name a layer behind it."
        )
    return by_name[name]
