"""Knowledge distillation: the float model teaches its quantized copy.

The student learns the labels and the teacher's answers at once (Hinton, Vinyals and Dean 2015):

    w * student_loss(y, s) + (1 - w) * (T^2 * KL(softmax(t / T), softmax(s / T)) + v * features)

with t and s the logits of teacher and student. The features' part is the sum over pairs of layers
of a Keras loss between their outputs (FitNets, Romero et al. 2015). A step costs a forward run of
the teacher more than the student's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from tfq.errors import UsageError
from tfq.keras.distillation.distiller import Distiller
from tfq.keras.distillation.losses import PairLoss
from tfq.keras.distillation.pairs import are_alike, feature_losses, output_losses

__all__ = ["Distiller", "distill"]


def distill(
    teacher: keras.Model,
    student: keras.Model,
    *,
    temperature: float = 3.0,
    student_loss_weight: float = 0.5,
    loss: str | Callable[..., Any] | None = "kl_divergence",
    features: Sequence[str | tuple[str, str]] = (),
    feature_loss: str | Callable[..., Any] = "mse",
    feature_weight: float | Sequence[float] = 1.0,
    from_logits: bool | None = None,
    name: str = "distiller",
) -> Distiller:
    """A `keras.distillation.Distiller` that trains `student` on labels and on `teacher`.

    Compile and fit it as any Keras model; the student is trained in place:

        student = tfq.keras.quantize(model, scheme="w4a8", data=x)
        distiller = tfq.keras.distill(model, student)
        distiller.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        distiller.fit(x, y, epochs=5)
        result = tfq.convert_model(student)

    The teacher runs in inference mode; neither its weights nor its `trainable` flags change.

    Args:
      teacher: a built model, such as the float model that the student was quantized from.
      student: a built model of the same inputs and outputs, with weights of its own.
      temperature: T above 0; the higher, the more the teacher's small probabilities count.
      student_loss_weight: w in 0..1, the share of the labels' loss; 0 learns from the teacher alone
        and needs no labels.
      loss: between the models' outputs. "kl_divergence" compares them as logits at the temperature,
        classes along the last axis; of models that end in softmax it takes the logits before it.
        Any other Keras loss compares outputs as they are, without a temperature ("mse" for
        regression, "binary_crossentropy" for sigmoid). None compares `features` only.
      features: pairs (teacher's layer, student's layer) of names, whose outputs have one shape; one
        name stands for both.
      feature_loss: a Keras loss, by name or object, for all pairs.
      feature_weight: v, of the pairs' losses beside that of the outputs: for all, or one for each.
      from_logits: whether the models' outputs are logits (True) or probabilities (False), for
        "kl_divergence". None reads it from the models' layers, which a subclassed model hides.
      name: of the distiller.

    Returns:
      A `keras.distillation.Distiller`, not compiled; its `student` is the model given.

    Raises:
      UsageError: a model is not built, both are one or share weights, shapes differ, a layer is not
        there, or an option is out of range.
    """
    _check_models(teacher, student)
    _check_numbers(temperature, student_loss_weight)
    features = list(features)
    losses: list[PairLoss] = []
    if loss is not None:
        losses += output_losses(teacher, student, loss, temperature, from_logits)
    weights = [1.0] * len(losses) + _feature_weights(feature_weight, len(features))
    losses += feature_losses(teacher, student, features, feature_loss)
    if not losses:
        raise UsageError(
            "There is nothing to distill: loss is None, and no features are named. Leave loss out, "
            "or pass features=[('teacher_layer', 'student_layer')]."
        )
    try:
        return Distiller(teacher, student, losses, weights, student_loss_weight, name)
    except ValueError as error:
        raise UsageError(f"Keras cannot distill these models. {error}") from error


def _check_models(teacher: keras.Model, student: keras.Model) -> None:
    for role, model in (("teacher", teacher), ("student", student)):
        if not isinstance(model, keras.Model):
            raise UsageError(
                f"The {role} must be a Keras 3 model. Received: {type(model).__module__}."
                f"{type(model).__name__}."
            )
        if not model.built:
            raise UsageError(
                f"The {role} {model.name!r} is not built, so it has no weights. Give it an "
                "Input layer, or call it on data once."
            )
    if teacher is student:
        raise UsageError(
            "Teacher and student are the same model. Make the student with tfq.keras.quantize, "
            "which copies the weights."
        )
    shared = {id(v): v for v in teacher.variables}.keys() & {id(v) for v in student.variables}
    if shared:
        first = next(v for v in teacher.variables if id(v) in shared)
        raise UsageError(
            f"Teacher and student share {len(shared)} variables (the first: {first.path!r}), so "
            "training would change both. Make the student with tfq.keras.quantize or "
            "keras.models.clone_model."
        )
    for what in ("inputs", "outputs"):
        shapes = [
            [tuple(t.shape) for t in getattr(m, what, None) or ()] for m in (teacher, student)
        ]
        if all(shapes) and not are_alike(*shapes):
            raise UsageError(
                f"Teacher and student must have {what} of the same shapes. Received: teacher's "
                f"{shapes[0]}, student's {shapes[1]}."
            )


def _check_numbers(temperature: float, student_loss_weight: float) -> None:
    if not temperature > 0:
        raise UsageError(f"temperature must be above 0. Received: {temperature!r}.")
    if not 0 <= student_loss_weight <= 1:
        raise UsageError(
            "student_loss_weight is a share and must lie in 0..1. Received: "
            f"{student_loss_weight!r}."
        )
    if student_loss_weight == 1:
        raise UsageError(
            "student_loss_weight=1 leaves the teacher no share, so nothing would be distilled. "
            "Pass less, or fit the student by itself."
        )


def _feature_weights(weight: float | Sequence[float], count: int) -> list[float]:
    weights = list(weight) if isinstance(weight, Sequence) else [weight] * count
    if len(weights) != count or any(w < 0 for w in weights):
        raise UsageError(
            f"feature_weight must be a number of at least 0, or one for each of the {count} "
            f"features. Received: {weight!r}."
        )
    return [float(w) for w in weights]
