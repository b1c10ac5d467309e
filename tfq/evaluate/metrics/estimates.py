"""From what a metric kept of all samples to its value, its interval, and how models differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from tfq.evaluate import paired
from tfq.evaluate.metrics.core import Kept, Metric, UndefinedError


@dataclasses.dataclass(frozen=True)
class Score:
    """A metric of one model.

    Attributes:
      value: None if there is none.
      low, high: its 95 % bootstrap interval, or None.
      resamples: that the interval is from; 0 of none.
      reason: why there is no value.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    resamples: int = 0
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Difference:
    """A metric of a model less that of the reference, paired by sample.

    Attributes:
      value: None if one of the models has none.
      low, high: its 95 % bootstrap interval, or None.
      p: McNemar's exact test, for metrics of hits and misses; else None.
      resamples: that the interval is from; 0 of none.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    resamples: int = 0


def score(metric: Metric, kept: Kept, *, seed: int = 0) -> Score:
    """The metric of one model, from what it kept of all samples.

    An interval needs two samples.
    """
    try:
        value = metric.compute(kept)
        values = metric.values(kept)
    except UndefinedError as e:
        return Score(None, reason=str(e))
    if values is not None:
        if len(values) < 2:
            return Score(value)
        resamples = paired.resamples_for(len(values))
        means = paired.resampled_means([values], resamples, seed)[:, 0]
        low, high = paired.interval(metric.final(means))
        return Score(value, *_within(low, high, metric.bounds), resamples)
    count = _samples(kept)
    if count < 2:
        return Score(value)
    found = paired.bootstrap_statistic(
        _or_none(metric.statistic(kept)),
        count,
        seed=seed,
        cost=metric.cost(kept),
        copied=metric.copied(kept),
    )
    if found is None:
        return Score(value)
    return Score(value, *_within(*found[:2], metric.bounds), found[2])


def compare(metric: Metric, kept: Kept, reference: Kept, *, seed: int = 0) -> Difference:
    """How a model differs from the reference.

    Args:
      metric: of both.
      kept, reference: what it kept of the model and of the reference, of the same samples.
      seed: of the resamples.
    """
    try:
        ours, theirs = metric.values(kept), metric.values(reference)
        if ours is None or theirs is None:
            value = metric.compute(kept) - metric.compute(reference)
        else:
            value = float(metric.final(ours.mean()) - metric.final(theirs.mean()))
    except UndefinedError:
        return Difference(None)
    if ours is not None and theirs is not None:
        p = paired.mcnemar(theirs > 50, ours > 50)[2] if metric.hits else None
        if len(ours) < 2:
            return Difference(value, p=p)
        resamples = paired.resamples_for(2 * len(ours))
        means = metric.final(paired.resampled_means([ours, theirs], resamples, seed))
        return Difference(value, *paired.interval(means[:, 0] - means[:, 1]), p, resamples)
    count = _samples(kept)
    if count < 2:
        return Difference(value)
    one, other = _or_none(metric.statistic(kept)), _or_none(metric.statistic(reference))

    def difference(indices: np.ndarray) -> float | None:
        a, b = one(indices), other(indices)
        return None if a is None or b is None else a - b

    cost = metric.cost(kept) + metric.cost(reference)
    # Each model's samples are copied once a resample, one after the other.
    copied = max(metric.copied(kept), metric.copied(reference))
    found = paired.bootstrap_statistic(difference, count, seed=seed, cost=cost, copied=copied)
    if found is None:
        return Difference(value)
    return Difference(value, found[0], found[1], None, found[2])


def _samples(kept: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(kept.values())))


def _or_none(statistic: Callable[[np.ndarray], float]) -> Callable[[np.ndarray], float | None]:
    def compute(indices: np.ndarray) -> float | None:
        try:
            return statistic(indices)
        except UndefinedError:
            return None

    return compute


def _within(low: float, high: float, bounds: tuple[float, float]) -> tuple[float, float]:
    return min(max(low, bounds[0]), bounds[1]), min(max(high, bounds[0]), bounds[1])
