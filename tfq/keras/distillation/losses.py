"""What teacher and student are compared by: logits at a temperature, or any Keras loss."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

Key = str | int


class PairLoss(keras.distillation.DistillationLoss):
    """A loss between one tensor of the teacher and one of the student.

    Attributes:
      teacher_key, student_key: which tensors: the name of an operation of the model, whose output
        it is, or a number, an index into the model's flattened outputs.
    """

    def __init__(self, teacher_key: Key = 0, student_key: Key = 0):
        self.teacher_key = teacher_key
        self.student_key = student_key

    def get_config(self) -> dict[str, Any]:
        return {"teacher_key": self.teacher_key, "student_key": self.student_key}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PairLoss:
        return cls(**config)


@keras.saving.register_keras_serializable(package="tfq")
class LogitsDistillation(PairLoss):
    """T^2 * KL(softmax(t / T), softmax(s / T)), averaged over all axes but the classes', the last.

    Hinton, Vinyals and Dean 2015; T^2 keeps the gradients' size when T changes.

    Args:
      teacher_key, student_key: see `PairLoss`.
      temperature: T, above 0.
      teacher_probabilities, student_probabilities: the tensor holds probabilities p, whose logits
        are log(p) up to a constant that softmax cancels.
    """

    def __init__(
        self,
        teacher_key: Key = 0,
        student_key: Key = 0,
        temperature: float = 3.0,
        teacher_probabilities: bool = False,
        student_probabilities: bool = False,
    ):
        super().__init__(teacher_key, student_key)
        self.temperature = temperature
        self.teacher_probabilities = teacher_probabilities
        self.student_probabilities = student_probabilities

    def _log_softmax(self, x: Any, probabilities: bool) -> Any:
        x = ops.cast(x, "float32")
        if probabilities:
            x = ops.log(ops.maximum(x, float(np.finfo(np.float32).tiny)))
        return ops.log_softmax(x / self.temperature, axis=-1)

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        log_t = self._log_softmax(teacher_outputs, self.teacher_probabilities)
        log_s = self._log_softmax(student_outputs, self.student_probabilities)
        divergence = ops.sum(ops.exp(log_t) * (log_t - log_s), axis=-1)
        return self.temperature**2 * ops.mean(divergence)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "teacher_probabilities": self.teacher_probabilities,
            "student_probabilities": self.student_probabilities,
        }


@keras.saving.register_keras_serializable(package="tfq")
class FeatureDistillation(PairLoss):
    """The mean of a Keras loss between two tensors of one shape, in float32.

    Args:
      teacher_key, student_key: see `PairLoss`.
      loss: a Keras loss, by name, function or object; of an object, its values before reduction.
    """

    def __init__(self, teacher_key: Key = 0, student_key: Key = 0, loss: Any = "mse"):
        super().__init__(teacher_key, student_key)
        self.loss = keras.losses.get(loss)

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        function = self.loss.call if isinstance(self.loss, keras.losses.Loss) else self.loss
        t, s = (ops.cast(x, "float32") for x in (teacher_outputs, student_outputs))
        return ops.mean(function(t, s))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "loss": keras.losses.serialize(self.loss)}
