"""What an observer is: a small object that is shown some tensors after each sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

FLOAT, INTEGER = "float", "integer"
"""What models are called by default: the source, and what was made of it."""


@dataclasses.dataclass(frozen=True)
class Read:
    """A tensor to read.

    Attributes:
      tensor: its name in the model's main graph, or where names tell nothing its position among
        the tensors of the file.
      model: which of the models that run side by side.
    """

    tensor: str | int
    model: str = FLOAT


@dataclasses.dataclass(frozen=True)
class Renamed:
    """A model whose inputs have names of their own.

    Attributes:
      model: `.tflite` bytes.
      inputs: the model's input -> the sample's; empty where they are the same.
    """

    model: bytes
    inputs: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Observer:
    """Looks at tensors sample by sample. Subclasses set `tensors` and have `update`.

    Observers can be pickled. One that has `merge` can be shared out: copies of it, as they were
    before the first sample, see blocks of consecutive samples, and are merged in any order. The
    samples alone decide where a block begins, not the workers.

    Attributes:
      tensors: what is read for it after each sample.
      extremes_only: whether `update_extremes` can stand for `update`; for one tensor.
    """

    tensors: Sequence[Read] = ()
    extremes_only = False

    def begin(self, number: int) -> None:
        """A block of samples begins with sample `number`."""

    def look(self, number: int, values: Sequence[np.ndarray]) -> None:
        """A first half of `update`, if it has one: comes before it, perhaps in another thread, and
        while that of the sample before still goes on.
        """

    def update(self, number: int, values: Sequence[np.ndarray]) -> None:
        """Looks at what one sample made of `tensors`.

        Args:
          number: of the sample, from 0.
          values: in the order of `tensors`: the models' own memory, so that what is kept has to be
            copied. An input is what was fed.

        Raises:
          DataError: the values are of no use; the message goes on from the tensor's name.
        """
        raise NotImplementedError

    def update_extremes(self, number: int, low: float, high: float, size: int) -> None:
        """The same, where of the tensor's `size` values only the extremes are known."""
        raise NotImplementedError

    def merge(self, other: Observer) -> None:
        """Adds what an observer of the same kind saw of other samples."""
        raise NotImplementedError

    @property
    def looks(self) -> bool:
        return type(self).look is not Observer.look

    @property
    def is_mergeable(self) -> bool:
        """Whether samples may be shared out; else it sees all of them, in order."""
        return type(self).merge is not Observer.merge
