"""LSQ: the step size is trained with the weights (Esser et al. 2020, "Learned step size
quantization", arXiv 1902.08153).

With v = x / s (plus the zero point), quantized to q = clip(round(v), -Qn, Qp):

    d(q s) / ds = round(v) - v where v is inside, -Qn below, Qp above
    gradient of s = sum(g * d(q s) / ds) / sqrt(N Qp)

N is the number of weights that share s, or the number of features of one sample; for activations
with a zero point, -Qn and Qp are counted from it.

The trained variable is not s but r = s / s0, with s0 the scale at the start and the gradient
divided by s0. Under SGD, s then takes the paper's steps, s <- s - rate * gradient. Under Adam,
which moves every variable by about its learning rate, s changes by that share of itself, where it
would otherwise be overrun: scales of 8-bit weights are as small as Adam's usual step of 0.001.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfq.calibrate.weight_rules import weight_scales
from tfq.graph.numerics import MIN_TRAINED_SCALE, activation_grid
from tfq.keras.quantizers.arithmetic import (
    count,
    ends,
    floored,
    fused,
    fused_gradients,
    grid_of_range,
    largest,
    leading_axes,
)
from tfq.keras.quantizers.base import ActivationQuantizer, Tensor, WeightQuantizer

# The trained ratio stays above this share of the first scale.
_LEAST_RATIO = 1e-3


def _ratio(variable: Any, kept: Any, frozen: Tensor) -> Tensor:
    return tf.maximum(tf.where(frozen, kept, tf.convert_to_tensor(variable)), _LEAST_RATIO)


@keras.saving.register_keras_serializable(package="tfq")
class LSQ(ActivationQuantizer):
    """Learned step size of an activation. The zero point stays as data or the first batch set it.

    Args:
      bits: 8 or 16.
    """

    needs_data = True

    def __init__(self, bits: int = 8, **kwargs: Any):
        super().__init__(bits, **kwargs)
        self.initial_scale = self.state("initial_scale", 1.0)
        self.zero_point = self.state("zero_point", 0.0)
        self.relative_scale = self.state("relative_scale", 1.0, trainable=True)
        self.frozen_scale = self.state("frozen_scale", 1.0)

    def trained(self) -> list[tuple[Any, Any]]:
        return [(self.relative_scale, self.frozen_scale)]

    def _ratio(self) -> Tensor:
        return _ratio(self.relative_scale, self.frozen_scale, self.frozen)

    def usable(self) -> Tensor:
        return super().usable() & tf.greater(self._ratio(), 1.01 * _LEAST_RATIO)

    @property
    def range_rule(self) -> str:
        return "mse"

    def set_range(self, lo: float, hi: float) -> None:
        grid = activation_grid(lo, hi, f"int{self.bits}")
        self.initial_scale.assign(grid.scale[0])
        self.zero_point.assign(float(grid.zero_point[0]))
        self.relative_scale.assign(1.0)
        self.frozen_scale.assign(1.0)

    def scale_and_zero_point(self) -> tuple[Tensor, Tensor]:
        scale = tf.convert_to_tensor(self.initial_scale) * self._ratio()
        return tf.maximum(scale, MIN_TRAINED_SCALE), tf.convert_to_tensor(self.zero_point)

    def train_call(self, x: Tensor) -> Tensor:
        initial, zero, known = self._first_grid(tf.stop_gradient(x))
        skip = self.observing | tf.logical_not(known)
        features = tf.cast(tf.size(x), tf.float32)
        if x.shape.rank:
            features /= tf.cast(tf.maximum(tf.shape(x)[0], 1), tf.float32)
        return _quantize_learned(
            x, self._ratio(), initial, zero, features, skip,
            self.bits,
        )  # fmt: skip

    def _first_grid(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The initial scale and the zero point, from this batch if nothing set them before.

        And whether there is a grid.
        """
        known = tf.greater(self.seen, 0)
        old = tf.convert_to_tensor(self.initial_scale), tf.convert_to_tensor(self.zero_point)

        def from_batch() -> tuple[Tensor, Tensor]:
            lo, hi = tf.reduce_min(x), tf.reduce_max(x)
            return grid_of_range(tf.minimum(lo, 0.0), tf.maximum(hi, 0.0), self.bits)

        fits = tf.logical_not(known)
        scale, zero = tf.cond(fits, from_batch, lambda: old)
        use = fits & tf.math.is_finite(scale) & tf.math.is_finite(zero)
        scale, zero = tf.where(use, scale, old[0]), tf.where(use, zero, old[1])
        self.initial_scale.assign(scale)
        self.zero_point.assign(zero)
        self.seen.assign(tf.cast(known | use, tf.int32))
        return scale, zero, known | use

    def problems(self) -> list[str]:
        found = super().problems()
        if not found and float(self._ratio()) <= 1.01 * _LEAST_RATIO:
            found = ["has a step that training drove to zero"]
        return found


def _quantize_learned(
    x: Tensor,
    ratio: Tensor,
    initial: Tensor,
    zero: Tensor,
    features: Tensor,
    skip: Tensor,
    bits: int,
) -> Tensor:
    """Fake quantization with the gradients of the module's docstring."""
    q_min, q_max = float(-(2 ** (bits - 1))), float(2 ** (bits - 1) - 1)

    @tf.custom_gradient
    def quantize(x: Tensor, ratio: Tensor, initial: Tensor, zero: Tensor) -> Any:
        scale = tf.maximum(initial * ratio, MIN_TRAINED_SCALE)
        lo, hi = ends(scale, zero, bits)
        y = fused(x, lo, hi, skip, bits)

        def gradients(g: Tensor) -> tuple[Tensor, Tensor]:
            inside, below, above = fused_gradients(g, x, lo, hi, bits)
            rounding = tf.reduce_sum(inside * (y - x)) / scale
            total = rounding + (q_min - zero) * below + (q_max - zero) * above
            return inside, total / tf.sqrt(features * q_max) / initial

        def gradient(g: Tensor) -> Any:
            gx, gr = tf.cond(skip, lambda: (g, tf.zeros_like(ratio)), lambda: gradients(g))
            return gx, gr, None, None

        return y, gradient

    return quantize(x, ratio, tf.stop_gradient(initial), tf.stop_gradient(zero))


@keras.saving.register_keras_serializable(package="tfq")
class LSQWeights(WeightQuantizer):
    """Learned step size of weights, one per channel or one for all.

    It starts at the scale with the least squared rounding error; without `initialize`, at that of
    the largest weight. The gradient of clipped weights is zero, as in the paper.
    """

    def build(self, shape: Any) -> None:
        n = self.channels(shape)
        # Zero: not initialized; then the largest weight decides.
        self.initial_scale = self.state("initial_scale", 0.0, (n,))
        self.relative_scale = self.state("relative_scale", 1.0, (n,), trainable=True)
        self.frozen_scale = self.state("frozen_scale", 1.0, (n,))
        self.built = True

    def trained(self) -> list[tuple[Any, Any]]:
        return [(self.relative_scale, self.frozen_scale)] if self.built else []

    def _ratio(self) -> Tensor:
        return _ratio(self.relative_scale, self.frozen_scale, self.frozen)

    def initialize(self, w: np.ndarray) -> None:
        super().initialize(w)
        axis = w.ndim - 1 if self.per_channel else None
        self.initial_scale.assign(weight_scales(w, axis=axis, bits=self.bits, rule="mse"))
        for variable in (self.relative_scale, self.frozen_scale):
            variable.assign(np.ones(variable.shape, np.float32))

    def _initial(self, w: Tensor) -> Tensor:
        stored = tf.convert_to_tensor(self.initial_scale)
        return tf.where(stored > 0, stored, floored(largest(w, self.per_channel) / self.top))

    def find_scale(self, w: Tensor) -> Tensor:
        return floored(self._initial(w) * self._ratio())

    def marked_scale(self, w: Tensor, scale: Tensor) -> Tensor:
        return tf.where(self._ratio() > 1.01 * _LEAST_RATIO, scale, np.nan)

    def fake_quantize(self, w: Tensor) -> tuple[Tensor, Tensor]:
        axes = leading_axes(w, self.per_channel)
        strength = 1.0 / math.sqrt(max(count(w, self.per_channel), 1.0) * self.top)

        @tf.custom_gradient
        def quantize(w: Tensor, ratio: Tensor, initial: Tensor) -> Any:
            scale = floored(initial * ratio)
            v = w / scale
            q = self.levels(w, scale)

            def gradient(g: Tensor) -> Any:
                inside = tf.abs(v) <= float(self.top)
                slope = tf.where(inside, q - v, q)
                total = tf.reshape(tf.reduce_sum(g * slope, axes), tf.shape(ratio))
                return tf.where(inside, g, tf.zeros_like(g)), total * strength / initial, None

            return q * scale, gradient

        initial = self._initial(tf.stop_gradient(w))
        ratio = self._ratio()
        return quantize(w, ratio, initial), floored(initial * ratio)

    def problems(self) -> list[str]:
        if not self.built:
            return []
        ratio = np.asarray(self._ratio())
        if not np.isfinite(ratio).all():
            return ["has a step that is NaN or infinite"]
        gone = int((ratio <= 1.01 * _LEAST_RATIO).sum())
        return [f"has {gone} of {ratio.size} steps that training drove to zero"] if gone else []
