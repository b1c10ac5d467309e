"""What a metric and a task are.

A metric works in two halves, so that memory stays bounded and blocks can be measured anywhere:
`keep` reduces a block's outputs and labels to a few numbers a sample, in a worker; the rest reads
those of all samples. There are two kinds. A `SampleMetric` has a value for every sample, and is
their mean. A `SetMetric` exists only for the whole set: what it keeps is whatever it needs.

Percentages are numbers from 0 to 100.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from tfq.errors import DataError, UsageError, nearest

Outputs = Mapping[str, np.ndarray]
"""A block's dequantized outputs by name, in the model's order, each [n, ...]."""

Kept = Mapping[str, np.ndarray]
"""What a metric keeps, each [n, ...]."""

Labels = np.ndarray | Sequence[np.ndarray] | None
"""A block's labels as the data has them: [n, ...], a list where shapes differ, or None."""

Better = Literal["higher", "lower"]


class UndefinedError(Exception):
    """A metric has no value on this data; the message says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric(abc.ABC):
    """Attributes:
    name: what it is asked for with.
    title: what it is shown with.
    unit: "%" (0 to 100), "dB" or "".
    better: "higher" or "lower".
    needs_labels: it compares with labels.
    hits: its values are 0 or 100, a miss or a hit: McNemar's test applies.
    raw: it takes outputs as models give them, not as the task reads them (`Task.read`).
    kept_as: what it keeps is kept under this name, once for all metrics with the same; "": its own.
    bounds: lowest and highest possible value; intervals are kept inside.
    """

    name: str
    title: str
    unit: str
    better: Better
    needs_labels: bool = True
    hits: bool = False
    raw: bool = False
    kept_as: str = ""
    bounds: tuple[float, float] = (-np.inf, np.inf)

    @abc.abstractmethod
    def keep(
        self, outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None
    ) -> dict[str, np.ndarray]:
        """Reduces a block to what the metric needs of it.

        Args:
          outputs: the model's, as `Task.read` returns them.
          labels: as `Task.check` returns them, or None.
          reference: the reference model's outputs for the same samples.

        Returns:
          Arrays [n, ...], to be concatenated over the blocks in the order of the samples.
        """

    @abc.abstractmethod
    def compute(self, kept: Kept) -> float:
        """The metric's value on all samples.

        Raises:
          UndefinedError: there is none, with the reason.
        """

    def values(self, kept: Kept) -> np.ndarray | None:
        """Float64 values, one a sample, whose `final` mean is the metric; None if there are none.

        Raises:
          UndefinedError: as `compute`.
        """
        return None

    def final(self, mean: np.ndarray) -> np.ndarray:
        """What is reported of means of `values`: monotone, the means themselves unless it says."""
        return mean

    def statistic(self, kept: Kept) -> Callable[[np.ndarray], float]:
        """The metric on a resample: a function of sample indices [n]; it may raise the same."""
        return lambda indices: self.compute({k: v[indices] for k, v in kept.items()})

    def cost(self, kept: Kept) -> int:
        """About how many numbers one resample reads."""
        return sum(int(v.size) for v in kept.values())

    def copied(self, kept: Kept) -> int:
        """Bytes that one resample copies, where that bounds how many are made; 0 of few."""
        return 0


Function = Callable[[Outputs, np.ndarray | None, Outputs | None], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleMetric(Metric):
    """A mean over samples.

    Attributes:
      function: (outputs, labels, reference) -> [n]; picklable.
      transform: of the mean (RMSE: the root); monotone, picklable.
    """

    function: Function
    transform: Callable[[np.ndarray], np.ndarray] | None = None

    def per_sample(
        self, outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None
    ) -> np.ndarray:
        """The value of each sample, float64 [n]."""
        return np.asarray(self.function(outputs, labels, reference), np.float64)

    def keep(
        self, outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None
    ) -> dict[str, np.ndarray]:
        return {"values": self.per_sample(outputs, labels, reference)}

    def values(self, kept: Kept) -> np.ndarray:
        values = kept["values"]
        require_numbers(values)
        return values

    def final(self, mean: np.ndarray) -> np.ndarray:
        return mean if self.transform is None else self.transform(mean)

    def compute(self, kept: Kept) -> float:
        return float(self.final(np.mean(self.values(kept))))


def require_numbers(values: np.ndarray) -> None:
    """Raises `UndefinedError` unless there are numbers [n, ...] and all are finite."""
    if not len(values):
        raise UndefinedError("There are no samples.")
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if bad.any():
        raise UndefinedError(
            f"The outputs of {int(bad.sum())} of {len(values)} samples are NaN or infinite; the "
            f"first is sample {int(bad.argmax())}."
        )


def only(outputs: Outputs, what: str) -> tuple[str, np.ndarray]:
    """The name and the values of the one output.

    Raises:
      UsageError: there are several.
    """
    if len(outputs) != 1:
        raise UsageError(
            f"{what} is measured on one output, and the model has {len(outputs)}: "
            f"{', '.join(outputs)}. Choose one of them."
        )
    return next(iter(outputs.items()))


def array_of(labels: Labels, count: int, start: int, task: str) -> np.ndarray:
    """The labels of a block as one array of numbers, [count, ...].

    Raises:
      DataError: there are not as many, their shapes differ, or they are no numbers.
    """
    if labels is None or len(labels) != count:
        received = "none" if labels is None else str(len(labels))
        raise DataError(f"{count} samples need {count} labels. Received: {received}.")
    if not isinstance(labels, np.ndarray):
        shapes = [np.shape(label) for label in labels]
        other = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
        if other is not None:
            raise DataError(
                f"Labels of {task} have one shape. Received: {list(shapes[0])} for sample "
                f"{start} and {list(shapes[other])} for sample {start + other}."
            )
    array = np.asarray(labels)
    if array.dtype.kind not in "iubf":
        raise DataError(f"Labels of {task} are numbers. Received: labels of type {array.dtype}.")
    return array


def numbers_like(
    outputs: Outputs, labels: Labels, start: int, task: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """The one output and labels of the same shape, both float64, for tasks that compare them.

    Raises:
      DataError: their shapes differ by more than axes of size 1, or a label is not finite.
    """
    name, values = only(outputs, task.capitalize())
    values = np.asarray(values, np.float64)
    if labels is None:
        return values, None
    array = array_of(labels, len(values), start, task)
    if _squeezed(array.shape[1:]) != _squeezed(values.shape[1:]):
        raise DataError(
            f"Labels of {task} have the shape of the output {name!r}, {list(values.shape[1:])}. "
            f"Received: labels of shape {list(array.shape[1:])}."
        )
    array = array.astype(np.float64).reshape(values.shape)
    bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if bad.any():
        raise DataError(
            f"The label of sample {start + int(bad.argmax())} is NaN or infinite. Leave the sample "
            f"out, or mend it."
        )
    return values, array


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(d for d in shape if d != 1)


def require_labels(labels: np.ndarray | None, count: int, what: str) -> np.ndarray:
    """The labels of a block of `count` samples.

    Raises:
      DataError: there are none, or not as many.
    """
    if labels is None:
        raise DataError(f"{what} needs labels, and the data has none.")
    if len(labels) != count:
        raise DataError(f"There are {count} samples and {len(labels)} labels.")
    return labels


SomeTask = TypeVar("SomeTask", bound="Task")


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """What the outputs mean.

    A task that is to know more of the outputs than their shapes (whether they are logits, the
    range of an image) learns it once with `fit`, from the first block; a later block that
    contradicts is an error, and never read in another way.

    Attributes:
      flips: "answers that flip": what a probe's flips are called; "" where outputs hold no answers.
    """

    flips: ClassVar[str] = ""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """ "classification", ..."""

    @property
    @abc.abstractmethod
    def all_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that fit."""

    @property
    @abc.abstractmethod
    def default_metrics(self) -> tuple[str, ...]:
        """Names of those measured unless others are asked for."""

    def fit(self: SomeTask, outputs: Outputs, labels: Labels) -> SomeTask:
        """Learns from the first block of the reference model.

        Args:
          outputs: of the reference model.
          labels: as the data has them.
        """
        return self

    def facts(self) -> dict[str, Any]:
        """What the figures rest on besides the outputs, given or learnt by `fit`: JSON-ready."""
        return {}

    @abc.abstractmethod
    def check(self, outputs: Outputs, labels: Labels, start: int = 0) -> np.ndarray | None:
        """Sees that labels and outputs of a block fit each other and the task.

        Args:
          outputs: of any model.
          labels: as the data has them.
          start: the number of the block's first sample, for messages.

        Returns:
          The labels in the form that metrics take.

        Raises:
          DataError: they do not, naming the sample.
          UsageError: the outputs are not those of such a task.
        """

    def read(self, outputs: Outputs, labels: np.ndarray | None) -> Outputs:
        """Outputs as metrics take them: as they are, unless reading them is costly.

        Args:
          outputs: of any model.
          labels: as `check` returns them, or None.
        """
        return outputs

    def flipped(self, before: Outputs, after: Outputs) -> np.ndarray | None:
        """Which share of a sample's answers is another one, 0 to 1 [n]; None without answers.

        Args:
          before, after: a model's outputs for samples and for the same ones changed a little.
        """
        return None

    def probed(self, probe: str) -> bool:
        """Whether a probe (`tfq.evaluate.behaviour`) says something of such outputs."""
        return True

    def has(self, name: str) -> bool:
        """Whether the metric fits."""
        return name in self.all_metrics

    @abc.abstractmethod
    def _build(self, name: str) -> Metric:
        """The metric, one that fits."""

    def require(self, names: Sequence[str]) -> None:
        """Sees that metrics fit the task; it need not be fitted yet.

        Raises:
          UsageError: one does not; names those that do.
        """
        for name in names:
            if ":" not in name and not self.has(name):
                raise UsageError(
                    f"The metric {name!r} does not fit the task {self.name}. "
                    f"Choose among: {', '.join(self.all_metrics)}, or package.module:callable."
                    f"{nearest(name, self.all_metrics)}"
                )

    def metric(self, name: str) -> Metric:
        """The metric called `name`: one that fits, or "package.module:callable".

        Raises:
          UsageError: it does not fit the task; names those that do.
        """
        self.require([name])
        if ":" in name:
            from tfq.evaluate.metrics.custom import load_metric  # It builds on this module.

            return load_metric(name)
        return self._build(name)

    def metrics(self, names: Sequence[str] | None = None) -> tuple[Metric, ...]:
        """The metrics called `names`, or the default ones."""
        chosen = self.default_metrics if names is None else names
        return tuple(self.metric(name) for name in dict.fromkeys(chosen))
