"""Magnitude pruning of a tf_keras model as a callback, as `tfq.keras.prune` does it for Keras 3.

tensorflow-model-optimization's `prune_low_magnitude` is not used: it wraps the given model's own
layers, so that training the pruned model changes the given one (and a second pruned model changes
the first), masks after the epoch only, and ends short of the last step where that is no multiple of
its frequency. Here weights are masked in place after every step, and there is nothing to strip.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfq.errors import UsageError, unknown_option
from tfq.keras.legacy.backend import tf_keras
from tfq.keras.legacy.kernels import select, values
from tfq.keras.pruning import masks
from tfq.keras.pruning.kernels import Kernel
from tfq.keras.pruning.schedules import ConstantSparsity, PolynomialDecay, check_fraction


@dataclasses.dataclass(eq=False)
class _Masked:
    """A kernel, the weights of it that stay, and from (weights, progress 0 to 1) to those."""

    kernel: Kernel
    choose: Callable[[np.ndarray, float], np.ndarray]
    keep: np.ndarray


def prune(
    model: Any,
    sparsity: float | None = None,
    pattern: str = "unstructured",
    *,
    schedule: ConstantSparsity | PolynomialDecay | None = None,
    block: tuple[int, int] = (4, 1),
    rules: Sequence[Mapping[str, Any]] = (),
    initial_step: int = 0,
) -> Pruning:
    """Prepares magnitude pruning of a float or quantized tf_keras model.

    ``model.fit(..., callbacks=[tfq.keras.prune(model, 0.7)])``. A model pruned so and quantized
    afterwards keeps its zeros.

    Args:
      model: built; its layers and variables stay the same objects.
      sparsity: share of zeros in each kernel in the end. By default that of the schedule, else 0.7,
        and with a pattern N:M what follows from it.
      pattern: "unstructured", "2:4" or any N:M along the inputs, or "block".
      schedule: ConstantSparsity or PolynomialDecay. By default all at once, before the first step.
      block: (inputs, outputs) of the blocks, with the pattern "block".
      rules: dicts of "regex", searched in layer names, and "sparsity" (0 leaves a layer alone).
      initial_step: optimizer steps already done, where a training goes on.

    Raises:
      UsageError: an argument is wrong, a rule matches nothing, or two contradict each other.
    """
    if pattern == "channels":
        raise UsageError(
            "Whole channels are removed from Keras 3 models only. Build the model with Keras 3, or "
            'choose "unstructured", "2:4" or "block".'
        )
    pair = masks.parse_n_of_m(pattern)
    if pair is None and pattern not in ("unstructured", "block"):
        raise unknown_option("pattern", pattern, ("unstructured", "2:4", "block"))
    if schedule is not None and sparsity is not None and schedule.final != sparsity:
        raise UsageError(
            f"The schedule ends at {schedule.final}, and sparsity is {sparsity}. Give one of them, "
            f"or the same."
        )
    if len(block) != 2 or min(block) < 1:
        raise UsageError(f"A block is (inputs, outputs), 1 or more each. Received: {block!r}.")
    wanted = schedule.final if schedule is not None else sparsity
    if pair is not None:
        fixed = 1 - pair[0] / pair[1]
        if wanted not in (None, fixed):
            raise UsageError(
                f"The pattern {pattern!r} has a sparsity of {fixed:.4g}. Received: {wanted}."
            )
        wanted = fixed
    wanted = 0.7 if wanted is None else wanted
    check_fraction("sparsity", wanted)
    chosen = []
    for kernel, choice in select(model, rules, ("sparsity",)):
        final = choice.get("sparsity", wanted)
        check_fraction("sparsity", final)
        if pair is not None and final not in (0, wanted):
            raise UsageError(
                f"The pattern {pattern!r} has a sparsity of {wanted:.4g}; a rule can only turn it "
                f"off with 0. Received: {final} for {kernel.name!r}."
            )
        if final:
            keep = np.ones(kernel.variable.shape, bool)
            chosen.append(_Masked(kernel, _chooser(kernel, pattern, pair, block, final), keep))
    return Pruning(model, chosen, schedule or ConstantSparsity(wanted), initial_step)


def _chooser(
    kernel: Kernel, pattern: str, pair: tuple[int, int] | None, block: tuple[int, int], final: float
) -> Callable[[np.ndarray, float], np.ndarray]:
    def choose(weights: np.ndarray, progress: float) -> np.ndarray:
        matrix = kernel.matrix(weights)
        if pair is not None:
            keep = masks.n_of_m(matrix, *pair, share=progress)
        elif pattern == "block":
            keep = masks.block(matrix, block, final * progress)
        else:
            keep = masks.unstructured(matrix, final * progress)
        return kernel.restore(keep)

    return choose


class Pruning(tf_keras.callbacks.Callback):
    """Keeps masked weights at zero after every step, and masks more as the schedule goes."""

    def __init__(
        self,
        model: Any,
        masked: Sequence[_Masked],
        schedule: ConstantSparsity | PolynomialDecay,
        initial_step: int,
    ) -> None:
        super().__init__()
        if not isinstance(initial_step, int) or initial_step < 0:
            raise UsageError(f"initial_step counts steps from 0. Received: {initial_step!r}.")
        self._target = model
        self._masked = list(masked)
        self._schedule = schedule
        self._count = initial_step
        self._batch = -1
        self._begun = False

    def begin(self) -> None:
        """Prunes what is due before the first step. `fit` does it by itself."""
        if not self._begun:
            self._begun = True
            if self._count >= self._schedule.begin_step:
                self._choose()
        self.apply()

    def step(self, steps: int = 1) -> None:
        """Call it after each optimizer step, outside of any tf.function."""
        if not self._begun:
            self.begin()
        before, self._count = self._count, self._count + steps
        self.apply()
        if self._schedule.due(before, self._count):
            self._choose()
            self.apply()

    def apply(self) -> None:
        """Sets the masked weights to zero again."""
        for item in self._masked:
            variable = item.kernel.variable
            variable.assign(np.where(item.keep, values(variable), np.float32(0)))

    def sparsity(self) -> dict[str, float]:
        """The share of zeros in each pruned kernel as it is now, by layer name."""
        return {m.kernel.name: float(np.mean(values(m.kernel.variable) == 0)) for m in self._masked}

    def _choose(self) -> None:
        progress = self._schedule.progress(self._count)
        for item in self._masked:
            item.keep = item.keep & item.choose(values(item.kernel.variable), progress)

    def on_train_begin(self, logs: dict | None = None) -> None:
        trained = {id(v) for v in self.model.variables}
        if not any(id(m.kernel.variable.variable) in trained for m in self._masked):
            raise UsageError(
                f"This callback was made for the model {self._target.name!r}, none of whose "
                f"weights are in {self.model.name!r}, which is trained. Call prune on that."
            )
        self.begin()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._batch = -1

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        steps, self._batch = max(batch - self._batch, 1), batch
        self.step(steps)

    def on_train_end(self, logs: dict | None = None) -> None:
        self.apply()
        if self._count < self._schedule.end_step:
            warnings.warn(
                f"Training ended at step {self._count}, the pruning schedule at "
                f"{self._schedule.end_step}. Train longer, or end the schedule sooner.",
                stacklevel=2,
            )
