"""What a range rule is, and how one is named."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from tfq.errors import DataError, UsageError
from tfq.observe.sketch import Sketch


@dataclasses.dataclass(frozen=True)
class RangeRule:
    """Chooses the range of one tensor from its sketch. Subclasses are frozen dataclasses.

    The grid a range stands for has `2**bits` levels from lo to hi, zero among them; or, symmetric,
    levels -q..q with q = 2**(bits-1) - 1 at lo = -hi.

    Attributes:
      name: what users call the rule.
      needs_histogram: whether statistics of mode "minmax" are not enough.
    """

    name: ClassVar[str]
    needs_histogram: ClassVar[bool] = True

    def __call__(self, sketch: Sketch, *, bits: int, symmetric: bool) -> tuple[float, float]:
        """Returns (lo, hi) with lo <= 0 <= hi within `limits` (extended to zero).

        Args:
          sketch: the tensor's statistics.
          bits: width of the integers, 2 to 16.
          symmetric: whether the zero point is fixed at zero; then lo == -hi.

        Raises:
          DataError: the sketch is empty, or lacks the histogram that the rule needs.
        """
        if not sketch.count:
            raise DataError("These statistics hold no values. Calibrate with at least one sample.")
        if self.needs_histogram and sketch.mode != "full":
            raise DataError(
                f"The range rule {self.name!r} needs histograms, but the statistics were collected "
                f"in mode {sketch.mode!r}. Calibrate in mode 'full', or use the rule 'minmax', "
                "'moving_average' or 'robust'."
            )
        lo, hi = self.choose(sketch, bits, symmetric)
        least, most = self.limits(sketch)
        lo = min(max(lo, least), 0.0)
        hi = max(min(hi, most), 0.0)
        if symmetric:
            hi = max(-lo, hi)
            lo = -hi
        return float(lo), float(hi)

    def choose(self, sketch: Sketch, bits: int, symmetric: bool) -> tuple[float, float]:
        """The rule itself. The caller clips the result and extends it to hold zero."""
        raise NotImplementedError

    def limits(self, sketch: Sketch) -> tuple[float, float]:
        """Where the caller clips the result: at the extremes, for rules that only leave out."""
        return sketch.min, sketch.max

    def get_config(self) -> dict[str, Any]:
        """The rule as plain data: its name and parameters."""
        return {"rule": self.name, **dataclasses.asdict(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RangeRule:
        """The rule that `get_config` described.

        Raises:
          UsageError: the parameters are not those of this rule.
        """
        parameters = {k: v for k, v in config.items() if k != "rule"}
        try:
            return cls(**parameters)
        except TypeError:
            known = [f.name for f in dataclasses.fields(cls)]
            raise UsageError(
                f"The range rule {cls.name!r} takes the parameters {known}. "
                f"Received: {sorted(parameters)}."
            ) from None


def require(condition: bool, rule: str, parameter: str, needs: str, received: object) -> None:
    """Raises UsageError for a rule's parameter that is out of its range."""
    if not condition:
        raise UsageError(
            f"The range rule {rule!r} needs {parameter} to be {needs}. Received: {received!r}."
        )


def quantile(edges_low: np.ndarray, edges_high: np.ndarray, counts: np.ndarray, q: float) -> float:
    """The value below which a share `q` of all counts lies, values even within each bin.

    Args:
      edges_low, edges_high: float64 [n], ascending bins.
      counts: int64 [n].
      q: in [0, 1].
    """
    reached = np.cumsum(counts)
    target = q * float(reached[-1])
    i = min(int(np.searchsorted(reached, target)), counts.size - 1)
    inside = (target - float(reached[i] - counts[i])) / float(counts[i])
    return float(edges_low[i] + (edges_high[i] - edges_low[i]) * min(max(inside, 0.0), 1.0))
