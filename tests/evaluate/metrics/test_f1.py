"""Macro F1 and the confusion matrix, against scikit-learn and counts by hand."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tfq.evaluate.metrics import confusion, get_task, score


def measured(values, labels):
    outputs = {"y": values}
    task = get_task("classification").fit(outputs, labels)
    metric = task.metric("f1")
    return metric, metric.keep(outputs, task.check(outputs, labels))


def test_macro_f1_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 200)
    values = rng.normal(size=(200, 5)) + np.eye(5)[labels]
    metric, kept = measured(values, labels)
    got = score(metric, kept)
    expected = 100 * f1_score(labels, values.argmax(axis=1), average="macro")
    assert got.value == pytest.approx(expected, abs=1e-9)
    assert got.low < got.value < got.high


@pytest.mark.parametrize("seed", range(5))
def test_the_resampled_value_is_the_value_of_the_resample(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 30)
    values = rng.normal(size=(30, 6))
    values[3, 2] = np.nan
    metric, kept = measured(values, labels)
    indices = rng.integers(0, 30, 30)
    again = {k: v[indices] for k, v in kept.items()}
    assert metric.statistic(kept)(indices) == pytest.approx(metric.compute(again), abs=1e-9)


def test_classes_without_samples_are_left_out():
    metric, kept = measured(np.eye(4)[[0, 1, 3]], np.array([0, 1, 1]))
    # Class 0 is perfect; of class 1 half is found.
    assert score(metric, kept).value == pytest.approx(100 * (1 + 2 / 3) / 2)


def test_confusion_counts_labels_in_rows():
    labels, answers = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, -1])
    assert confusion(labels, answers, 4).tolist() == [
        [1, 1, 0, 0],
        [0, 1, 0, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]
