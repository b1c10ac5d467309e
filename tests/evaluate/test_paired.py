"""Paired statistics, against scipy, brute force and known distributions."""

import math

import numpy as np
import pytest
from scipy import stats

from tfq.evaluate.paired import (
    COPIED,
    Agreement,
    bootstrap_statistic,
    flips,
    interval,
    mcnemar,
    resampled_means,
    resamples_for,
    sentence,
    verdict,
)


def mean_interval(values, resamples=2000, seed=0):
    return interval(resampled_means([values], resamples, seed)[:, 0])


def exact_mcnemar(lost, gained):
    """Both tails of a fair coin by summing binomial coefficients."""
    n = lost + gained
    tail = sum(math.comb(n, k) for k in range(min(lost, gained) + 1)) / 2**n
    return min(1.0, 2 * tail)


@pytest.mark.parametrize(
    ("lost", "gained"), [(25, 5), (5, 25), (1, 0), (7, 7), (40, 38), (5200, 5000)]
)
def test_mcnemar_is_the_two_sided_exact_test(lost, gained):
    a = np.array([True] * lost + [False] * gained + [True] * 3 + [False] * 4)
    b = np.array([False] * lost + [True] * gained + [True] * 3 + [False] * 4)
    found = mcnemar(a, b)
    assert found[:2] == (lost, gained)
    assert found[2] == pytest.approx(exact_mcnemar(lost, gained), abs=1e-12)


def test_without_a_discordant_sample_p_is_one():
    right = np.array([True, False, True])
    assert mcnemar(right, right) == (0, 0, 1.0)


def test_flips_are_counted_in_all_directions():
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    reference = np.array([0, 1, 0, 1, 0, 2, -1])
    answers = np.array([0, 2, 2, 2, 0, 1, 1])
    assert flips(reference, answers, labels) == Agreement(
        7, 2 / 7, 2, 1, 2, pytest.approx(exact_mcnemar(2, 1))
    )


def test_without_labels_flips_have_no_direction():
    found = flips(np.array([0, 1]), np.array([0, 0]), None)
    assert found == Agreement(2, 0.5, None, None, None, None)


def test_the_same_model_agrees_with_itself():
    answers = np.array([0, 1, 1])
    assert flips(answers, answers, np.array([0, 0, 1])) == Agreement(3, 1.0, 0, 0, 0, 1.0)


@pytest.mark.parametrize("kind", ["hits", "numbers"])
def test_a_means_interval_is_as_wide_as_its_standard_error(kind):
    rng = np.random.default_rng(1)
    values = 100.0 * (rng.random(3000) < 0.6) if kind == "hits" else rng.gamma(2, 5, 3000)
    low, high = mean_interval(values, 4000)
    error = values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_counts_and_single_draws_have_the_same_distribution():
    rng = np.random.default_rng(2)
    values = 1.0 * (rng.random(400) < 0.3)
    # A change far below the spread makes all values distinct, which draws sample by sample.
    apart = values + 1e-9 * np.arange(400)
    few, many = (resampled_means([v], 3000, 5)[:, 0].round(5) for v in (values, apart))
    assert stats.ks_2samp(few, many).pvalue > 1e-3
    assert few.std() == pytest.approx(many.std(), rel=0.06)


def test_scipy_finds_the_same_interval():
    values = np.random.default_rng(3).exponential(2.0, 500)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=4
    ).confidence_interval
    error = values.std() / math.sqrt(500)
    assert mean_interval(values, 4000) == pytest.approx((theirs.low, theirs.high), abs=0.2 * error)


@pytest.mark.parametrize("kind", ["hits", "numbers"])
def test_differences_are_paired(kind):
    rng = np.random.default_rng(6)
    a = 100.0 * (rng.random(2000) < 0.7) if kind == "hits" else rng.normal(50, 30, 2000)
    b = a.copy()
    b[:40] += 100 if kind == "hits" else rng.normal(100, 1, 40)
    means = resampled_means([b, a])
    low, high = interval(means[:, 0] - means[:, 1])
    # Unpaired, it would be some 2.8 (1.8) to each side.
    error = (b - a).std() / math.sqrt(2000)
    assert (low, high) == pytest.approx((2 - 1.96 * error, 2 + 1.96 * error), abs=0.2 * error + 0.1)


def test_columns_share_their_resamples():
    values = np.random.default_rng(0).normal(size=200)
    means = resampled_means([values, 3 * values], 50)
    np.testing.assert_allclose(means[:, 1], 3 * means[:, 0], atol=1e-12)
    hits = 1.0 * (values > 0)
    means = resampled_means([hits, 1 - hits], 50)
    np.testing.assert_allclose(means.sum(axis=1), 1, atol=1e-12)


def test_the_same_seed_gives_the_same_interval():
    for values in (np.arange(100) % 2, np.random.default_rng(0).normal(size=3000)):
        assert mean_interval(values, seed=7) == mean_interval(values, seed=7)
        one, other = (resampled_means([values], 20, seed) for seed in (7, 8))
        assert not np.array_equal(one, other)


def test_values_that_are_all_the_same_have_no_spread():
    assert mean_interval(np.full(50, 2.5)) == (2.5, 2.5)
    assert mean_interval(np.array([4.0])) == (4.0, 4.0)


def test_there_is_no_mean_of_nothing():
    with pytest.raises(ValueError, match="no values"):
        mean_interval(np.zeros(0))


def test_many_distinct_values_after_few_are_drawn_one_by_one():
    values = np.concatenate([np.zeros(5000), np.random.default_rng(0).normal(size=5000)])
    low, high = mean_interval(values, 500)
    assert low < values.mean() < high


def test_fewer_resamples_of_what_is_costly():
    assert resamples_for(10) == 2000
    assert resamples_for(1_000_000) == 200
    assert resamples_for(10**12) == 100


def test_a_statistic_of_the_whole_set():
    values = np.random.default_rng(0).normal(size=400)
    low, high, count = bootstrap_statistic(lambda i: float(np.median(values[i])), 400)
    theirs = stats.bootstrap(
        (values,), np.median, n_resamples=2000, method="percentile", rng=1
    ).confidence_interval
    assert count == 2000
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_what_resamples_are_off_by_is_taken_off():
    values = np.random.default_rng(0).normal(size=100)
    mean = values.mean()
    # A resample has about 63 of the 100 samples.
    low, high, _ = bootstrap_statistic(lambda i: mean + len(np.unique(i)) / 100, 100)
    assert low < mean + 1 < high
    assert high - low == pytest.approx(2 * 1.96 * 0.031, rel=0.1)


def test_resamples_without_a_value_are_left_out():
    values = np.array([0.0, 1.0, 1.0, 1.0])

    def share(indices):
        # Without a zero among them it has no value: (3/4)^4, nearly a third.
        return float(values[indices].mean()) if 0 in indices else None

    low, high, count = bootstrap_statistic(share, 4)
    assert count == pytest.approx(2000 * (1 - 0.75**4), abs=80)
    assert low < 0.75 < high
    assert bootstrap_statistic(lambda i: None, 4) is None
    assert bootstrap_statistic(lambda i: 1.0 if len(set(i)) == 4 else None, 4) is None


def test_the_budget_bounds_the_calls():
    calls = []

    def compute(indices):
        calls.append(len(indices))
        return 1.0

    assert bootstrap_statistic(compute, 10, cost=10**7) == (1.0, 1.0, 100)
    assert calls == [10] * 101


def test_copies_are_bounded():
    values = np.random.default_rng(0).normal(size=400)

    def mean(indices):
        return float(values[indices].mean())

    low, high, count = bootstrap_statistic(mean, 400, copied=COPIED // 50)
    assert count == 50
    error = values.std() / 20
    assert high - mean(np.arange(400)) == pytest.approx(1.96 * error, rel=0.3)
    assert low == pytest.approx(2 * mean(np.arange(400)) - high)
    assert bootstrap_statistic(mean, 400, copied=COPIED // 24) is None


@pytest.mark.parametrize(
    ("difference", "low", "high", "p", "better", "expected"),
    [
        (-2.0, -3.1, -0.9, 0.0006, "higher", "worse"),
        (2.0, 0.9, 3.1, 0.0006, "higher", "better"),
        (0.1, 0.05, 0.2, None, "lower", "worse"),
        (-0.1, -0.2, -0.05, None, "lower", "better"),
        (-0.5, -1.5, 0.5, 0.4, "higher", "not distinguishable from zero"),
        (-0.5, -1.0, -0.01, 0.07, "higher", "not distinguishable from zero"),
        (-0.5, -1.0, 0.0, None, "higher", "not distinguishable from zero"),
        (-0.5, None, None, None, "higher", "not distinguishable from zero"),
        (0.0, 0.0, 0.0, 1.0, "higher", "no difference"),
        (0.0, -1.0, 1.0, 1.0, "higher", "not distinguishable from zero"),
    ],
)
def test_verdicts(difference, low, high, p, better, expected):
    assert verdict(difference, low, high, p, better=better) == expected


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        (
            ("", 62.8, 64.8, -2.0, -3.1, -0.9, 0.0006),
            {"unit": "%"},
            "62.8 vs 64.8, drop 2.0 (0.9 to 3.1), p = 0.0006",
        ),
        (
            ("top-1 accuracy", 65.8, 64.8, 1.0, -0.2, 2.2, 0.11),
            {"unit": "%"},
            "top-1 accuracy 65.8 vs 64.8, gain 1.0 (-0.2 to 2.2), p = 0.11: "
            "not distinguishable from zero",
        ),
        (
            ("", 50.0, 90.0, -40.0, -42.0, -38.0, 1e-30),
            {"unit": "%"},
            "50.0 vs 90.0, drop 40.0 (38.0 to 42.0), p < 0.0001",
        ),
        (("", 64.8, 64.8, 0.0, 0.0, 0.0, 1.0), {"unit": "%"}, "64.8 vs 64.8, no difference"),
        (
            ("MAE", 0.5234, 0.4834, 0.04, 0.01, 0.07),
            {"better": "lower"},
            "MAE 0.5234 vs 0.4834, rise 0.0400 (0.0100 to 0.0700)",
        ),
        (
            ("MAE", 0.4, 0.5, -0.1, -0.2, -0.05),
            {"better": "lower"},
            "MAE 0.4000 vs 0.5000, fall 0.1000 (0.0500 to 0.2000)",
        ),
        (
            ("PSNR", 31.5, 32.25, -0.75, -0.8, -0.7),
            {"unit": "dB"},
            "PSNR 31.50 vs 32.25 dB, drop 0.75 (0.70 to 0.80)",
        ),
        (
            ("", 99.96, 99.98, -0.02, -0.03, -0.01, 0.03),
            {"unit": "%"},
            "99.96 vs 99.98, drop 0.02 (0.01 to 0.03), p = 0.03",
        ),
        (
            ("", 60.0, 61.0, -1.0, None, None),
            {"unit": "%"},
            "60.0 vs 61.0, drop 1.0: not distinguishable from zero",
        ),
        (
            ("", 1234.5, 1200.0, 34.5, 10.0, 60.0),
            {"better": "lower"},
            "1235 vs 1200, rise 35 (10 to 60)",
        ),
    ],
)
def test_sentences(arguments, options, expected):
    assert sentence(*arguments, **options) == expected
