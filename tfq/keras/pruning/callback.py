"""`prune`: zeros that grow by magnitude during training and stay, as a Keras callback.

The masks are applied to the model's own variables after every optimizer step. The model stays what
it is: no wrappers, nothing to strip. Every way to train it works (compile and fit, custom loops,
jit_compile, mixed precision, tf.distribute), since nothing happens inside of the step.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfq.errors import UsageError, unknown_option
from tfq.keras.layers import QuantizedWeights
from tfq.keras.pruning import channels, masks
from tfq.keras.pruning.kernels import Kernel, find_kernels, select
from tfq.keras.pruning.schedules import ConstantSparsity, PolynomialDecay, Schedule, check_fraction
from tfq.keras.quantizers.binary import Binary

_Chooser = Callable[[np.ndarray, float], np.ndarray]


@dataclasses.dataclass(eq=False)
class _Masked:
    """A variable, the weights of it that stay (True), and how more of them are chosen.

    Attributes:
      choose: (values in the variable's shape, progress 0 to 1) -> keep. None where `Pruning` sets
        the mask together with other variables' (channels), or where it never changes.
      zeros: how many zeros there are in the end.
    """

    name: str
    variable: Any
    keep: np.ndarray
    choose: _Chooser | None
    zeros: int
    mask: Any = None


def prune(
    model: keras.Model,
    sparsity: float | None = None,
    pattern: str = "unstructured",
    *,
    schedule: Schedule | None = None,
    block: tuple[int, int] = (4, 1),
    rules: Sequence[Mapping[str, Any]] = (),
    initial_step: int = 0,
) -> Pruning:
    """Prepares magnitude pruning of a float or quantized model.

    ``model.fit(..., callbacks=[tfq.keras.prune(model, 0.7)])``; in a loop of your own call
    `begin()` before the first step and `step()` after each. Zeros at the start stay zeros where
    there are not more of them than asked for, so a training goes on from a checkpoint with the
    masks it had.

    Args:
      model: a built Keras 3 model; its class, layers and variables stay the same objects.
      sparsity: the share of zeros in each kernel in the end. By default that of the schedule, else
        0.7, and with a pattern N:M what follows from it.
      pattern: "unstructured"; "2:4" or any N:M, along the inputs; "block"; "channels" (everything
        that makes a channel becomes zero, for `remove_channels`; Functional and Sequential float
        models).
      schedule: ConstantSparsity or PolynomialDecay. By default all at once, before the first step.
      block: (inputs, outputs) of the blocks, with the pattern "block".
      rules: dicts of "regex", searched in layer names, and "sparsity" (0 leaves a layer alone),
        "pattern" or both. Schedules grow to a rule's sparsity in the same proportion.
      initial_step: optimizer steps already done, where a training goes on.

    Raises:
      UsageError: an argument is wrong, a rule matches nothing, or two contradict each other.
    """
    if schedule is not None and not isinstance(schedule, ConstantSparsity | PolynomialDecay):
        raise UsageError(
            "schedule is a ConstantSparsity or a PolynomialDecay. "
            f"Received: {type(schedule).__name__}."
        )
    if sparsity is not None:
        check_fraction("sparsity", sparsity)
        if schedule is not None and schedule.final != sparsity:
            raise UsageError(
                f"The schedule ends at {schedule.final}, and sparsity is {sparsity}. Give one of "
                "them, or the same."
            )
    wanted = schedule.final if schedule is not None else sparsity
    if schedule is None:
        schedule = ConstantSparsity(0.7 if wanted is None else wanted)
    if len(block) != 2 or min(block) < 1:
        raise UsageError(f"A block is (inputs, outputs), 1 or more each. Received: {block!r}.")
    default = {"pattern": pattern, "sparsity": wanted}
    resolved = [
        (kernel, _Choice.of({**default, **choice}, explicit=choice))
        for kernel, choice in select(model, rules, ("sparsity", "pattern"))
    ]
    whole = {id(k.layer): c.sparsity for k, c in resolved if c.pattern == "channels"}
    planned = channels.ChannelPlan(model) if whole else None
    if planned is not None:
        planned.choose(whole)  # Contradictions among tied layers are found now.
        if not any(True for _ in planned.variables(whole)):
            raise UsageError(
                f"No channel of the model {model.name!r} can go. "
                "tfq.keras.channel_groups(model) says why."
            )
    masked: list[_Masked] = []
    binary = [k.name for k, c in resolved if c.sparsity and _is_binary(k.layer)]
    if binary:
        raise UsageError(
            f"Binary weights have no zero, so they cannot be pruned: {', '.join(binary)}. Leave "
            'them out with a rule of "sparsity" 0, or train them ternary.'
        )
    for kernel, choice in resolved:
        if choice.pattern != "channels" and choice.sparsity:
            masked.append(_masked(kernel, choice, (block[0], block[1])))
    return Pruning(model, masked, schedule, initial_step, planned, whole)


def keep_sparsity(model: keras.Model) -> Pruning:
    """A callback under which the zeros that the model's kernels have now stay zeros.

    For what follows pruning: fine tuning, and quantization-aware training
    (``keep_sparsity(tfq.keras.quantize(pruned, ...))``). Zero is on every symmetric grid, so the
    same zeros are in the integer file.

    Args:
      model: a built Keras 3 model, float or quantized.

    Raises:
      UsageError: no kernel has a zero.
    """
    masked = []
    for kernel in find_kernels(model):
        keep = kernel.values() != 0
        if not keep.all():
            zeros = int(keep.size - keep.sum())
            masked.append(_Masked(kernel.name, kernel.variable, keep, None, zeros))
    if not masked:
        raise UsageError(
            f"No kernel of the model {model.name!r} holds a zero, so there is no sparsity to keep. "
            "Prune it first: tfq.keras.prune(model, sparsity)."
        )
    return Pruning(model, masked, ConstantSparsity(0.0), 0, None, {})


@dataclasses.dataclass(frozen=True)
class _Choice:
    pattern: str
    sparsity: float

    @staticmethod
    def of(options: Mapping[str, Any], explicit: Mapping[str, Any]) -> _Choice:
        """Checks one layer's pattern and sparsity against each other."""
        pattern, sparsity = options["pattern"], options["sparsity"]
        if "sparsity" in explicit:
            check_fraction("sparsity", sparsity)
        pair = masks.parse_n_of_m(pattern) if isinstance(pattern, str) else None
        if pair is None and pattern not in ("unstructured", "block", "channels"):
            raise unknown_option("pattern", pattern, ("unstructured", "2:4", "block", "channels"))
        if pair is None:
            return _Choice(pattern, 0.7 if sparsity is None else sparsity)
        fixed = 1 - pair[0] / pair[1]
        if "pattern" in explicit and "sparsity" not in explicit:
            sparsity = None  # The rule's pattern has a sparsity of its own.
        if sparsity not in (None, 0, 0.0) and abs(sparsity - fixed) > 1e-9:
            raise UsageError(
                f"The pattern {pattern!r} leaves {1 - fixed:.4g} of the weights: its sparsity is "
                f"{fixed:.4g}. Received: sparsity={sparsity}."
            )
        return _Choice(pattern, 0.0 if sparsity == 0 else fixed)


def _masked(kernel: Kernel, choice: _Choice, block: tuple[int, int]) -> _Masked:
    pair = masks.parse_n_of_m(choice.pattern)

    def choose(values: np.ndarray, progress: float) -> np.ndarray:
        matrix = kernel.matrix(values)
        if pair:
            keep = masks.n_of_m(matrix, *pair, share=progress)
        elif choice.pattern == "block":
            keep = masks.block(matrix, block, choice.sparsity * progress)
        else:
            # Counted in the variable's own order, which is the same for any layout.
            keep = masks.unstructured(matrix, choice.sparsity * progress)
        return kernel.restore(keep)

    values = kernel.values()
    everything = np.ones(values.shape, bool)
    zeros = int((~choose(values, 1.0)).sum())
    return _Masked(kernel.name, kernel.variable, everything, choose, zeros)


class Pruning(keras.callbacks.Callback):
    """Keeps masked weights at exactly zero, and masks more of them as the schedule goes.

    Made by `prune` and `keep_sparsity`. Masks are applied when training begins, after every batch
    and when it ends; with ``steps_per_execution=N`` after every N steps. Put it last in the list of
    callbacks: one before it that restores weights (EarlyStopping) is then covered too.
    """

    def __init__(
        self,
        model: keras.Model,
        masked: Sequence[_Masked],
        schedule: Schedule,
        initial_step: int,
        planned: channels.ChannelPlan | None,
        whole: Mapping[int, float],
    ) -> None:
        super().__init__()
        if not isinstance(initial_step, int) or initial_step < 0:
            raise UsageError(f"initial_step counts steps from 0. Received: {initial_step!r}.")
        self._target = model
        self._schedule = schedule
        self._planned = planned
        self._whole = dict(whole)
        self._masked = list(masked)
        if planned is not None:
            known = {id(m.variable) for m in self._masked}
            for name, variable in planned.variables(self._whole):
                if id(variable) not in known:
                    keep = np.ones(tuple(variable.shape), bool)
                    self._masked.append(_Masked(name, variable, keep, None, 0))
        self._count = initial_step
        self._batch = -1
        self._begun = False
        self._apply: Callable[[], None] | None = None

    # --- for loops of one's own ---

    def begin(self) -> None:
        """Takes over the zeros that are there, prunes what is due, and applies the masks.

        `fit` does it by itself. Nothing happens the second time.
        """
        if not self._begun:
            self._begun = True
            for item in self._masked:
                if item.choose is not None:
                    kept = _values(item.variable) != 0
                    # More zeros than will be asked for are no sparsity but an initial value.
                    if kept.size - kept.sum() <= item.zeros:
                        item.keep = kept
                item.mask = tf.Variable(item.keep, trainable=False)
            self._apply = _applier(self._masked, self._target)
            if self._count >= self._schedule.begin_step:
                self._choose()
        self.apply()

    def step(self, steps: int = 1) -> None:
        """Call it after each optimizer step, outside of any tf.function."""
        if not self._begun:
            self.begin()
        before, self._count = self._count, self._count + steps
        if self._schedule.due(before, self._count):
            self.apply()
            self._choose()
        self.apply()

    def apply(self) -> None:
        """Sets the masked weights to zero again."""
        if self._apply is None:
            self.begin()
        elif self._masked:
            self._apply()

    def sparsity(self) -> dict[str, float]:
        """The share of zeros in each variable under a mask, as it is now, by layer name."""
        return {i.name: float(np.mean(_values(i.variable) == 0)) for i in self._masked}

    def _choose(self) -> None:
        progress = self._schedule.progress(self._count)
        for item in self._masked:
            if item.choose is not None:
                values = np.where(item.keep, _values(item.variable), 0)
                item.keep = item.keep & item.choose(values, progress)
        if self._planned is not None:
            found = self._planned.masks(self._whole, progress)
            for item in self._masked:
                if id(item.variable) in found:
                    item.keep = item.keep & found[id(item.variable)]
        for item in self._masked:
            item.mask.assign(item.keep)

    # --- Keras ---

    def on_train_begin(self, logs: dict | None = None) -> None:
        trained = {id(v) for v in self.model.variables}
        if not any(id(i.variable) in trained for i in self._masked):
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
            reached = self._schedule.final * self._schedule.progress(self._count)
            warnings.warn(
                f"Training ended at step {self._count}, the pruning schedule at "
                f"{self._schedule.end_step}: sparsity {reached:.3g} of {self._schedule.final:.3g} "
                "was reached. Train longer, or end the schedule sooner.",
                stacklevel=2,
            )


def _is_binary(layer: Any) -> bool:
    return isinstance(layer, QuantizedWeights) and isinstance(layer.weight_quantizer, Binary)


def _values(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable.value), np.float32)


def _applier(masked: Sequence[_Masked], model: keras.Model) -> Callable[[], None]:
    """A function that sets masked weights to 0: never w * 0, which is -0 or, of NaN, NaN."""

    def apply() -> None:
        for item in masked:
            value = tf.convert_to_tensor(item.variable.value)
            item.variable.assign(tf.where(item.mask, value, tf.zeros_like(value)))

    # A replicated variable is assigned from outside of the replicas, which needs eager mode.
    if model.distribute_strategy.num_replicas_in_sync > 1:
        return apply
    compiled: Callable[[], None] = tf.function(apply)
    return compiled
