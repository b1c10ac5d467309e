"""Classification: one class number a sample.

The output is [n, classes], or [n, 1]: the score of class 1 of two.

Scores are probabilities or logits, decided once from the first block of the reference model:
probabilities when every value lies in [0, 1] and, of several classes, every row sums to 1, both up
to what rounding to steps of 1/256 can do; logits otherwise. Logits go through softmax (sigmoid for
a single output) before they are a confidence, and a single logit's threshold is 0 instead of 0.5.

A row with a NaN has no answer (-1), which is never right.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from tfq.errors import DataError, UsageError
from tfq.evaluate.metrics import auc, calibration, f1
from tfq.evaluate.metrics.core import (
    Labels,
    Metric,
    Outputs,
    SampleMetric,
    Task,
    array_of,
    only,
    require_labels,
)

Scores = Literal["probabilities", "logits"]

_STEP = 1 / 256
_TOP = re.compile(r"top([1-9]\d*)")


def scores_of(outputs: Outputs) -> np.ndarray:
    """The scores [n, classes] (or [n, 1]) of a classifier's one output."""
    name, values = only(outputs, "Classification")
    width = values.shape[-1] if values.ndim > 1 else 1
    if values.size != len(values) * width or not width:
        raise UsageError(
            f"Classification needs an output of shape [classes] for each sample; the output "
            f"{name!r} has {list(values.shape[1:])}. Choose another task or output."
        )
    return values.reshape(len(values), width)


def class_count(scores: np.ndarray) -> int:
    """How many classes scores [n, width] tell apart: a single score tells two."""
    return max(scores.shape[1], 2)


def scores_kind(scores: np.ndarray) -> Scores:
    """Whether scores [n, width] are probabilities or logits; the rule is the module's."""
    scores = np.asarray(scores[~np.isnan(scores).any(axis=1)], np.float64)
    if np.any((scores < -_STEP) | (scores > 1 + _STEP)):
        return "logits"
    if scores.shape[1] > 1:
        # Every value may be half a step off.
        slack = 0.01 + scores.shape[1] * _STEP / 2
        if np.any(np.abs(scores.sum(axis=1) - 1) > slack):
            return "logits"
    return "probabilities"


def answers(outputs: Outputs, kind: Scores) -> np.ndarray:
    """The class that a classifier chooses: int32 [n], -1 where a score is NaN."""
    scores = scores_of(outputs)
    if scores.shape[1] == 1:
        chosen = (scores[:, 0] > (0.5 if kind == "probabilities" else 0.0)).astype(np.int32)
    else:
        chosen = scores.argmax(axis=1).astype(np.int32)
    chosen[np.isnan(scores).any(axis=1)] = -1
    return chosen


def probabilities(outputs: Outputs, kind: Scores) -> np.ndarray:
    """Float64 [n, classes]; a single output's are those of classes 0 and 1.

    Probabilities are taken as they are, even where a quantized row does not quite sum to 1.
    """
    scores = np.asarray(scores_of(outputs), np.float64)
    if kind == "probabilities":
        return scores if scores.shape[1] > 1 else np.concatenate([1 - scores, scores], axis=1)
    from scipy import special  # A tenth of a second, for logits only.

    if scores.shape[1] == 1:
        one = special.expit(scores)
        return np.concatenate([1 - one, one], axis=1)
    with np.errstate(invalid="ignore"):  # An infinite logit: NaN, which the metric reports.
        return np.asarray(special.softmax(scores, axis=1))


def confidences(outputs: Outputs, kind: Scores) -> np.ndarray:
    """The probability of the chosen class: float32 [n]."""
    return probabilities(outputs, kind).max(axis=1).astype(np.float32)


def top_hits(
    outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None, *, k: int, kind: Scores
) -> np.ndarray:
    """100 where the label is among the k highest scores, else 0; of equal scores the lower class
    comes first, as in argmax."""
    scores = scores_of(outputs)
    labels = require_labels(labels, len(scores), "Accuracy")
    if k == 1:
        return 100.0 * (answers(outputs, kind) == labels)
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    before = np.arange(scores.shape[1]) < labels[:, None]
    rank = np.count_nonzero((scores > own) | ((scores == own) & before), axis=1)
    return 100.0 * ((rank < k) & ~np.isnan(scores).any(axis=1))


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Attributes:
    scores: "probabilities" or "logits"; None until `fit` decides.
    classes: how many; 0 until `fit`.
    """

    scores: Scores | None = None
    classes: int = 0

    flips = "answers that flip"

    @property
    def name(self) -> str:
        return "classification"

    @property
    def all_metrics(self) -> tuple[str, ...]:
        top: tuple[str, ...] = ("top5", "top<k>") if not 1 < self.classes <= 5 else ("top<k>",)
        top = () if self.classes == 2 else top
        return ("top1", *top, "auc", "f1", "ece")

    @property
    def default_metrics(self) -> tuple[str, ...]:
        # Of few classes the right one is nearly always among five.
        return ("top1", "top5", "ece") if self.classes > 20 else ("top1", "ece")

    def fit(self, outputs: Outputs, labels: Labels) -> Classification:
        scores = scores_of(outputs)
        return Classification(self.scores or scores_kind(scores), class_count(scores))

    def facts(self) -> dict[str, Any]:
        return {"scores": self.scores}

    def _kind(self) -> Scores:
        if self.scores is None:
            raise ValueError("The task has to be fitted first.")
        return self.scores

    def answers(self, outputs: Outputs) -> np.ndarray:
        """The chosen classes, int32 [n]; -1 where a score is NaN."""
        return answers(outputs, self._kind())

    def flipped(self, before: Outputs, after: Outputs) -> np.ndarray:
        return self.answers(before) != self.answers(after)

    def confidences(self, outputs: Outputs) -> np.ndarray:
        """The probability of the chosen class, float32 [n]."""
        return confidences(outputs, self._kind())

    def check(self, outputs: Outputs, labels: Labels, start: int = 0) -> np.ndarray | None:
        """As `Task.check`.

        Args:
          outputs, start: as there.
          labels: class numbers from 0, [n] or [n, 1], or one-hot rows [n, classes].

        Returns:
          Class numbers, int64 [n].
        """
        scores = scores_of(outputs)
        name = next(iter(outputs))
        if self.scores == "probabilities":
            check_probabilities(scores, name, start)
        if labels is None:
            return None
        classes = class_count(scores)
        array = array_of(labels, len(scores), start, self.name)
        numbers = class_numbers(array, classes, start)
        wrong = (numbers < 0) | (numbers >= classes)
        if wrong.any():
            at = int(wrong.argmax())
            raise DataError(
                f"Sample {start + at} has the label {numbers[at]}, and the model's output "
                f"{name!r} has {classes} classes (0 to {classes - 1}). Labels are class numbers "
                f"that count from 0; for numbers that are no classes, choose the task regression."
            )
        return numbers

    def check_classes(self, class_names: Sequence[str], classes: int) -> None:
        """Sees that the named classes of a data set are the model's.

        Args:
          class_names: the sorted names, of folders or in a CSV.
          classes: how many the model's output tells apart (a single score: 2).

        Raises:
          DataError: their numbers differ, so that labels would mean other classes.
        """
        classes = max(classes, 2)
        if len(class_names) != classes:
            shown = ", ".join(class_names[:5]) + (", ..." if len(class_names) > 5 else "")
            raise DataError(
                f"The data has {len(class_names)} classes ({shown}), and the model's output has "
                f"{classes} classes. A label is the place of its name among the sorted names: "
                f"there has to be a name for every class (an empty folder counts), or give class "
                f"numbers."
            )

    def has(self, name: str) -> bool:
        return name in ("auc", "f1", "ece") or _TOP.fullmatch(name) is not None

    def _build(self, name: str) -> Metric:
        kind = self._kind()
        chosen = functools.partial(answers, kind=kind)
        if name == "auc":
            return auc.Auc(probabilities=functools.partial(probabilities, kind=kind))
        if name == "ece":
            confident = functools.partial(confidences, kind=kind)
            return calibration.Ece(confidences=confident, answers=chosen)
        if name == "f1":
            return f1.MacroF1(answers=chosen)
        return self._top(int(name.removeprefix("top")))

    def _top(self, k: int) -> Metric:
        if k > 1 and k >= self.classes > 0:
            raise UsageError(
                f"top{k} of {self.classes} classes is always 100 %. Choose a k below "
                f"{self.classes}. Received: top{k}."
            )
        return SampleMetric(
            name=f"top{k}",
            title=f"top-{k} accuracy",
            unit="%",
            better="higher",
            hits=True,
            bounds=(0, 100),
            function=functools.partial(top_hits, k=k, kind=self._kind()),
        )


def check_probabilities(scores: np.ndarray, name: str, start: int) -> None:
    """Sees that scores that are read as probabilities are between 0 and 1.

    Args:
      scores: one row a sample, [n, values].
      name: of the output.
      start: the number of the first sample.

    Raises:
      DataError: one is not; names the sample.
    """
    outside = ((scores < -_STEP) | (scores > 1 + _STEP)).any(axis=1)
    if outside.any():
        at = int(outside.argmax())
        row = scores[at]
        value = row[(row < -_STEP) | (row > 1 + _STEP)][0]
        raise DataError(
            f"The output {name!r} is read as probabilities, by what was given or the first "
            f"samples, and has the value {value:.4g} in sample {start + at}. If these are "
            f"logits, say so with --scores=logits (from Python: scores='logits')."
        )


def one_hot(labels: np.ndarray) -> bool:
    """Whether labels [n, classes] are one-hot rows."""
    return bool(
        labels.ndim == 2
        and labels.shape[1] > 1
        and np.isin(labels, (0, 1)).all()
        and (labels.sum(axis=1) == 1).all()
    )


def class_numbers(labels: np.ndarray, classes: int, start: int) -> np.ndarray:
    """Labels as int64 class numbers [n].

    Args:
      labels: class numbers [n] or [n, 1], whole ones, or one-hot rows [n, classes].
      classes: how many; 0 where that is open, and rows are not one-hot.
      start: the number of the first sample, for messages.

    Raises:
      DataError: they are neither.
    """
    if classes and labels.shape[1:] == (classes,) and one_hot(labels):
        return labels.argmax(axis=1).astype(np.int64)
    if labels.size != len(labels):
        rows = f", or a one-hot row of {classes}" if classes else ""
        raise DataError(
            f"A label is a class number{rows}. "
            f"Received: labels of shape {list(labels.shape[1:])}, for sample {start} and others."
        )
    flat = labels.reshape(-1)
    if flat.dtype.kind == "f":
        whole = np.isfinite(flat) & (flat == np.round(flat)) & (np.abs(flat) < 2**53)
        if not whole.all():
            at = int((~whole).argmax())
            raise DataError(
                f"Sample {start + at} has the label {flat[at]}, which is no class number. "
                f"For numbers that are no classes, choose the task regression."
            )
    return flat.astype(np.int64)
