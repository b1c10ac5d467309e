"""Regression, against scikit-learn and by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from tfq.errors import DataError, UsageError
from tfq.evaluate.metrics import compare, get_task, score


def measured(name, values, labels):
    outputs = {"y": values}
    task = get_task("regression").fit(outputs, labels)
    metric = task.metric(name)
    return metric, metric.keep(outputs, task.check(outputs, labels))


@pytest.mark.parametrize("shape", [(60,), (60, 1), (60, 3), (60, 2, 2)])
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("mae", mean_absolute_error),
        ("mse", mean_squared_error),
        ("rmse", lambda t, y: math.sqrt(mean_squared_error(t, y))),
        ("r2", r2_score),
    ],
)
def test_values_are_those_of_scikit_learn(name, function, shape):
    rng = np.random.default_rng(0)
    labels = rng.normal(size=shape)
    values = (labels + 0.3 * rng.normal(size=shape)).astype(np.float32)
    got = score(*measured(name, values, labels))
    expected = function(labels.reshape(60, -1), values.reshape(60, -1))
    assert got.value == pytest.approx(expected, rel=1e-9)
    assert got.low < got.value < got.high


def test_the_interval_of_the_root_is_the_root_of_the_interval():
    rng = np.random.default_rng(1)
    labels = rng.normal(size=80)
    values = labels + rng.normal(size=80)
    square, root = (score(*measured(name, values, labels)) for name in ("mse", "rmse"))
    # Percentiles between two resamples are not exactly the root's.
    assert (root.low, root.high) == pytest.approx(
        (math.sqrt(square.low), math.sqrt(square.high)), rel=1e-4
    )


def test_differences_are_of_roots_not_roots_of_differences():
    labels = np.zeros(50)
    metric, ours = measured("rmse", np.full(50, 3.0), labels)
    _, theirs = measured("rmse", np.full(50, 2.0), labels)
    found = compare(metric, ours, theirs)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    assert found.p is None


@pytest.mark.parametrize("shape", [(30, 1), (30, 4)])
def test_the_resampled_r2_is_the_r2_of_the_resample(shape):
    rng = np.random.default_rng(2)
    labels = 1000 + rng.normal(size=shape)
    metric, kept = measured("r2", labels + rng.normal(size=shape), labels)
    indices = rng.integers(0, 30, 30)
    again = r2_score(kept["label"][indices], kept["output"][indices])
    assert metric.statistic(kept)(indices) == pytest.approx(again, abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.ones((4, 1)), "R2 has no value where all labels are equal."),
        (np.array([[1.0, 2], [2, 2], [3, 2]]), "R2 has no value where all labels are equal at 1."),
        (np.ones((1, 1)), "R2 needs two samples at least."),
    ],
)
def test_r2_without_spread_is_undefined(labels, reason):
    got = score(*measured("r2", labels + 0.5, labels))
    assert (got.value, got.reason) == (None, reason)


@pytest.mark.parametrize("name", ["mae", "mse", "rmse", "r2"])
def test_outputs_that_are_no_numbers(name):
    values = np.array([1.0, 2.0, np.nan, np.inf])
    metric, kept = measured(name, values, np.arange(4.0))
    got = score(metric, kept)
    assert got.value is None
    assert "2 of 4 samples are NaN or infinite; the first is sample 2" in got.reason
    assert compare(metric, kept, kept).value is None


def test_labels_have_the_outputs_shape():
    task = get_task("regression")
    outputs = {"y": np.zeros((2, 1, 3))}
    assert task.check(outputs, np.zeros((2, 3), np.int32)).shape == (2, 1, 3)
    with pytest.raises(DataError, match=r"output 'y', \[1, 3\].*shape \[4\]"):
        task.check(outputs, np.zeros((2, 4)))
    with pytest.raises(DataError, match=r"2 samples need 2 labels\. Received: 5"):
        task.check(outputs, np.zeros((5, 3)))
    with pytest.raises(DataError, match="label of sample 41 is NaN"):
        task.check(outputs, np.array([[0.0, 0, 0], [0, np.nan, 0]]), start=40)
    assert task.check(outputs, None) is None


def test_several_outputs_need_a_choice():
    with pytest.raises(UsageError, match=r"the model has 2: a, b\. Choose"):
        get_task("regression").check({"a": np.zeros(2), "b": np.zeros(2)}, np.zeros(2))
