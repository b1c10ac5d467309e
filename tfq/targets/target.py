"""What every target is and does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from tfq.targets.measurement import Asked, Evidence, Figure, OpCost
from tfq.targets.placement import Placement
from tfq.targets.profile import Profile


class Prepared(Protocol):
    """A model that is ready on its target: compiled, pushed, loaded. A context manager.

    Several may be open at a time: a benchmark goes from one to the next in short rounds, so that
    what disturbs the machine disturbs all alike.
    """

    @property
    def placement(self) -> Placement:
        """Where each op runs, as seen, not as predicted, where the target shows it."""

    @property
    def ran(self) -> Mapping[str, str]:
        """What really runs, beside what was asked for."""

    @property
    def fingerprint(self) -> Mapping[str, object]:
        """What figures are of: versions, processor, device, load."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes figures doubtful, so far."""

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Runs once, from the model's initial state.

        Args:
          inputs: values of the main graph's inputs, in its order, of their own dtypes and shapes.

        Returns:
          the same of the outputs.

        Raises:
          ModelError: the model fails there, ends the process that runs it, or does not finish
            within `Asked.timeout`. So do the other methods that run it.
        """

    def warm_up(self) -> None:
        """Runs on the last inputs for `Asked.warmup_seconds`: clocks and caches settle."""

    def measure(self, runs: int, seconds: float) -> int:
        """Runs so many times more on the last inputs, for about `seconds` at most, at least once.

        Returns:
          how many runs there were; `figures` are of these and all before.
        """

    def figures(self) -> Mapping[str, Figure]:
        """Of all that was measured so far."""

    def op_costs(self) -> tuple[OpCost, ...]:
        """By op, of runs of their own on the last inputs; empty where the target cannot tell.

        Raises:
          TfqError: why it cannot for this model, or now.
        """

    def close(self) -> None:
        """Ends and removes what was started or put anywhere."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A place where models run. Subclasses are frozen too.

    Attributes:
      name: as users write it, with what follows a colon ("arm:cortex-a53").
      title: for people.
      profile: what it can hold.
      evidence: of what it measures; None if it only holds models.
    """

    name: str
    title: str
    profile: Profile = dataclasses.field(default_factory=Profile)
    evidence: Evidence | None = None

    def check(self, model: bytes) -> Placement:
        """Which op of a `.tflite` file runs where. Without a device where that can be."""
        raise NotImplementedError

    def prepare(self, model: bytes, asked: Asked) -> Prepared:
        """Makes a model ready to run.

        Raises:
          UsageError: what is asked for is not to be had here, with the way to get it.
          ModelError: the target cannot hold the model.
        """
        raise NotImplementedError
