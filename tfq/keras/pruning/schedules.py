"""How sparsity grows over the steps of a training."""

from __future__ import annotations

import dataclasses

from tfq.errors import UsageError


@dataclasses.dataclass(frozen=True)
class ConstantSparsity:
    """All of it at once, when `begin_step` optimizer steps are done.

    Attributes:
      final: the share of zeros, 0 up to (not including) 1.
      begin_step: 0 prunes before the first step.
    """

    final: float
    begin_step: int = 0

    def __post_init__(self) -> None:
        check_fraction("sparsity", self.final)
        _check_steps(self.begin_step, self.begin_step)

    @property
    def end_step(self) -> int:
        return self.begin_step

    def progress(self, step: int) -> float:
        """The share of `final` reached after `step` steps, 0 to 1."""
        return float(step >= self.begin_step)

    def due(self, before: int, now: int) -> bool:
        """Whether masks are to be chosen anew between steps `before` and `now`."""
        return before < self.begin_step <= now


@dataclasses.dataclass(frozen=True)
class PolynomialDecay:
    """From `initial` to `final`, fast at first: the schedule of gradual pruning.

    s(t) = final + (initial - final) * (1 - (t - begin) / (end - begin)) ** power, Zhu and Gupta,
    "To prune, or not to prune" (2017), with power 3 theirs.

    Attributes:
      initial, final: shares of zeros, 0 up to (not including) 1.
      begin_step, end_step: optimizer steps between which it grows.
      frequency: steps between two choices of the zeros. At `end_step` they are chosen for good.
      power: of the polynomial.
    """

    initial: float
    final: float
    begin_step: int
    end_step: int
    frequency: int = 100
    power: float = 3.0

    def __post_init__(self) -> None:
        check_fraction("initial", self.initial)
        check_fraction("final", self.final)
        _check_steps(self.begin_step, self.end_step)
        if self.initial > self.final:
            raise UsageError(
                f"Sparsity only grows: initial must not exceed final. "
                f"Received: initial={self.initial}, final={self.final}."
            )
        if self.end_step == self.begin_step:
            raise UsageError(
                f"end_step must come after begin_step. Received: {self.begin_step} for both; "
                "ConstantSparsity prunes at one step."
            )
        if self.frequency < 1 or self.power <= 0:
            raise UsageError(
                "frequency is at least 1 and power above 0. "
                f"Received: frequency={self.frequency}, power={self.power}."
            )

    def progress(self, step: int) -> float:
        """The share of `final` reached after `step` steps, 0 to 1."""
        if step < self.begin_step or not self.final:
            return 0.0
        left = 1 - min(step - self.begin_step, self._span) / self._span
        return 1.0 + (self.initial / self.final - 1.0) * left**self.power

    def due(self, before: int, now: int) -> bool:
        """Whether masks are to be chosen anew between steps `before` and `now`."""
        if before < self.end_step <= now:
            return True
        if now < self.begin_step or before >= self.end_step:
            return False
        # Floor division puts steps before begin_step into interval -1 and lower.
        first = (before - self.begin_step) // self.frequency
        return (now - self.begin_step) // self.frequency > max(first, -1)

    @property
    def _span(self) -> int:
        return self.end_step - self.begin_step


Schedule = ConstantSparsity | PolynomialDecay


def check_fraction(name: str, value: object) -> None:
    """Raises UsageError unless `value` is a number from 0 up to, not including, 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise UsageError(
            f"{name} is a share from 0 up to, not including, 1. Received: {name}={value!r}."
        )


def _check_steps(begin: int, end: int) -> None:
    if begin < 0 or end < begin:
        raise UsageError(
            "Steps count from 0, and end_step is not before begin_step. "
            f"Received: begin_step={begin}, end_step={end}."
        )
