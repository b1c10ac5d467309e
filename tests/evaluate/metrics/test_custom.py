"""Metrics of the user's own."""

import pickle

import numpy as np
import pytest

from tests.evaluate.metrics.kept_blocks import joined
from tfq.errors import DataError, UsageError
from tfq.evaluate import paired
from tfq.evaluate.metrics import compare, get_task, load_metric, score

MODULE = """
import numpy as np

def worst(labels, outputs):
    return np.abs(outputs - labels).max()

def each(labels, outputs):
    return np.abs(outputs - labels)
each.better = "lower"
each.unit = "dB"
each.title = "distance"

wrong = 3
def odd(labels, outputs): return 0
odd.better = "more"
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_tfq_metrics.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_tfq_metrics"


def kept_of(metric, values, labels):
    return metric.keep({"y": np.asarray(values, float)}, labels)


def test_a_function_that_returns_a_number(module):
    metric = load_metric(f"{module}:worst")
    assert (metric.name, metric.title) == (f"{module}:worst", "worst")
    assert (metric.better, metric.unit) == ("higher", "")
    labels = np.zeros(20)
    got = score(metric, kept_of(metric, np.arange(20), labels))
    assert got.value == 19
    assert got.low < got.value
    assert got.resamples == 2000
    found = compare(metric, *(kept_of(metric, np.arange(20) * s, labels) for s in (2, 1)))
    assert found.value == 19
    assert found.p is None


def test_a_function_that_returns_a_value_a_sample(module):
    metric = get_task("regression").metric(f"{module}:each")
    assert (metric.title, metric.better, metric.unit) == ("distance", "lower", "dB")
    labels = np.zeros(20)
    one, other = (kept_of(metric, np.arange(20.0) + s, labels) for s in (0, 3))
    got = score(metric, one)
    assert got.value == 9.5
    assert got.low < 9.5 < got.high
    # Paired: every sample differs by the same.
    found = compare(metric, other, one)
    assert (found.value, found.low, found.high) == pytest.approx((3, 3, 3))


def test_several_outputs_come_as_a_dict_and_labels_may_be_missing():
    def lengths(labels, outputs):
        assert labels is None
        return float(sum(len(v) for v in outputs.values()))

    metric = load_metric(lengths)
    assert metric.name == "lengths"
    outputs = {"a": np.zeros((3, 2)), "b/c": np.zeros(3)}
    parts = [metric.keep(outputs, None) for _ in range(2)]
    assert score(metric, joined(parts)).value == 12


def test_the_function_stays_where_it_is():
    metric = pickle.loads(pickle.dumps(load_metric(lambda labels, outputs: 0)))
    assert metric.keep({"y": np.ones(3)}, np.zeros(3)).keys() == {"output:y", "label"}


def test_what_fails_says_why():
    def broken(labels, outputs):
        raise KeyError("weights")

    metric = load_metric(broken)
    with pytest.raises(DataError, match=r"metric broken failed: KeyError: 'weights'.*5 samples"):
        score(metric, kept_of(metric, np.ones(5), np.ones(5)))


@pytest.mark.parametrize("text", ["boom", "boom.", ""])
def test_what_fails_ends_its_sentence(text):
    def broken(labels, outputs):
        raise RuntimeError(text)

    metric = load_metric(broken)
    with pytest.raises(DataError, match=rf"RuntimeError{': boom' if text else ''}\. It was called"):
        score(metric, kept_of(metric, np.ones(5), None))


def test_resamples_copy_a_bounded_amount(monkeypatch):
    calls = []

    def spread(labels, outputs):
        calls.append(outputs.nbytes)
        return float(outputs.std())

    metric = load_metric(spread)
    values = np.random.default_rng(0).normal(size=1000)
    kept = kept_of(metric, values, None)
    assert metric.copied(kept) == 8000
    full = score(metric, kept)
    calls.clear()
    monkeypatch.setattr(paired, "COPIED", 8000 * 40)
    few = score(metric, kept)
    # The value, whether it is one for each sample, and the value that the interval is around.
    assert (few.resamples, len(calls)) == (40, 43)
    assert few.high - few.value == pytest.approx(few.value - few.low)
    assert few.high - few.low == pytest.approx(full.high - full.low, rel=0.4)
    monkeypatch.setattr(paired, "COPIED", 8000 * 24)
    assert (score(metric, kept).low, compare(metric, kept, kept).low) == (None, None)
    assert compare(metric, kept, kept).value == 0


def test_values_of_samples_are_resampled_without_the_function():
    calls = []

    def errors(labels, outputs):
        calls.append(len(outputs))
        return np.abs(outputs)

    metric = load_metric(errors)
    kept = kept_of(metric, np.random.default_rng(0).normal(size=1000), None)
    assert score(metric, kept).resamples == 2000
    assert calls == [1000, 1000]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("good", "Received: a str"),
        (None, "Received: a NoneType"),
        (np.zeros((5, 2)), r"Received: shape \[5, 2\]"),
        (np.zeros(4), r"Received: shape \[4\]"),
        ({"value": 1}, "Received: a dict"),
    ],
)
def test_what_returns_something_else(returned, message):
    metric = load_metric(lambda labels, outputs: returned)
    with pytest.raises(DataError, match=f"a number, or one for each of the 5 samples.*{message}"):
        score(metric, kept_of(metric, np.ones(5), np.ones(5)))


def test_what_is_not_a_number_is_undefined():
    metric = load_metric(lambda labels, outputs: float("nan"))
    assert score(metric, kept_of(metric, np.ones(5), None)).reason == "The function returned nan."
    metric = load_metric(lambda labels, outputs: np.array([1.0, np.nan]))
    assert "first is sample 1" in score(metric, kept_of(metric, np.ones(2), None)).reason


def test_a_resample_on_which_it_fails_is_left_out():
    def mean_of_first_class(labels, outputs):
        if not (labels == 0).any():
            raise ValueError("no class 0")
        return float(outputs[labels == 0].mean())

    metric = load_metric(mean_of_first_class)
    got = score(metric, kept_of(metric, np.arange(10.0), np.array([0, 0] + [1] * 8)))
    assert got.value == 0.5
    assert 1600 < got.resamples < 2000
    assert got.low <= 0.5 <= got.high


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("{}:wrst", UsageError, "has no 'wrst'. Did you mean 'worst'"),
        ("{}:wrong", UsageError, "not callable; it is a int. Name a function that takes labels"),
        ("{}:odd", UsageError, "'higher' or 'lower'. Received: 'more'"),
        ("no_such_module_x:f", UsageError, "no module 'no_such_module_x' for the metric"),
        ("not a name:", UsageError, "not of the form package.module:callable"),
    ],
)
def test_names_that_lead_nowhere(module, name, error, message):
    with pytest.raises(error, match=message):
        load_metric(name.format(module))
