"""Knowledge distillation of tf_keras models: a float teacher, a quantized student.

    w * loss(y, s) + (1 - w) * T^2 * KL(softmax(t / T) || softmax(s / T))

with t, s the logits of teacher and student (Hinton, Vinyals and Dean 2015). Of probabilities the
logarithm stands for the logits: it differs from them by a constant, which softmax ignores.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfq.errors import UsageError
from tfq.keras.legacy.backend import tf_keras


def distill(
    teacher: Any,
    student: Any,
    *,
    temperature: float = 3.0,
    student_loss_weight: float = 0.5,
    loss: Any = "kl_divergence",
    from_logits: bool | None = None,
    name: str = "distiller",
    **others: Any,
) -> Distiller:
    """A tf_keras model that trains `student` on labels and on `teacher`; compile and fit it.

    Args:
      teacher: a built model with one output; run in inference mode, never changed.
      student: a built model of the same output, such as `tfq.keras.quantize` makes; it is
        trained in place.
      temperature: above 0.
      student_loss_weight: the share of the labels' loss, from 0 up to, not including, 1.
      loss: "kl_divergence", or "mse" between the outputs as they are.
      from_logits: whether outputs are logits (True) or probabilities (False); None reads it from
        the last layer's activation.
      name: of the distiller.
      **others: options of Keras 3's distillation, which are refused.

    Raises:
      UsageError: an option is out of range or not for tf_keras models, or the models do not fit.
    """
    if others:
        raise UsageError(
            f"{', '.join(sorted(others))}: features of tf_keras models are not distilled, only "
            f"outputs. Leave it out, or build both models with Keras 3."
        )
    if loss not in ("kl_divergence", "mse"):
        raise UsageError(
            f"The loss between the outputs of tf_keras models is 'kl_divergence' or 'mse'. "
            f"Received: {loss!r}."
        )
    if not temperature > 0:
        raise UsageError(f"temperature must be above 0. Received: {temperature!r}.")
    if not 0 <= student_loss_weight < 1:
        raise UsageError(
            f"student_loss_weight is a share from 0 up to, not including, 1. "
            f"Received: {student_loss_weight!r}."
        )
    for role, model in (("teacher", teacher), ("student", student)):
        if not isinstance(model, tf_keras.Model) or not model.built:
            raise UsageError(
                f"Teacher and student are both built tf_keras models. Received as {role}: "
                f"{type(model).__module__}.{type(model).__name__}."
            )
    if teacher is student or {id(v) for v in teacher.variables} & {
        id(v) for v in student.variables
    }:
        raise UsageError(
            "Teacher and student share weights, so training would change both. Make the student "
            "with tfq.keras.quantize or tf_keras.models.clone_model."
        )
    if teacher.output_shape != student.output_shape:
        raise UsageError(
            f"Teacher and student must have outputs of the same shapes. Received: "
            f"{teacher.output_shape} and {student.output_shape}."
        )
    if from_logits is None:
        from_logits = not _ends_in_softmax(teacher)
    return Distiller(teacher, student, temperature, student_loss_weight, loss, from_logits, name)


def _ends_in_softmax(model: Any) -> bool:
    layer = model.layers[-1]
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    return activation == "softmax" or type(layer).__name__ == "Softmax"


class Distiller(tf_keras.Model):
    """Made by `distill`. Called, it is the student; `student` is the model given."""

    def __init__(
        self,
        teacher: Any,
        student: Any,
        temperature: float,
        student_loss_weight: float,
        outputs_loss: str,
        from_logits: bool,
        name: str,
    ) -> None:
        super().__init__(name=name)
        self.student = student
        # Where Keras does not find it: its weights are not the distiller's.
        self._teacher = _Hidden(teacher)
        self.temperature = temperature
        self.student_loss_weight = student_loss_weight
        self.outputs_loss = outputs_loss
        self.from_logits = from_logits
        # Keras reports the labels' loss alone under this name, unless a later metric has it.
        self._total = tf_keras.metrics.Mean(name="loss")
        self.built = True

    def call(self, inputs: Any, training: Any = None) -> Any:
        return self.student(inputs, training=training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None
    ) -> Any:
        share = self.student_loss_weight
        total = (1 - share) * self._difference(self._teacher.model(x, training=False), y_pred)
        if share:
            total += share * super().compute_loss(x, y, y_pred, sample_weight)
        self._total.update_state(total)
        return total

    def _difference(self, teacher: Any, student: Any) -> Any:
        teacher, student = tf.cast(teacher, tf.float32), tf.cast(student, tf.float32)
        if self.outputs_loss == "mse":
            return tf.reduce_mean(tf.square(teacher - student))
        if not self.from_logits:
            teacher, student = (tf.math.log(tf.maximum(v, 1e-7)) for v in (teacher, student))
        t = tf.nn.log_softmax(teacher / self.temperature)
        s = tf.nn.log_softmax(student / self.temperature)
        kl = tf.reduce_sum(tf.exp(t) * (t - s), axis=-1)
        return self.temperature**2 * tf.reduce_mean(kl)


class _Hidden:
    """Keeps a model from being tracked as a part of the model that refers to it."""

    def __init__(self, model: Any) -> None:
        self.model = model
