"""Macro F1 and the confusion matrix.

F1 of a class is 2 TP / (2 TP + FP + FN); macro F1 is the mean over the classes that have samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tfq.evaluate.metrics.core import Better, Kept, Metric, Outputs, UndefinedError, require_labels
from tfq.evaluate.metrics.libraries import library


def confusion(labels: np.ndarray, answers: np.ndarray, classes: int) -> np.ndarray:
    """How often a label got an answer.

    Args:
      labels: class numbers [n].
      answers: chosen classes [n]; samples without one (-1) are in no cell.
      classes: how many.

    Returns:
      int64 [classes, classes]; rows are labels, columns answers.
    """
    there = (labels >= 0) & (labels < classes) & (answers >= 0) & (answers < classes)
    cells = labels[there].astype(np.int64) * classes + answers[there]
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MacroF1(Metric):
    """Keeps 8 bytes a sample."""

    name: str = "f1"
    title: str = "macro F1"
    unit: str = "%"
    better: Better = "higher"
    bounds: tuple[float, float] = (0, 100)
    answers: Callable[[Outputs], np.ndarray]

    def keep(
        self, outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None
    ) -> dict[str, np.ndarray]:
        chosen = self.answers(outputs)
        labels = require_labels(labels, len(chosen), "Macro F1")
        return {"answer": chosen, "label": labels.astype(np.int32)}

    def compute(self, kept: Kept) -> float:
        if not len(kept["label"]):
            raise UndefinedError("There are no samples.")
        metrics = library("sklearn.metrics", self.title)
        return 100 * float(
            metrics.f1_score(
                kept["label"],
                kept["answer"],
                labels=np.unique(kept["label"]),
                average="macro",
                zero_division=0,
            )
        )

    def statistic(self, kept: Kept) -> Callable[[np.ndarray], float]:
        # Counted here: scikit-learn takes milliseconds a call, and there are thousands.
        label, answer = kept["label"], kept["answer"] + 1
        classes = max(int(label.max()), int(answer.max())) + 2

        def resampled(indices: np.ndarray) -> float:
            true, chosen = label[indices] + 1, answer[indices]
            actual = np.bincount(true, minlength=classes)
            given = np.bincount(chosen, minlength=classes)
            right = np.bincount(true[true == chosen], minlength=classes)
            there = actual > 0
            return 100 * float(np.mean(2 * right[there] / (actual + given)[there]))

        return resampled
