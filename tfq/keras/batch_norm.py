"""BatchNormalization whose statistics can be frozen while training goes on."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfq.errors import UsageError


@keras.saving.register_keras_serializable(package="tfq")
class FreezableBatchNormalization(keras.layers.BatchNormalization):
    """Keras's BatchNormalization with a switch, `frozen`, for training steps.

    Conversion folds the moving statistics into the weights before it. Normalizing with the batch's
    own until the end trains weights for another scale than the one that ships: late in training the
    statistics are frozen, and training steps normalize with the moving ones, as inference does;
    gamma and beta still learn. `frozen` is a variable (the last of the layer's), not a Python
    attribute, so that it acts in steps that are already traced.

    Args and variables, but for `frozen`, are those of `keras.layers.BatchNormalization`.

    Raises:
      UsageError: renorm=True, whose correction depends on the batch.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.renorm:
            raise UsageError(
                f"The layer {self.name!r} is a BatchNormalization with renorm=True, which cannot "
                "be trained with quantizers. Make it with renorm=False."
            )

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.frozen = self.add_weight(
            name="frozen",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )

    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        # Keras lets every replica of a strategy keep its own statistics and saves the first's.
        # What all of them freeze, and what ships, is one: the mean.
        if str(kwargs.get("name")).startswith("moving_"):
            kwargs.setdefault("aggregation", "mean")
        return super().add_weight(*args, **kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training or not self.trainable:
            return super().call(inputs, training=False, mask=mask)
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        x = ops.cast(inputs, dtype if dtype == "float64" else "float32")
        frozen = tf.greater(self.frozen, 0)
        mean, variance = self._moments(x, mask)
        statistics = []
        for batch, variable in ((mean, self.moving_mean), (variance, self.moving_variance)):
            moving = ops.cast(variable, x.dtype)
            mixed = moving * self.momentum + batch * (1.0 - self.momentum)
            # To the bit the same while frozen.
            variable.assign(tf.where(frozen, moving, mixed))
            statistics.append(tf.where(frozen, moving, batch))
        y = ops.batch_normalization(
            x,
            *statistics,
            axis=self.axis,
            offset=ops.cast(self.beta, x.dtype) if self.center else None,
            scale=ops.cast(self.gamma, x.dtype) if self.scale else None,
            epsilon=self.epsilon,
        )
        return ops.cast(y, self.compute_dtype)


def freeze_batch_norm(model: Any, frozen: bool = True) -> None:
    """Freezes (or releases) the statistics of every `FreezableBatchNormalization` in a model."""
    for layer in model._flatten_layers(include_self=True, recursive=True):
        if isinstance(layer, FreezableBatchNormalization) and layer.built:
            layer.frozen.assign(int(frozen))
