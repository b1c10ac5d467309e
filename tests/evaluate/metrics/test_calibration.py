"""Expected calibration error and the reliability diagram, against the definition in loops."""

import numpy as np
import pytest

from tfq.evaluate.metrics import compare, ece_of_bins, get_task, reliability, score
from tfq.evaluate.metrics.calibration import expected_calibration_error


def brute_force(confidence, hits, bins):
    total = 0.0
    for i in range(bins):
        inside = [
            j for j, c in enumerate(confidence) if i / bins < c <= (i + 1) / bins or (c == 0 == i)
        ]
        if inside:
            accuracy = sum(bool(hits[j]) for j in inside) / len(inside)
            mean = sum(float(confidence[j]) for j in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


def measured(values, labels, **options):
    outputs = {"y": values}
    task = get_task("classification", **options).fit(outputs, labels)
    metric = task.metric("ece")
    return metric, metric.keep(outputs, task.check(outputs, labels))


def test_the_error_is_the_weighted_gap_of_fifteen_bins():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 500)
    values = rng.dirichlet(np.ones(4), 500)
    metric, kept = measured(values, labels)
    confidence = values.max(axis=1).astype(np.float32)
    expected = brute_force(confidence, values.argmax(axis=1) == labels, 15)
    got = score(metric, kept)
    assert got.value == pytest.approx(expected, abs=1e-9)
    assert 0 <= got.low < got.high <= 1


def test_logits_go_through_softmax():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 100)
    values = rng.dirichlet(np.ones(4), 100)
    metric, kept = measured(values, labels)
    _, from_logits = measured(np.log(values) + 7, labels)
    assert score(metric, from_logits).value == pytest.approx(score(metric, kept).value, abs=1e-6)


def test_a_single_score_is_confident_in_either_class():
    metric, kept = measured(np.array([[0.1], [0.8]]), np.array([0, 0]))
    np.testing.assert_allclose(kept["confidence"], [0.9, 0.8], rtol=1e-6)
    # 0.9 and right, 0.8 and wrong.
    assert score(metric, kept).value == pytest.approx((0.1 + 0.8) / 2, abs=1e-6)


def test_bars_hold_what_falls_into_them():
    bars = reliability(np.array([0.0, 0.5, 0.5, 0.51, 1.0]), np.array([0, 1, 0, 1, 1]), bins=2)
    assert [(b.low, b.high, b.count) for b in bars] == [(0.0, 0.5, 3), (0.5, 1.0, 2)]
    assert bars[0].confidence == pytest.approx(1 / 3)
    assert bars[0].accuracy == pytest.approx(1 / 3)
    assert bars[1].confidence == pytest.approx(0.755)
    assert bars[1].accuracy == 1.0


def test_an_empty_bar_has_no_accuracy():
    bars = reliability(np.array([0.9]), np.array([True]), bins=3)
    assert [(b.count, b.confidence, b.accuracy) for b in bars] == [
        (0, None, None),
        (0, None, None),
        (1, 0.9, 1.0),
    ]


def test_the_error_of_the_bars_is_the_error():
    rng = np.random.default_rng(1)
    confidence, hits = rng.random(500), rng.random(500) < 0.6
    found = ece_of_bins(reliability(confidence, hits))
    assert found == pytest.approx(expected_calibration_error(confidence, hits), abs=1e-12)
    assert ece_of_bins(reliability(np.zeros(0), np.zeros(0))) is None


def test_the_resampled_error_is_the_error_of_the_resample():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 80)
    metric, kept = measured(rng.dirichlet(np.ones(3), 80), labels)
    indices = rng.integers(0, 80, 80)
    again = {k: v[indices] for k, v in kept.items()}
    assert metric.statistic(kept)(indices) == pytest.approx(metric.compute(again), abs=1e-12)


def test_a_model_and_itself_do_not_differ():
    rng = np.random.default_rng(3)
    metric, kept = measured(rng.dirichlet(np.ones(3), 80), rng.integers(0, 3, 80))
    got = compare(metric, kept, kept)
    assert (got.value, got.low, got.high) == (0, 0, 0)


def test_confidence_that_is_no_number():
    values = np.array([[0.5, 0.5], [np.nan, 0.5]])
    metric, kept = measured(values, np.array([0, 1]))
    assert "1 of 2 samples are NaN" in score(metric, kept).reason
