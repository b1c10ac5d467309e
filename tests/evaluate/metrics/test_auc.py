"""ROC AUC, against scikit-learn, pairs by brute force, and an exact bootstrap."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tfq.evaluate.metrics import compare, get_task, score
from tfq.evaluate.metrics.auc import pseudo_values


def measure(values, labels):
    outputs = {"y": np.asarray(values)}
    task = get_task("classification").fit(outputs, labels)
    metric = task.metric("auc")
    kept = metric.keep(outputs, task.check(outputs, labels))
    return metric, kept, score(metric, kept)


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_several_classes_are_averaged_one_against_the_rest():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    values = rng.normal(size=(200, 4)) + 2 * np.eye(4)[labels]
    _, _, got = measure(values, labels)
    expected = roc_auc_score(labels, softmax(values), multi_class="ovr", average="macro")
    assert got.value == pytest.approx(expected, abs=1e-6)
    assert got.low < got.value < got.high <= 1
    assert got.resamples == 2000


@pytest.mark.parametrize("columns", [1, 2])
def test_two_classes(columns):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 100)
    one = np.clip(rng.random(100) * 0.6 + 0.3 * labels, 0, 1)
    values = one[:, None] if columns == 1 else np.stack([1 - one, one], axis=1)
    assert measure(values, labels)[2].value == pytest.approx(
        roc_auc_score(labels, one.astype(np.float32)), abs=1e-12
    )


def test_ties_count_half_as_in_all_pairs():
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 5, 60).astype(np.float32)
    positive = rng.random(60) < 0.4
    pairs = [
        1.0 if p > q else 0.5 if p == q else 0.0
        for p in scores[positive]
        for q in scores[~positive]
    ]
    values = pseudo_values(positive, scores)
    assert values.mean() == pytest.approx(np.mean(pairs), abs=1e-12)
    assert values.mean() == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


def test_pseudo_values_are_the_influence_of_each_sample():
    rng = np.random.default_rng(2)
    positive = rng.random(40) < 0.5
    scores = rng.normal(size=40) + positive
    values = pseudo_values(positive, scores)
    area = roc_auc_score(positive, scores)
    # The derivative by the sample's weight, of which 1/n is its share.
    for i in range(40):
        weights = np.ones(40)
        weights[i] += 1e-4
        moved = roc_auc_score(positive, scores, sample_weight=weights)
        assert (moved - area) * 40 / 1e-4 == pytest.approx(values[i] - area, abs=1e-2)


def test_the_interval_is_that_of_resampling_the_area_itself():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 300)
    values = softmax(rng.normal(size=(300, 3)) + 1.2 * np.eye(3)[labels])
    other = softmax(np.log(values) + 0.7 * rng.normal(size=values.shape))
    metric, kept, got = measure(values, labels)
    _, kept_other, _ = measure(other, labels)
    areas, differences = [], []
    for _ in range(200):
        i = rng.integers(0, 300, 300)
        a, b = (
            roc_auc_score(labels[i], p[i], multi_class="ovr", average="macro")
            for p in (values, other)
        )
        areas.append(a)
        differences.append(b - a)
    assert (got.low, got.high) == pytest.approx(np.percentile(areas, [2.5, 97.5]), abs=0.008)
    found = compare(metric, kept_other, kept)
    assert (found.low, found.high) == pytest.approx(
        np.percentile(differences, [2.5, 97.5]), abs=0.008
    )
    assert found.value == pytest.approx(score(metric, kept_other).value - got.value, abs=1e-12)
    assert found.p is None


def test_classes_without_samples_are_left_out():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 100)
    values = softmax(rng.normal(size=(100, 3)) + np.eye(3)[labels])
    expected = np.mean([roc_auc_score(labels == c, values[:, c]) for c in (0, 1)])
    assert measure(values, labels)[2].value == pytest.approx(expected, abs=1e-6)


def test_a_perfect_classifier():
    labels = np.arange(30) % 3
    _, _, got = measure(np.eye(3)[labels], labels)
    assert (got.value, got.low, got.high) == (1.0, 1.0, 1.0)


def test_one_class_has_no_area():
    metric, kept, got = measure(np.full((5, 3), 1 / 3), np.full(5, 2))
    assert got.value is None
    assert got.low is None
    assert got.reason == "All labels are 2; ROC AUC needs samples of two classes."
    assert compare(metric, kept, kept).value is None


def test_outputs_that_are_no_numbers_have_no_area():
    values = np.full((5, 3), 1 / 3)
    values[3, 1] = np.nan
    _, _, got = measure(values, np.array([0, 1, 2, 0, 1]))
    assert got.value is None
    assert "1 of 5 samples are NaN or infinite; the first is sample 3" in got.reason


def test_all_ties_are_chance():
    assert measure(np.full((6, 3), 1 / 3), np.arange(6) % 3)[2].value == 0.5
