"""Area under the ROC curve: the chance that a sample of a class scores higher than one of others.

Of several classes each is taken against the rest, and the classes that have samples are averaged
(one-vs-rest, macro). The value is scikit-learn's. Its interval comes from one value a sample, the
AUC plus the sample's influence on it (DeLong, DeLong and Clarke-Pearson, "Comparing the areas under
two or more correlated receiver operating characteristic curves", Biometrics 1988): their mean is
the AUC, and resampling their mean costs no sorting, which resampling the AUC itself would do for
every class. One sort for every class: O(classes n log n).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tfq.evaluate.metrics.core import (
    Better,
    Kept,
    Metric,
    Outputs,
    UndefinedError,
    require_labels,
    require_numbers,
)
from tfq.evaluate.metrics.libraries import library


@dataclasses.dataclass(frozen=True, kw_only=True)
class Auc(Metric):
    """Keeps 4 bytes a sample and class (of two classes, one's) and 4 for the label."""

    name: str = "auc"
    title: str = "ROC AUC"
    unit: str = ""
    better: Better = "higher"
    bounds: tuple[float, float] = (0, 1)
    probabilities: Callable[[Outputs], np.ndarray]

    def keep(
        self, outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None
    ) -> dict[str, np.ndarray]:
        scores = self.probabilities(outputs)
        labels = require_labels(labels, len(scores), self.title)
        if scores.shape[1] == 2:
            scores = scores[:, 1:]
        return {"scores": scores.astype(np.float32), "label": labels.astype(np.int32)}

    def compute(self, kept: Kept) -> float:
        metrics = library("sklearn.metrics", self.title)
        areas = [float(metrics.roc_auc_score(of, scores)) for of, scores in _one_vs_rest(kept)]
        return float(np.mean(areas))

    def values(self, kept: Kept) -> np.ndarray:
        classes = _one_vs_rest(kept)
        total = np.zeros(len(kept["label"]))
        for of, scores in classes:
            total += pseudo_values(of, scores)
        return total / len(classes)


def _one_vs_rest(kept: Kept) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each class that has samples: whether samples are of it, and their scores."""
    require_numbers(kept["scores"])
    labels, scores = kept["label"], kept["scores"]
    there = np.unique(labels)
    if len(there) == 1:
        raise UndefinedError(f"All labels are {there[0]}; ROC AUC needs samples of two classes.")
    if scores.shape[1] == 1:
        return [(labels == 1, scores[:, 0])]
    columns = np.ascontiguousarray(scores.T)
    return [(labels == c, columns[c]) for c in there]


def pseudo_values(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The AUC plus each sample's influence on it: float64 [n], whose mean is the AUC.

    Args:
      positive: which samples are of the class, bool [n]; some are, some are not.
      scores: [n]; the class's are to be higher.
    """
    up, down = np.sort(scores[positive]), np.sort(scores[~positive])
    # Of a positive: the share of negatives that it beats; a tie is half.
    beaten = _share_below(down, scores[positive])
    beating = 1 - _share_below(up, scores[~positive])
    area = float(beaten.mean())
    values = np.empty(len(scores))
    values[positive] = (beaten - area) * (len(scores) / len(up))
    values[~positive] = (beating - area) * (len(scores) / len(down))
    return values + area


def _share_below(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    low = np.searchsorted(ordered, values, side="left")
    high = np.searchsorted(ordered, values, side="right")
    return (low + high) / (2 * len(ordered))
