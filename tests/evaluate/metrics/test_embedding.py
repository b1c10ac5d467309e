"""Cosine and retrieval, against brute force."""

import numpy as np
import pytest

from tfq.errors import DataError, UsageError
from tfq.evaluate.metrics import compare, get_task, score


def recall(values, labels):
    outputs = {"e": np.asarray(values, np.float32)}
    task = get_task("embedding").fit(outputs, labels)
    metric = task.metric("recall1")
    kept = metric.keep(outputs, task.check(outputs, labels))
    return metric, kept, score(metric, kept)


def brute_force(values, labels):
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    near = unit @ unit.T
    np.fill_diagonal(near, -2)
    asked = np.array([np.sum(labels == label) > 1 for label in labels])
    return 100 * np.mean((labels[near.argmax(axis=1)] == labels)[asked])


def test_recall_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 30, 120)
    values = rng.normal(size=(30, 16))[labels] + 0.9 * rng.normal(size=(120, 16))
    values *= rng.random((120, 1)) * 10
    _, _, got = recall(values, labels)
    assert got.value == pytest.approx(brute_force(values, labels), abs=1e-9)
    assert 0 < got.low < got.value < got.high < 100


def test_samples_that_are_alone_are_not_asked_for():
    values = np.array([[1, 0], [1, 0.1], [0, 1]])
    assert recall(values, np.array([5, 5, 7]))[2].value == 100
    alone = recall(values, np.array([5, 6, 7]))[2]
    assert alone.value is None
    assert alone.reason == "No two samples have the same label: there is nothing to find."


def test_equal_vectors_are_not_oneself():
    values = np.ones((6, 3))
    assert recall(values, np.zeros(6, int))[2].value == 100
    pairs = np.repeat(np.eye(3), 2, axis=0)
    assert recall(pairs, np.array([0, 1, 2, 3, 0, 1]))[2].value == 0


def test_retrieval_is_compared_in_pairs():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 80)
    values = rng.normal(size=(10, 8))[labels] + 0.8 * rng.normal(size=(80, 8))
    metric, kept, _ = recall(values, labels)
    _, worse, got = recall(values + 2 * rng.normal(size=values.shape), labels)
    found = compare(metric, worse, kept)
    assert found.value == pytest.approx(got.value - score(metric, kept).value)
    assert found.high < 0
    assert found.p < 0.01


def test_vectors_that_are_no_numbers():
    values = np.ones((4, 2))
    values[1, 0] = np.nan
    assert "the first is sample 1" in recall(values, np.zeros(4, int))[2].reason


def test_cosine_is_to_the_references_vector():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 4))
    a[3], b[3], a[4] = 0, 0, 0
    metric = get_task("embedding").metric("cosine")
    assert not metric.needs_labels
    got = metric.per_sample({"e": a}, None, {"e": b})
    expected = [
        x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a[:3], b, strict=False)
    ]
    np.testing.assert_allclose(got, [*expected, 1, 0], atol=1e-12)
    assert metric.per_sample({"e": a}, None, {"e": a}).tolist() == [1] * 5


def test_a_cosine_of_nan_is_reported():
    metric = get_task("embedding").metric("cosine")
    values = np.array([[1.0, np.nan], [1.0, 2.0]])
    kept = metric.keep({"e": values}, None, {"e": np.ones((2, 2))})
    assert "1 of 2 samples are NaN" in score(metric, kept).reason


def test_labels_are_whole_numbers_of_any_size():
    task = get_task("embedding")
    outputs = {"e": np.ones((2, 4))}
    assert task.check(outputs, np.array([[70000], [-3]])).tolist() == [70000, -3]
    assert task.check(outputs, None) is None
    with pytest.raises(DataError, match=r"Sample 8 has the label 0\.5"):
        task.check(outputs, np.array([0.5, 1]), start=8)
    with pytest.raises(DataError, match="A label is a class number"):
        task.check(outputs, np.eye(2))
    with pytest.raises(UsageError, match="several values"):
        task.check({"e": np.ones((2, 1))}, np.zeros(2))
