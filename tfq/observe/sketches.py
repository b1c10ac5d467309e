"""The sketch of a tensor: extremes, and the histogram that range rules read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfq.observe.observer import Observer, Read
from tfq.observe.sketch import Sketch

_UNBOUNDED = (-np.inf, np.inf)


class SketchObserver(Observer):
    """Fills a `Sketch`.

    Args:
      tensor: of float32.
      mode: of the sketch: "full", or "minmax" for extremes in passing.
      bounds: what no value can lie beyond.

    Attributes:
      sketch: of the samples so far.
    """

    def __init__(self, tensor: Read, mode: str = "full", bounds: tuple[float, float] = _UNBOUNDED):
        self.tensors = (tensor,)
        self.extremes_only = mode == "minmax"
        self.mode, self.bounds = mode, bounds
        self._sketch: Sketch | None = None

    @property
    def sketch(self) -> Sketch:
        # Not before it is needed: a histogram takes 256 KB, which workers need not be sent.
        if self._sketch is None:
            self._sketch = Sketch(self.mode)
        return self._sketch

    def update(self, number: int, values: Sequence[np.ndarray]) -> None:
        self.sketch.update(values[0], self.bounds)

    def update_extremes(self, number: int, low: float, high: float, size: int) -> None:
        self.sketch.update_extremes(low, high, size)

    def merge(self, other: Observer) -> None:
        assert isinstance(other, SketchObserver)
        self._sketch = self.sketch.merge(other.sketch)
