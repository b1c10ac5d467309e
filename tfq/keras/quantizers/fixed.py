"""Grids that the runtime's kernels fix: softmax, sigmoid, tanh, normalization to unit length."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfq.keras.fake_quantize import fake_quantize, mark
from tfq.keras.quantizers.arithmetic import ends, fake_quantize_fast
from tfq.keras.quantizers.base import ActivationQuantizer, Tensor, number


@keras.saving.register_keras_serializable(package="tfq")
class Fixed(ActivationQuantizer):
    """One grid, given and never learnt.

    Args:
      scale: the step, above 0.
      zero_point: on the signed grid.
      bits: 8 or 16.
      by_kernel: the kernel gives this grid untold, as that of softmax does. Inference in a graph
        (predict, evaluate, export) then passes values on as they are.

    Raises:
      UsageError: another width, or no such grid.
    """

    def __init__(
        self,
        scale: float,
        zero_point: int = 0,
        bits: int = 8,
        by_kernel: bool = False,
        **kwargs: Any,
    ):
        super().__init__(bits, **kwargs)
        lo, hi = self.limits
        number("scale", scale, lambda v: bool(np.isfinite(v)) and v > 0, "a positive scale")
        whole = f"a whole number from {lo} to {hi}"
        number("zero_point", zero_point, lambda v: lo <= v <= hi and v == int(v), whole)
        self.scale, self.zero_point = float(np.float32(scale)), int(zero_point)
        self.by_kernel = bool(by_kernel)

    def set_range(self, lo: float, hi: float) -> None:
        pass

    def has_grid(self) -> bool:
        return True

    def scale_and_zero_point(self) -> tuple[Tensor, Tensor]:
        return tf.constant(self.scale), tf.constant(float(self.zero_point))

    def train_call(self, x: Tensor) -> Tensor:
        lo, hi = ends(*self.scale_and_zero_point(), self.bits)
        return fake_quantize_fast(x, lo, hi, self.observing, self.bits)

    def infer(self, x: Tensor) -> Tensor:
        if tf.executing_eagerly():
            grid = self.scale_and_zero_point()
            return x if bool(self.observing) else fake_quantize(x, *grid, self.bits)
        return x if self.by_kernel else mark(x, *self.scale_and_zero_point(), self.bits)

    def get_config(self) -> dict[str, Any]:
        own = {"scale": self.scale, "zero_point": self.zero_point, "by_kernel": self.by_kernel}
        return {**super().get_config(), **own}
