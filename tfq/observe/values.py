"""The values themselves, of few samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tfq.observe.observer import Observer, Read


class ValuesObserver(Observer):
    """Keeps what tensors hold, sample by sample. Memory grows with the samples.

    Args:
      tensors: to keep.
      part: which part of a tensor's values to keep, of this module's user's own; all by default.
    """

    def __init__(
        self, tensors: Sequence[Read], part: Callable[[np.ndarray], np.ndarray] | None = None
    ):
        self.tensors = tuple(tensors)
        self._part = part
        self._kept: dict[int, list[np.ndarray]] = {}

    def update(self, number: int, values: Sequence[np.ndarray]) -> None:
        of = self._part
        self._kept[number] = [np.array(v if of is None else of(v)) for v in values]

    def merge(self, other: Observer) -> None:
        assert isinstance(other, ValuesObserver)
        self._kept.update(other._kept)

    def result(self) -> list[list[np.ndarray]]:
        """For each sample the values of each tensor."""
        return [self._kept[n] for n in sorted(self._kept)]
