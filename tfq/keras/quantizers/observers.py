"""Ranges that follow the smallest and largest value of every training batch."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfq.keras.quantizers.arithmetic import ends, fake_quantize_fast, grid_of_range
from tfq.keras.quantizers.base import ActivationQuantizer, Tensor, number


class RangeQuantizer(ActivationQuantizer):
    """A range kept as its two ends, which training batches may move.

    The first training batch gives the range where data has not, in any phase. A batch with a value
    that is NaN or infinite moves nothing.
    """

    def __init__(self, bits: int = 8, **kwargs: Any):
        super().__init__(bits, **kwargs)
        self.minimum = self.state("minimum", 0.0)
        self.maximum = self.state("maximum", 0.0)

    def set_range(self, lo: float, hi: float) -> None:
        self.minimum.assign(lo)
        self.maximum.assign(hi)

    def scale_and_zero_point(self) -> tuple[Tensor, Tensor]:
        return grid_of_range(
            tf.convert_to_tensor(self.minimum), tf.convert_to_tensor(self.maximum), self.bits
        )

    def moves(self) -> Tensor:
        """Boolean scalar: whether batches move a range that is known."""
        return tf.logical_not(self.frozen)

    def moved(self, old: Tensor, new: Tensor, *, upper: bool) -> Tensor:
        """One end of the range after a batch with the extreme value `new`."""
        raise NotImplementedError

    def train_call(self, x: Tensor) -> Tensor:
        lo, hi, known = self._observe(tf.stop_gradient(x))
        grid = grid_of_range(lo, hi, self.bits)
        skip = self.observing | tf.logical_not(known)
        return fake_quantize_fast(x, *ends(*grid, self.bits), skip, self.bits)

    def _observe(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Moves the range by a batch; the range, and whether there is one."""
        old_lo, old_hi = tf.convert_to_tensor(self.minimum), tf.convert_to_tensor(self.maximum)
        # A frozen range costs no pass over the values. Variables are assigned outside of the
        # branches, where replicas can meet.
        known = tf.greater(self.seen, 0)
        may_move = self.moves() | tf.logical_not(known)
        lo, hi = tf.cond(
            may_move, lambda: (tf.reduce_min(x), tf.reduce_max(x)), lambda: (old_lo, old_hi)
        )
        finite = tf.math.is_finite(lo) & tf.math.is_finite(hi) & (lo <= hi)
        lo, hi = tf.minimum(lo, 0.0), tf.maximum(hi, 0.0)
        new_lo = tf.where(known, self.moved(old_lo, lo, upper=False), lo)
        new_hi = tf.where(known, self.moved(old_hi, hi, upper=True), hi)
        use = may_move & finite
        new_lo, new_hi = tf.where(use, new_lo, old_lo), tf.where(use, new_hi, old_hi)
        self.minimum.assign(new_lo)
        self.maximum.assign(new_hi)
        self.seen.assign(tf.cast(known | use, tf.int32))
        return new_lo, new_hi, known | use


@keras.saving.register_keras_serializable(package="tfq")
class MovingAverage(RangeQuantizer):
    """The extremes of batches, averaged: end <- momentum * end + (1 - momentum) * extreme.

    Args:
      bits: 8 or 16.
      momentum: in [0, 1). 0.99 follows within a few hundred steps; a short training with 0.999
        hardly moves its ranges.

    Raises:
      UsageError: another width, or a momentum out of range.
    """

    def __init__(self, bits: int = 8, momentum: float = 0.99, **kwargs: Any):
        momentum = number("momentum", momentum, lambda v: 0 <= v < 1, "a number in [0, 1)")
        super().__init__(bits, **kwargs)
        self.momentum = momentum

    def moved(self, old: Tensor, new: Tensor, *, upper: bool) -> Tensor:
        return old + (1.0 - self.momentum) * (new - old)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum}


@keras.saving.register_keras_serializable(package="tfq")
class MinMax(RangeQuantizer):
    """The extremes of everything seen so far: the range only widens."""

    def moved(self, old: Tensor, new: Tensor, *, upper: bool) -> Tensor:
        return tf.maximum(old, new) if upper else tf.minimum(old, new)


class FittedRange(RangeQuantizer):
    """A range that a rule chose from data before training, and that stays.

    Without data the first training batch gives it, by its extremes.
    """

    needs_data = True

    def moves(self) -> Tensor:
        return tf.constant(False)

    def moved(self, old: Tensor, new: Tensor, *, upper: bool) -> Tensor:
        return old


@keras.saving.register_keras_serializable(package="tfq")
class Percentile(FittedRange):
    """A share of all values of the data, cut by the same share on both sides.

    Args:
      bits: 8 or 16.
      percentile: in (50, 100].

    Raises:
      UsageError: another width, or a percentile out of range.
    """

    def __init__(self, bits: int = 8, percentile: float = 99.99, **kwargs: Any):
        wanted = "a number in (50, 100]"
        percentile = number("percentile", percentile, lambda v: 50 < v <= 100, wanted)
        super().__init__(bits, **kwargs)
        self.percentile = percentile

    @property
    def range_rule(self) -> str:
        return f"percentile:{self.percentile:g}"

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "percentile": self.percentile}


@keras.saving.register_keras_serializable(package="tfq")
class MSE(FittedRange):
    """The range with the least squared rounding error on the data."""

    @property
    def range_rule(self) -> str:
        return "mse"
