"""`keras.distillation.Distiller`, with what does not suit quantization-aware training mended.

As of Keras 3.15 that class and its losses

- compare raw logits where the loss is given by its name "kl_divergence" (the default), and apply a
  second softmax to models that end in one;
- run the student twice a step where layers are compared, the second time in training mode even in
  `evaluate`, which moves batch statistics and observed ranges;
- leave the caller's teacher frozen;
- ignore sample weights and the student's regularization losses, and count the teacher's loss once
  for each replica under `tf.distribute`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops, tree

from tfq.errors import UsageError
from tfq.keras.distillation.graph import operations
from tfq.keras.distillation.losses import Key, PairLoss

# What `call` hangs on the predictions, so that one run of the student serves both losses.
_TAPS = "_tfq_distillation_taps"


def _restore_trainable(model: keras.Model) -> Callable[[], None]:
    """A function that sets every `trainable` flag back to what it is now."""
    layers = [(layer, layer.trainable) for layer in model._flatten_layers()]
    variables = [(v, v.trainable) for v in model.variables]

    def restore() -> None:
        # Outer layers come first: their setter sets all that is inside.
        for thing, flag in [*layers, *variables]:
            thing.trainable = flag

    return restore


def _tap(model: keras.Model, keys: Sequence[Key]) -> keras.Model | None:
    """A model over the same layers that returns the outputs and the named operations' outputs."""
    names = {k for k in keys if isinstance(k, str)}
    if not names:
        return None
    taps = {op.name: op.output for op in operations(model) if op.name in names}
    single = isinstance(model, keras.Sequential)
    inputs, outputs = (model.inputs[0], model.outputs[0]) if single else (model.input, model.output)
    return keras.Model(inputs, {"outputs": outputs, "taps": taps}, name=f"{model.name}_taps")


@keras.saving.register_keras_serializable(package="tfq")
class Distiller(keras.distillation.Distiller):
    """Trains `student` on labels and on `teacher`; made by `tfq.keras.distill`.

    Args: those of `keras.distillation.Distiller`; the losses are `PairLoss` objects.
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        distillation_losses: Sequence[PairLoss],
        distillation_loss_weights: Sequence[float] | None = None,
        student_loss_weight: float = 0.5,
        name: str = "distiller",
        **kwargs: Any,
    ):
        # Inputs reach both models as `fit` was given them: each casts by its own policy.
        kwargs = {"dtype": student.dtype_policy, "autocast": False, **kwargs}
        restore = _restore_trainable(teacher)
        try:
            super().__init__(
                teacher,
                student,
                list(distillation_losses),
                distillation_loss_weights,
                student_loss_weight,
                name,
                **kwargs,
            )
        finally:
            restore()
        self._teacher_taps = _tap(teacher, [d.teacher_key for d in self.distillation_losses])
        self._student_taps = _tap(student, [d.student_key for d in self.distillation_losses])
        self.built = True

    def _validate_dtype_compatibility(self, teacher: keras.Model, student: keras.Model) -> None:
        """Any: losses are computed in float32, so that a float32 model can teach a float16 one."""

    # The teacher keeps its own flags, so what is trained is told here.

    @property
    def trainable_variables(self) -> list[Any]:
        return self.student.trainable_variables if self.trainable else []

    @property
    def trainable_weights(self) -> list[Any]:
        return self.student.trainable_weights if self.trainable else []

    @property
    def non_trainable_variables(self) -> list[Any]:
        trained = {id(v) for v in self.trainable_variables}
        return [v for v in self.variables if id(v) not in trained]

    @property
    def non_trainable_weights(self) -> list[Any]:
        trained = {id(v) for v in self.trainable_weights}
        return [v for v in self.weights if id(v) not in trained]

    def compile(
        self, optimizer: Any = "adam", loss: Any = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        """As `keras.Model.compile`; `loss` is the student's, on labels.

        Raises:
          UsageError: there is no `loss`, and the student's loss has a weight.
        """
        if loss is None and self.student_loss_weight > 0:
            raise UsageError(
                "Distillation has no loss for the labels. Pass loss=... to compile, or "
                "student_loss_weight=0 to distill, which learns from the teacher alone."
            )
        keras.Model.compile(self, optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded distiller; Keras asks for it beside a `compile` of one's own."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def call(self, inputs: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """The student's predictions."""
        if self._student_taps is None:
            return self.student(inputs, training=training, **kwargs)
        found = self._student_taps(inputs, training=training, **kwargs)
        setattr(tree.flatten(found["outputs"])[0], _TAPS, found["taps"])
        return found["outputs"]

    def _student_values(self, x: Any, y_pred: Any, training: bool) -> list[Any]:
        outputs = tree.flatten(y_pred)
        taps: dict[str, Any] = getattr(outputs[0], _TAPS, {})
        if not taps and self._student_taps is not None:
            # The predictions come from elsewhere, such as a loop of the user's own.
            taps = self._student_taps(x, training=training)["taps"]
        keys = [d.student_key for d in self.distillation_losses]
        return [taps[k] if isinstance(k, str) else outputs[k] for k in keys]

    def _teacher_values(self, x: Any) -> list[Any]:
        keys = [d.teacher_key for d in self.distillation_losses]
        if self._teacher_taps is None:
            found = {"outputs": self.teacher(x, training=False), "taps": {}}
        else:
            found = self._teacher_taps(x, training=False)
        outputs, taps = tree.flatten(found["outputs"]), found["taps"]
        return [ops.stop_gradient(taps[k] if isinstance(k, str) else outputs[k]) for k in keys]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """w * student's loss, regularization included, + (1 - w) * weighted sum of the teacher's.

        Sample weights count in the student's loss; the teacher's is a plain mean over the batch.

        Raises:
          UsageError: labels are missing, or what is compared has different shapes.
        """
        if y_pred is None:
            y_pred = self(x, training=training)
        # Keras divides losses by the number of replicas, whose gradients it adds up.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        own = distilled = ops.zeros(())
        if self.student_loss_weight > 0:
            if y is None:
                raise UsageError(
                    "Distillation has no labels. Pass y to fit, or student_loss_weight=0 to "
                    "distill, which learns from the teacher alone."
                )
            total = keras.Model.compute_loss(self, x, y, y_pred, sample_weight, training)
            own = ops.cast(total, "float32")
        if self.student_loss_weight < 1:
            t, s = self._teacher_values(x), self._student_values(x, y_pred, training)
            for i, loss in enumerate(self.distillation_losses):
                if len(t[i].shape) != len(s[i].shape) or t[i].shape[-1] != s[i].shape[-1]:
                    raise UsageError(
                        "Distillation compares tensors of one shape. Received: teacher's "
                        f"{tuple(t[i].shape)}, student's {tuple(s[i].shape)}."
                    )
                weight = self.distillation_loss_weights[i] / replicas
                distilled += weight * ops.cast(loss.compute_loss(t[i], s[i]), "float32")
        w = self.student_loss_weight
        total = w * own + (1 - w) * distilled
        self.student_loss_tracker.update_state(own * replicas)
        self.distillation_loss_tracker.update_state(distilled * replicas)
        self.total_loss_tracker.update_state(total * replicas)
        return total
