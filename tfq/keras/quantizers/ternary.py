"""Ternary weights (Li, Zhang, Liu 2016, "Ternary weight networks", arXiv 1605.04711).

threshold d = 0.7 mean |w|;  w -> scale * sign(w) where |w| > d, else 0
scale = mean of |w| over the weights with |w| > d
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import tensorflow as tf

from tfq.keras.quantizers.arithmetic import count, floored, sums
from tfq.keras.quantizers.base import Tensor, WeightQuantizer


@keras.saving.register_keras_serializable(package="tfq")
class Ternary(WeightQuantizer):
    """Weights -s, 0 and s per channel; 2 bits in the file. Gradients pass straight through."""

    widths: ClassVar[tuple[int, ...]] = (2,)

    def _magnitude(self, w: Tensor) -> Tensor:
        """|w| where it is above the threshold, else 0."""
        size = tf.abs(w)
        mean = sums(size, self.per_channel) / max(count(w, self.per_channel), 1.0)
        return tf.where(size > tf.cast(0.7 * mean, tf.float32), size, tf.zeros_like(size))

    def find_scale(self, w: Tensor) -> Tensor:
        kept = self._magnitude(w)
        number = sums(tf.cast(kept > 0, tf.float32), self.per_channel)
        return floored(sums(kept, self.per_channel) / tf.maximum(number, 1.0))

    def levels(self, w: Tensor, scale: Any) -> Tensor:
        return tf.sign(w) * tf.cast(self._magnitude(w) > 0, tf.float32)
