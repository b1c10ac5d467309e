"""Is a difference between two models real? Paired statistics over the same samples.

Intervals are percentile bootstrap intervals (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993, chapter 13): the samples are drawn again with replacement, both models' values
together, and the middle 95 % of the resampled statistics is the interval. The flips of right and
wrong answers are tested with McNemar's exact test (McNemar, Psychometrika 1947): without a
difference, a sample that only one of the two has right is a toss of a coin.

The same input and seed give the same numbers, whatever the machine's speed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from tfq.report.digits import chance, fixed

RESAMPLES = 2000
"""Of means."""

FEWEST_RESAMPLES = 100

BUDGET = 200_000_000
"""Numbers that the resamples of one statistic may read: some seconds."""

COPIED = 1_000_000_000
"""Bytes that the resamples of one statistic may copy: about a second."""

FEWEST_COPIES = 25
"""Enough for a standard error (Efron and Tibshirani, section 6.4), though not for percentiles."""

_CHUNK = 1 << 20  # Draws held at once: 8 MB of indices.
_DISTINCT = 64  # Fewer distinct values are drawn by their counts.


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Answers of a model beside those of the reference.

    Attributes:
      samples: how many.
      same: share of samples with the same answer, 0 to 1.
      right_to_wrong: the reference is right and the model wrong.
      wrong_to_right: the other way round.
      wrong_to_wrong: both are wrong, with different answers.
      p: McNemar's exact test; None without labels, as are the flips.
    """

    samples: int
    same: float
    right_to_wrong: int | None
    wrong_to_right: int | None
    wrong_to_wrong: int | None
    p: float | None


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> tuple[int, int, float]:
    """McNemar's exact test, two-sided.

    Args:
      right_a: whether the reference is right, bool [n].
      right_b: whether the model is.

    Returns:
      Samples that go from right to wrong, those from wrong to right, and p (1 where there is
      neither).
    """
    lost = int(np.count_nonzero(right_a & ~right_b))
    gained = int(np.count_nonzero(~right_a & right_b))
    if lost + gained == 0:
        return 0, 0, 1.0
    return lost, gained, _both_tails(min(lost, gained), lost + gained)


def _both_tails(few: int, tosses: int) -> float:
    """How likely a fair coin falls at most `few` times on one side, whichever.

    The sum of C(n, k) / 2^n, by logarithms. Not by SciPy, which takes half a second to import.
    """
    whole = math.lgamma(tosses + 1) - tosses * math.log(2)
    tail = math.fsum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(tosses - k + 1)) for k in range(few + 1)
    )
    return min(2 * tail, 1.0)  # Where it falls as often on either side the tails meet.


def flips(reference: np.ndarray, answers: np.ndarray, labels: np.ndarray | None) -> Agreement:
    """How a model's answers differ from the reference's.

    Args:
      reference, answers: classes that the reference and the model choose, [n], n at least 1.
      labels: class numbers [n], or None.
    """
    same = reference == answers
    share = float(np.mean(same))
    if labels is None:
        return Agreement(len(answers), share, None, None, None, None)
    before, after = reference == labels, answers == labels
    lost, gained, p = mcnemar(before, after)
    between = int(np.count_nonzero(~before & ~after & ~same))
    return Agreement(len(answers), share, lost, gained, between, p)


def resamples_for(cost: int, most: int = RESAMPLES) -> int:
    """How many resamples the budget allows, at least 100.

    Args:
      cost: numbers that one resample reads.
      most: no more than so many.
    """
    return max(FEWEST_RESAMPLES, min(most, BUDGET // max(cost, 1)))


def interval(resampled: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of resampled statistics."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def resampled_means(
    columns: list[np.ndarray], resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Means over resampled samples, the same resamples for every column.

    Few distinct values (right and wrong) are drawn as counts, which is the same distribution and
    costs nothing; others sample by sample, 2^20 at a time.

    Args:
      columns: values [n] each, n at least 1.
      resamples: how many; see `resamples_for` for many samples.
      seed: of the draws.

    Returns:
      Float64 [resamples, columns].
    """
    table = np.stack([np.asarray(c, np.float64) for c in columns], axis=1)
    count = len(table)
    if count == 0:
        raise ValueError("There are no values to resample.")
    rng = np.random.default_rng(seed)
    distinct = _distinct(table)
    if distinct is not None:
        rows, counts = distinct
        drawn = rng.multinomial(count, counts / count, size=resamples)
        # Not @: a product of a matrix could depend on the threads.
        return np.stack([(drawn * c).sum(axis=1) for c in rows.T], axis=1) / count
    means = np.empty((resamples, len(columns)))
    contiguous = [np.ascontiguousarray(column) for column in table.T]
    step = max(1, _CHUNK // count)
    for start in range(0, resamples, step):
        some = slice(start, min(start + step, resamples))
        indices = rng.integers(0, count, size=(some.stop - start, count), dtype=np.int32)
        for j, column in enumerate(contiguous):
            means[some, j] = column[indices].mean(axis=1)
    return means


def _distinct(table: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The distinct rows and how often each occurs; None if they are many."""
    if len(np.unique(table[:1000], axis=0)) > _DISTINCT:
        return None
    codes = np.zeros(len(table), np.int64)
    for column in table.T:
        values, place = np.unique(column, return_inverse=True)
        if len(values) > _DISTINCT:
            return None
        codes = codes * len(values) + place
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    return (table[first], counts) if len(counts) <= _DISTINCT else None


def bootstrap_statistic(
    compute: Callable[[np.ndarray], float | None],
    n: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    cost: int = 1,
    copied: int = 0,
) -> tuple[float, float, int] | None:
    """95 % interval of a statistic of the whole set.

    The interval is around the statistic of the set itself: what the resamples are off by on
    average is taken off. (Resamples of a calibration error are larger than the error; their own
    percentiles could lie above it.) Fewer than 100 resamples, where copying bounds them, give a
    standard error instead of percentiles: the interval is 1.96 of it to each side.

    Args:
      compute: the statistic of the samples with the given indices [n]; None where it is undefined.
      n: samples.
      resamples: at most so many.
      seed: of the draws.
      cost: numbers that one call reads; fewer resamples are made of a statistic that reads many
        (`resamples_for`).
      copied: bytes that one call copies; together they are at most `COPIED`.

    Returns:
      (low, high, resamples that had a value), or None if fewer than half had one, the set itself
      has none, or `COPIED` allows fewer than 25.
    """
    wanted = min(resamples_for(max(cost, n), resamples), COPIED // max(copied, 1))
    if wanted < FEWEST_COPIES:
        return None
    value = compute(np.arange(n))
    if value is None:
        return None
    rng = np.random.default_rng(seed)
    found = [compute(rng.integers(0, n, size=n)) for _ in range(wanted)]
    defined = np.array([v for v in found if v is not None and np.isfinite(v)])
    if 2 * len(defined) < wanted:
        return None
    if wanted < FEWEST_RESAMPLES:
        margin = 1.96 * float(defined.std(ddof=1))
        return value - margin, value + margin, len(defined)
    return (*interval(defined - defined.mean() + value), len(defined))


Verdict = Literal["worse", "better", "not distinguishable from zero", "no difference"]


def verdict(
    difference: float,
    low: float | None,
    high: float | None,
    p: float | None = None,
    *,
    better: str = "higher",
) -> Verdict:
    """Whether a difference is real: its interval leaves out zero, and p is below 0.05 if there is
    one. Without an interval none is.

    Args:
      difference: the model's value less the reference's.
      low, high: its 95 % interval.
      p: of McNemar's test.
      better: "higher" or "lower": which values are good.
    """
    if difference == 0 and low in (0, None) and high in (0, None):
        return "no difference"
    if low is None or high is None or low <= 0 <= high or (p is not None and p >= 0.05):
        return "not distinguishable from zero"
    return "better" if (difference > 0) == (better == "higher") else "worse"


def sentence(
    name: str,
    value: float,
    reference: float,
    difference: float,
    low: float | None,
    high: float | None,
    p: float | None = None,
    *,
    unit: str = "",
    better: str = "higher",
) -> str:
    """One line on a difference: "top-1 accuracy 62.8 vs 64.8, drop 2.0 (0.9 to 3.1), p = 0.0006".

    A drop and a gain are a change to the worse and the better where higher is better; where lower
    is, they are called a rise and a fall.

    Args:
      name: the metric's title; "" leaves it out.
      value, reference: of the model and of the reference.
      difference, low, high, p, better: as in `verdict`; the interval is turned to match the word.
      unit: "%", "dB" or "".
    """
    places = _places(unit, value, reference, difference)
    shown = f"{fixed(value, places)} vs {fixed(reference, places)}"
    text = f"{name} {shown}" if name else shown
    if unit == "dB":
        text += " dB"
    found = verdict(difference, low, high, p, better=better)
    if found == "no difference":
        return f"{text}, no difference"
    words = ("gain", "drop") if better == "higher" else ("rise", "fall")
    text += f", {words[difference < 0]} {fixed(abs(difference), places)}"
    if low is not None and high is not None:
        ends = (low, high) if difference >= 0 else (-high, -low)
        text += f" ({fixed(ends[0], places)} to {fixed(ends[1], places)})"
    if p is not None:
        text += f", p {chance(p)}"
    return text if found in ("worse", "better") else f"{text}: {found}"


def _places(unit: str, *values: float) -> int:
    """Decimals that show the numbers, and two digits of the difference (the last value)."""
    difference = abs(values[-1])
    least = {"%": 1, "dB": 2}.get(unit)
    if least is None:
        largest = max(abs(v) for v in values)
        least = 3 if largest == 0 else int(np.clip(3 - np.floor(np.log10(largest)), 0, 12))
    if difference == 0:
        return least
    return int(np.clip(-np.floor(np.log10(difference)), least, least + 2))
