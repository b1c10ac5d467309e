"""A user's own metric: a function of all labels and all outputs.

It is called as fn(labels, outputs) with whole arrays, samples first; `outputs` is the array of the
only output, or a dict of arrays by name. It returns a number, or one value for each sample, whose
mean is the metric and which are compared in pairs. Attributes of the function, all optional:
`better` ("higher" unless it says "lower"), `unit`, `title`.

Cost: outputs and labels of all samples are kept, beyond 64 MB in a temporary file. Values for each
sample are resampled as means: the function is called on the whole set only, and nothing is copied.
A function that returns one number is called again on every resample, a copy of what is kept; one
resample is there at a time, and an interval copies 1 GB at most (`paired.bootstrap_statistic`):
2,000 resamples of up to 500 KB, 100 of 10 MB, 25 of 40 MB, and no interval beyond.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tfq.data.opening import import_callable
from tfq.errors import DataError, UsageError
from tfq.evaluate.metrics.core import Kept, Metric, Outputs, UndefinedError, require_numbers

_OUTPUT = "output:"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Custom(Metric):
    """Keeps outputs and labels as they are, and calls the function where all of them are.

    Attributes:
      function: (labels, outputs) -> number or [n]; it does not go along to workers.
    """

    needs_labels: bool = False
    raw: bool = True
    function: Callable[[np.ndarray | None, Any], Any] | None = dataclasses.field(
        default=None, compare=False
    )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "function": None}

    def keep(
        self, outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None
    ) -> dict[str, np.ndarray]:
        kept = {_OUTPUT + name: np.asarray(values) for name, values in outputs.items()}
        if labels is not None and labels.dtype.hasobject:
            raise DataError(
                f"The metric {self.name} is given all labels as one array, and their sizes differ. "
                "Give labels of one size."
            )
        if labels is not None:
            kept["label"] = labels
        return kept

    def compute(self, kept: Kept) -> float:
        return float(np.mean(self._result(kept)))

    def values(self, kept: Kept) -> np.ndarray | None:
        result = self._result(kept)
        return result if result.ndim else None

    def statistic(self, kept: Kept) -> Callable[[np.ndarray], float]:
        of = super().statistic(kept)

        def resampled(indices: np.ndarray) -> float:
            try:
                return of(indices)
            except DataError as e:  # The function can do all samples, and not this resample.
                raise UndefinedError(str(e)) from e

        return resampled

    def cost(self, kept: Kept) -> int:
        # The function is likely to read its arguments several times.
        return 10 * super().cost(kept)

    def copied(self, kept: Kept) -> int:
        return sum(v.nbytes for v in kept.values())

    def _result(self, kept: Kept) -> np.ndarray:
        """What the function returns, float64: [] or [n]."""
        if self.function is None:
            raise ValueError("A metric that was sent to a worker has no function there.")
        outputs = {k[len(_OUTPUT) :]: v for k, v in kept.items() if k.startswith(_OUTPUT)}
        given = next(iter(outputs.values())) if len(outputs) == 1 else outputs
        count = len(next(iter(outputs.values())))
        try:
            returned = self.function(kept.get("label"), given)
        except Exception as e:
            why = f"{type(e).__name__}: {e}".rstrip(" :.")
            raise DataError(
                f"The metric {self.name} failed: {why}. It was called with the labels and the "
                f"outputs of {count} samples."
            ) from e
        try:
            result = None if returned is None else np.asarray(returned, np.float64)
        except (TypeError, ValueError):
            result = None
        if result is None or result.shape not in ((), (count,)):
            received = (
                f"a {type(returned).__name__}" if result is None else f"shape {list(result.shape)}"
            )
            raise DataError(
                f"The metric {self.name} has to return a number, or one for each of the {count} "
                f"samples. Received: {received}."
            )
        if result.ndim:
            require_numbers(result)
        elif not np.isfinite(result):
            raise UndefinedError(f"The function returned {float(result)}.")
        return result


def load_metric(metric: str | Callable[..., Any]) -> Metric:
    """A user's own metric.

    Args:
      metric: "package.module:callable", imported with the current folder on the path, or the
        function itself.

    Raises:
      UsageError: there is no such module or callable, or its attributes are wrong.
      DataError: the module fails while it is imported.
    """
    if isinstance(metric, str):
        function, name = import_callable(metric, "metric", "takes labels and outputs"), metric
    else:
        function = metric
        name = getattr(function, "__name__", type(function).__name__)
    better = getattr(function, "better", "higher")
    if better not in ("higher", "lower"):
        raise UsageError(
            f"The attribute better of the metric {name} is 'higher' or 'lower'. "
            f"Received: {better!r}."
        )
    title = str(getattr(function, "title", name.rpartition(":")[2]))
    unit = str(getattr(function, "unit", ""))
    return Custom(
        name=name,
        title=title,
        unit=unit,
        better="lower" if better == "lower" else "higher",
        function=function,
    )
