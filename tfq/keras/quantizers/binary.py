"""Binary weights (Rastegari et al. 2016, "XNOR-Net", arXiv 1603.05279).

w -> mean |w| * sign(w), with sign(0) = 1: the least squared error of two values -s and s
dL/dw = g where |w| <= 1, else 0
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import tensorflow as tf

from tfq.keras.quantizers.arithmetic import count, floored, sums
from tfq.keras.quantizers.base import Tensor, WeightQuantizer, straight_through


@keras.saving.register_keras_serializable(package="tfq")
class Binary(WeightQuantizer):
    """Weights -s and s per channel. There is no zero: pruned weights do not stay pruned.

    No stock kernel computes with one bit; in the file they are the 2-bit integers -1 and 1.
    """

    widths: ClassVar[tuple[int, ...]] = (2,)

    def find_scale(self, w: Tensor) -> Tensor:
        return floored(sums(tf.abs(w), self.per_channel) / max(count(w, self.per_channel), 1.0))

    def levels(self, w: Tensor, scale: Any) -> Tensor:
        return tf.where(w >= 0, tf.ones_like(w), -tf.ones_like(w))

    def fake_quantize(self, w: Tensor) -> tuple[Tensor, Tensor]:
        still = tf.stop_gradient(w)
        scale = self.find_scale(still)
        inside = tf.clip_by_value(w, -1.0, 1.0)  # Brings the gradient's bound.
        return straight_through(inside, self.levels(still, scale) * scale), scale
