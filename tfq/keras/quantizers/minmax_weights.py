"""Weight scales from the largest magnitude, or a fixed share of it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfq.calibrate.weight_rules import weight_scales
from tfq.keras.quantizers.arithmetic import floored, largest
from tfq.keras.quantizers.base import Tensor, WeightQuantizer


@keras.saving.register_keras_serializable(package="tfq")
class MinMaxWeights(WeightQuantizer):
    """scale = max |w| / q of the weights as they are at every step: nothing is clipped."""

    def find_scale(self, w: Tensor) -> Tensor:
        return floored(largest(w, self.per_channel) / self.top)


@keras.saving.register_keras_serializable(package="tfq")
class MSEWeights(WeightQuantizer):
    """scale = fraction * max |w| / q, with the fractions of the least squared rounding error.

    The fractions are searched once, by `initialize`, and kept, so that scales follow the weights
    through training. Without it they are 1, as in min/max. Clipped weights keep their gradient.
    """

    def build(self, shape: Any) -> None:
        self.fraction = self.state("fraction", 1.0, (self.channels(shape),))
        self.built = True

    def initialize(self, w: np.ndarray) -> None:
        super().initialize(w)
        axis = w.ndim - 1 if self.per_channel else None
        full = weight_scales(w, axis=axis, bits=self.bits)
        self.fraction.assign(weight_scales(w, axis=axis, bits=self.bits, rule="mse") / full)

    def find_scale(self, w: Tensor) -> Tensor:
        share = tf.cast(tf.convert_to_tensor(self.fraction), tf.float64)
        return floored(share * largest(w, self.per_channel) / self.top)
