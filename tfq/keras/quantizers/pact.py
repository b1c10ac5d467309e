"""PACT: the clipping bound of an activation is trained (Choi et al. 2018, "PACT: parameterized
clipping activation for quantized neural networks", arXiv 1805.06085).

    y = quantize(clip(x, 0, alpha)),  dy / dalpha = 1 where x >= alpha, else 0

TensorFlow's fake quantization has exactly this gradient for the upper end of its range.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfq.errors import UsageError
from tfq.keras.quantizers.arithmetic import ends, fused, fused_gradients, grid_of_range
from tfq.keras.quantizers.base import ActivationQuantizer, Tensor, number, value_of

_LEAST_ALPHA = 1e-6


@keras.saving.register_keras_serializable(package="tfq")
class PACT(ActivationQuantizer):
    """The range [0, alpha], alpha trained. For values that a ReLU made.

    Without data the first training batch's largest value is alpha. Negative values would be
    clipped to 0: data that holds them is refused, and if the first batch holds them,
    `check_ranges` says so and the model does not convert.

    Args:
      bits: 8 or 16.
      decay: of alpha: adds decay * alpha^2 to the loss, so that outliers are cut unless they pay.

    Raises:
      UsageError: another width, a negative decay.
    """

    def __init__(self, bits: int = 8, decay: float = 0.0, **kwargs: Any):
        decay = number("decay", decay, lambda v: v >= 0, "a number that is not negative")
        super().__init__(bits, **kwargs)
        self.decay = decay
        regularizer = keras.regularizers.L2(decay) if decay else None
        self.alpha = self.state("alpha", 6.0, trainable=True, regularizer=regularizer)
        self.frozen_alpha = self.state("frozen_alpha", 6.0)
        self.clipped = self.state("clipped", 0, dtype="int32")

    def trained(self) -> list[tuple[Any, Any]]:
        return [(self.alpha, self.frozen_alpha)]

    def set_range(self, lo: float, hi: float) -> None:
        if lo < 0:
            raise UsageError(
                f"The quantizer {self.name!r} is a PACT, which clips at 0, but its tensor has "
                "negative values. Use PACT after ReLU only, and 'lsq' or 'moving_average' "
                f"elsewhere. Received: a range from {lo:g} to {hi:g}."
            )
        for variable in (self.alpha, self.frozen_alpha):
            variable.assign(max(hi, _LEAST_ALPHA))
        self.clipped.assign(0)

    def usable(self) -> Tensor:
        return (
            super().usable()
            & tf.equal(self.clipped, 0)
            & tf.greater(self._bound(), 1.01 * _LEAST_ALPHA)
        )

    def _bound(self) -> Tensor:
        alpha = tf.where(self.frozen, self.frozen_alpha, tf.convert_to_tensor(self.alpha))
        return tf.maximum(alpha, _LEAST_ALPHA)

    def scale_and_zero_point(self) -> tuple[Tensor, Tensor]:
        alpha = self._bound()
        return grid_of_range(tf.zeros_like(alpha), alpha, self.bits)

    def train_call(self, x: Tensor) -> Tensor:
        alpha, known = self._known_alpha(tf.stop_gradient(x))
        skip, bits = self.observing | tf.logical_not(known), self.bits

        @tf.custom_gradient
        def quantize(x: Tensor, alpha: Tensor) -> Any:
            # int16 is symmetric; the lower half stays unused.
            lo = -alpha * (32768 / 32767) if bits == 16 else tf.zeros_like(alpha)

            def gradients(g: Tensor) -> tuple[Tensor, Tensor]:
                inside, _, above = fused_gradients(g, x, lo, alpha, bits)
                return inside, above

            def gradient(g: Tensor) -> Any:
                return tf.cond(skip, lambda: (g, tf.zeros_like(alpha)), lambda: gradients(g))

            return fused(x, lo, alpha, skip, bits), gradient

        return quantize(x, alpha)

    def _known_alpha(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha, with its gradient, in the first batch the largest value; whether it is known."""
        known, alpha = tf.greater(self.seen, 0), self._bound()
        fits = tf.logical_not(known)
        low, top = tf.cond(
            fits,
            lambda: (tf.reduce_min(x), tf.reduce_max(x)),
            lambda: (tf.zeros_like(alpha), tf.stop_gradient(alpha)),
        )
        use = fits & tf.math.is_finite(top)
        alpha = tf.where(use, tf.maximum(top, _LEAST_ALPHA), alpha)
        for variable in (self.alpha, self.frozen_alpha):
            variable.assign(tf.where(use, tf.stop_gradient(alpha), tf.convert_to_tensor(variable)))
        # Half a step below the grid still rounds to it. int16, symmetric, reaches down to -alpha.
        step, zero = grid_of_range(tf.zeros_like(low), tf.stop_gradient(alpha), self.bits)
        cuts = tf.cast(low < ends(step, zero, self.bits)[0] - 0.5 * step, tf.int32)
        self.clipped.assign(tf.where(use, cuts, tf.convert_to_tensor(self.clipped)))
        self.seen.assign(tf.cast(known | use, tf.int32))
        return alpha, known | use

    def problems(self) -> list[str]:
        if int(value_of(self.clipped)):
            return [
                "has negative values, which PACT cuts off: use another quantizer behind anything "
                "but ReLU"
            ]
        found = super().problems()
        alpha = float(self._bound())
        if not found and (not np.isfinite(alpha) or alpha <= 1.01 * _LEAST_ALPHA):
            found = [f"has the bound {alpha:g}: it clips all values to 0"]
        return found

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay": self.decay}
