"""The mean-and-deviation quantizer of weights.

    scale = (|mu| + k sigma) / q

with the mean mu and the standard deviation sigma of each channel's weights. k is the bound, in
deviations, at which normally distributed weights have the least squared rounding error on 2q + 1
levels (Max 1960, "Quantizing for minimum distortion").
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfq.keras.quantizers.arithmetic import count, floored, sums
from tfq.keras.quantizers.base import Tensor, WeightQuantizer, number

DEVIATIONS = {2: 1.224, 3: 1.952, 4: 2.474, 5: 2.899, 6: 3.270, 7: 3.607, 8: 3.921}


@keras.saving.register_keras_serializable(package="tfq")
class MeanDeviation(WeightQuantizer):
    """scale = (|mu| + k sigma) / q. Weights further out are clipped; they keep their gradient.

    Args:
      bits, per_channel, simulation_only: as in `WeightQuantizer`.
      deviations: k; None for the best one for normally distributed weights.

    Raises:
      UsageError: another width, or k not above 0.
    """

    def __init__(
        self,
        bits: int | None = None,
        per_channel: bool = True,
        simulation_only: bool = False,
        deviations: float | None = None,
        **kwargs: Any,
    ):
        if deviations is not None:
            deviations = number("deviations", deviations, lambda v: v > 0, "a number above 0")
        super().__init__(bits, per_channel, simulation_only, **kwargs)
        self.deviations = deviations

    def find_scale(self, w: Tensor) -> Tensor:
        n = max(count(w, self.per_channel), 1.0)
        mean = sums(w, self.per_channel) / n
        squares = sums(tf.square(tf.cast(w, tf.float64)), self.per_channel) / n
        deviation = tf.sqrt(tf.maximum(squares - tf.square(mean), 0.0))
        k = DEVIATIONS[self.bits] if self.deviations is None else self.deviations
        return floored((tf.abs(mean) + k * deviation) / self.top)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "deviations": self.deviations}
