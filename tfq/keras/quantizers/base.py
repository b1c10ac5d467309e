"""What a quantizer is: a Keras layer that puts its input on a grid and learns which grid.

Phases, a variable of every quantizer, so that they hold in custom training loops, under XLA, under
tf.distribute, and in saved models:

    observe   activations pass unquantized while their ranges are learnt
    train     activations are quantized, ranges still move (or are trained)
    freeze    activations are quantized, ranges stay

Weights are quantized in all of them; "freeze" stops their scales where these are trained.

In inference ranges never move. There, in graphs, values go through `tfq.keras.fake_quantize`, by
which the trained grid reaches the converted file. A quantizer without a grid (still
observing, without a single batch, or broken by training) marks values with the scale NaN, and
those of activations pass as they are: such a model does not convert.
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from tfq.errors import UsageError, unknown_option
from tfq.graph.numerics import LIMITS, MIN_TRAINED_SCALE
from tfq.keras.fake_quantize import fake_quantize, mark

OBSERVE, TRAIN, FREEZE = 0, 1, 2
PHASES = {"observe": OBSERVE, "train": TRAIN, "freeze": FREEZE}

Tensor = Any


class Quantizer(keras.layers.Layer):
    """Common to quantizers of activations and of weights: the width and the phase."""

    def __init__(self, bits: int = 8, **kwargs: Any):
        # Everything is computed in float32: under mixed_float16, too, nothing is cast on the way.
        kwargs.setdefault("autocast", False)
        self._check_options(kwargs)
        super().__init__(**kwargs)
        self.bits = bits
        self.phase = self.state("phase", TRAIN, dtype="int32")

    @classmethod
    def _check_options(cls, given: dict[str, Any]) -> None:
        """Keras has no such argument either, but would name neither the known nor the nearest."""
        of_keras = ("name", "dtype", "trainable", "autocast", "activity_regularizer")
        for option in given:
            if option not in of_keras:
                own = {
                    p.name: None
                    for c in cls.__mro__
                    if issubclass(c, Quantizer) and "__init__" in vars(c)
                    for p in list(inspect.signature(c.__init__).parameters.values())[1:]
                    if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
                }
                what = f"option of the quantizer {cls.__name__}"
                raise unknown_option(what, option, [*own, *of_keras])

    def state(
        self,
        name: str,
        value: float,
        shape: tuple[int, ...] = (),
        dtype: str = "float32",
        **options: Any,
    ) -> Any:
        """A new variable that is no trained weight unless `options` say so."""
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=dtype,
            initializer=keras.initializers.Constant(value),
            autocast=False,
            # Replicas see other parts of the batch; they keep one range, as BatchNormalization
            # keeps one mean.
            aggregation="mean" if dtype == "float32" else "only_first_replica",
            **{"trainable": False, **options},
        )

    @property
    def observing(self) -> Tensor:
        """Boolean scalar: whether values pass unquantized."""
        return tf.equal(self.phase, OBSERVE)

    @property
    def frozen(self) -> Tensor:
        """Boolean scalar: whether the grid stays as it is."""
        return tf.equal(self.phase, FREEZE)

    def trained(self) -> list[tuple[Any, Any]]:
        """Pairs of a trained variable and the one that keeps its value while frozen."""
        return []

    def set_phase(self, phase: int) -> None:
        """Changes the phase. What is trained is kept apart while frozen.

        A gradient of zero would not hold it: Adam's momentum and weight decay go on.
        """
        before = int(value_of(self.phase))
        for variable, kept in self.trained():
            if phase == FREEZE != before:
                kept.assign(value_of(variable))
            elif before == FREEZE != phase:
                variable.assign(value_of(kept))
        self.phase.assign(phase)

    def problems(self) -> list[str]:
        """What is wrong with the range that training arrived at, in words; mostly nothing."""
        return []

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bits": self.bits}


class ActivationQuantizer(Quantizer):
    """Identity whose values lie on one grid per tensor.

    Args:
      bits: 8 (int8, any zero point) or 16 (int16, zero point 0).

    Attributes:
      needs_data: whether the range has to come from data, by `initialize`, before training.
      range_rule: the rule of `tfq.calibrate.rules` that finds this range.

    Raises:
      UsageError: another number of bits.
    """

    needs_data: ClassVar[bool] = False

    def __init__(self, bits: int = 8, **kwargs: Any):
        if bits not in (8, 16):
            raise UsageError(
                "Activations have 8 or 16 bits: no kernel computes with others. "
                f"Received: {bits!r}."
            )
        super().__init__(bits, **kwargs)
        self.seen = self.state("seen", 0, dtype="int32")
        self.supports_masking = True

    @property
    def range_rule(self) -> str:
        return "minmax"

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and highest integer."""
        return LIMITS[f"int{self.bits}"]

    def initialize(self, lo: float, hi: float) -> None:
        """Takes the range from data.

        Args:
          lo, hi: real numbers, lo <= hi; the range is extended to hold 0.

        Raises:
          UsageError: they are not finite, or in the wrong order.
        """
        if not (np.isfinite(lo) and np.isfinite(hi) and lo <= hi):
            raise UsageError(
                f"The range of the quantizer {self.name!r} needs finite numbers, the lower first. "
                f"Received: {lo!r}, {hi!r}."
            )
        self.set_range(min(float(lo), 0.0), max(float(hi), 0.0))
        self.seen.assign(1)

    def set_range(self, lo: float, hi: float) -> None:
        """Stores a range with lo <= 0 <= hi."""
        raise NotImplementedError

    def scale_and_zero_point(self) -> tuple[Tensor, Tensor]:
        """The grid as it is now: float32 scalars, the zero point a whole number."""
        raise NotImplementedError

    def grid(self) -> tuple[float, int]:
        """The scale, exactly a float32, and the zero point on the signed grid.

        Raises:
          UsageError: the quantizer has seen no data.
        """
        if not self.has_grid():
            raise UsageError(
                f"The quantizer {self.name!r} has no range yet. Train the model for at least one "
                "step, or give data when it is quantized."
            )
        scale, zero = self.scale_and_zero_point()
        return float(scale), int(zero)

    def has_grid(self) -> bool:
        """Whether data or training has given a range."""
        return int(value_of(self.seen)) > 0

    def usable(self) -> Tensor:
        """Boolean scalar: whether there is a grid that a file may have."""
        return tf.greater(self.seen, 0)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        values = tf.cast(x, tf.float32)
        y = self.train_call(values) if training else self.infer(values)
        return tf.cast(y, x.dtype)

    def train_call(self, x: Tensor) -> Tensor:
        """Quantizes in a training step, and learns the range; float32 in and out."""
        raise NotImplementedError

    def infer(self, x: Tensor) -> Tensor:
        """Quantizes with the range as it is; float32 in and out."""
        scale, zero = self.scale_and_zero_point()
        ready = self.usable() & tf.logical_not(self.observing)
        if tf.executing_eagerly():
            return fake_quantize(x, scale, zero, self.bits) if ready else x
        return mark(x, tf.where(ready, scale, np.nan), zero, self.bits)

    def problems(self) -> list[str]:
        if not self.has_grid():
            return ["has seen no data"]
        scale, _ = self.scale_and_zero_point()
        if not np.isfinite(scale):
            return [f"has the step {float(scale)}"]
        if scale <= MIN_TRAINED_SCALE * 1.01:
            return ["has a range of zero: all values it sees are 0"]
        return []


class WeightQuantizer(Quantizer):
    """Puts weights on a symmetric grid, one scale per channel (the last dimension) or one for all.

    The integers are in [-q, q], q = 2**(bits-1) - 1 (2 bits: -1, 0, 1), and zero stays zero, so
    that pruned weights stay pruned. Gradients pass straight through to the weights.

    Args:
      bits: 8, 4 or 2. 3, 5, 6 and 7 only with `simulation_only`.
      per_channel: one scale per channel.
      simulation_only: allows widths that no kernel computes with. Such a model trains and
        evaluates in Keras, but does not convert.

    Raises:
      UsageError: another number of bits.
    """

    widths: ClassVar[tuple[int, ...]] = (8, 4, 2)

    def __init__(
        self,
        bits: int | None = None,
        per_channel: bool = True,
        simulation_only: bool = False,
        **kwargs: Any,
    ):
        bits = self.widths[0] if bits is None else bits
        if bits not in self.widths and not (
            simulation_only and len(self.widths) > 1 and bits in range(2, 9)
        ):
            allowed = " or ".join(map(str, self.widths))
            hint = ""
            if len(self.widths) > 1 and bits in (3, 5, 6, 7):
                hint = " simulation_only=True trains others, in Keras only."
            raise UsageError(
                f"{type(self).__name__} takes {allowed} bits: no kernel computes with others."
                f"{hint} Received: {bits!r}."
            )
        super().__init__(bits, **kwargs)
        self.per_channel = per_channel
        self.simulation_only = bits not in self.widths

    @property
    def top(self) -> int:
        """The highest integer q."""
        return int(2 ** (self.bits - 1) - 1)

    def channels(self, shape: Any) -> int:
        """How many scales weights of this shape have."""
        return int(shape[-1]) if self.per_channel else 1

    def initialize(self, w: np.ndarray) -> None:
        """Fits what the quantizer learns to weights as they are before training.

        Args:
          w: float32, channels last. The quantizer is built for this shape.

        Raises:
          ModelError: a weight is NaN or infinite.
        """
        if not self.built:
            self.build(w.shape)

    def find_scale(self, w: Tensor) -> Tensor:
        """The scales of weights: float32 [C] or [1], above zero. No gradient is needed."""
        raise NotImplementedError

    def levels(self, w: Tensor, scale: Tensor) -> Tensor:
        """The integers of weights, as float32."""
        return tf.clip_by_value(tf.round(w / scale), -float(self.top), float(self.top))

    def fake_quantize(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The weights on the grid, with a gradient, and the scales."""
        still = tf.stop_gradient(w)
        scale = self.find_scale(still)
        return straight_through(w, self.levels(still, scale) * scale), scale

    def call(self, w: Tensor, training: bool | None = None) -> Tensor:
        w = tf.cast(tf.convert_to_tensor(w), tf.float32)
        y, scale = self.fake_quantize(w)
        if training or tf.executing_eagerly():
            return y
        bits, scale = self.bits, self.marked_scale(w, tf.stop_gradient(scale))
        if self.simulation_only:
            bits, scale = 8, scale * np.nan  # What has no kernel has no grid.
        if self.per_channel:
            return mark(y, scale, 0.0, bits, w.shape.rank - 1, narrow=True)
        return mark(y, scale[0], 0.0, bits, narrow=True)

    def marked_scale(self, w: Tensor, scale: Tensor) -> Tensor:
        """The scales that the file gets; NaN where training broke one."""
        return scale

    def scales(self, w: np.ndarray) -> np.ndarray:
        """The scales that `call` uses for these weights: float32 [C] or [1]."""
        return np.asarray(self.find_scale(tf.constant(w, tf.float32)))

    def integers(self, w: np.ndarray) -> np.ndarray:
        """The integers that `call` rounds these weights to: int8, the shape of `w`.

        In float32, integers times scales are to the bit what `call` returns.
        """
        values = tf.constant(w, tf.float32)
        return np.asarray(self.levels(values, self.find_scale(values))).astype(np.int8)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "per_channel": self.per_channel,
            "simulation_only": self.simulation_only,
        }


def number(name: str, value: Any, fits: Callable[[float], bool], wanted: str) -> float:
    """A number that an option takes.

    Raises:
      UsageError: it is none, or one that does not fit.
    """
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not fits(float(value)):
        raise UsageError(f"{name} must be {wanted}. Received: {value!r}.")
    return float(value)


def value_of(variable: Any) -> np.ndarray:
    """A variable's value, also of one that tf.distribute mirrors."""
    return np.asarray(tf.convert_to_tensor(variable).numpy())


@tf.custom_gradient
def straight_through(w: Tensor, y: Tensor) -> Any:
    """Returns y, to the bit, with the gradient of w."""
    return tf.identity(y), lambda g: (g, None)
