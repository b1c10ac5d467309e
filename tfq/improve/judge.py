"""Whether a change to a quantized model is kept: nothing loses, and something gains.

Both models run on the same samples, which the change was not made from. For one part of one output
and sample n let e_n be the error power before and e'_n after, neither counted as less than what
rounding to the part's grid there makes (step^2 / 12 a value): below that a difference is luck. With

    r_n = 10 log10(e'_n / e_n)      each sample counts alike
    d_n = e'_n - e_n                what the part's decibels are made of

and m the mean, s the standard error of the mean over samples, the part

    loses   if m(r) > 0.3 dB and m(r) > 2 s(r), or m(r) > 2 dB and m(r) > 0.9 s(r), or the same of d
            or m(r) > 0 and m(r) + s(r) > 1 dB
    gains   if it does not lose, and m(r) < -0.3 dB and m(r) < -t s(r), or the same of d

(of d, 0.3 and 2 dB are asked of 10 log10(sum e' / sum e)). t is where Student's distribution of
so many samples leaves 2.3 % above: 2 of many, 3.3 of four. So a large loss needs less proof, and
what may well be one is one: of few samples little is sure, and then nothing is changed. One
sample that is ruined, of many that stay as they are, gives m(d) = s(d). For small ones that would
not do: of ten parts that do not change at all, some part is above its standard error nearly always.
A mean over outputs does not do either: one may be ruined while four gain a little.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from tfq.parts import decibel

# What nobody would notice, in dB.
_NOTICED = 0.3

# Standard errors that a mean is away from zero; fewer for what is lost beyond so many dB.
_SURE = 2.0
_LARGE, _SURE_OF_LARGE = 2.0, 0.9

# dB that a loss must be shown to stay below.
_HARM = 1.0


@dataclasses.dataclass(frozen=True)
class PartError:
    """The error of one part of one output, sample by sample.

    Attributes:
      output: name of the output tensor.
      part: which part, or "" for all of it.
      errors: [samples], sums of (y - y_q)^2.
      powers: [samples], sums of y^2.
      floor: what rounding makes of `errors` of one sample; 0 where there is no grid.
    """

    output: str
    part: str
    errors: np.ndarray
    powers: np.ndarray
    floor: float = 0.0


@dataclasses.dataclass(frozen=True)
class Change:
    """What a change does to one part of one output.

    Attributes:
      output, part: as of `PartError`.
      before_db, after_db: signal to noise ratios over all samples; inf where exact.
      loss_db: how many dB are lost, negative where they are gained: the larger of m(r) and that of
        the sums.
      loses, gains: whether that is beyond noise.
    """

    output: str
    part: str
    before_db: float
    after_db: float
    loss_db: float
    loses: bool
    gains: bool


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Attributes:
    kept: whether something gains and nothing loses.
    changes: of every part.
    score: mean of m(r) over the parts, in dB; lower is better.
    """

    kept: bool
    changes: tuple[Change, ...]
    score: float

    @property
    def worst(self) -> Change | None:
        """The part that loses most, if one does."""
        losers = [c for c in self.changes if c.loses]
        return max(losers, key=lambda c: c.loss_db, default=None)


Errors = Mapping[tuple[str, str], PartError]


def judge_change(before: Errors, after: Errors) -> Verdict:
    """Whether a change is kept.

    Args:
      before, after: errors by output and part, on the same samples. What only one of them has (the
        argument of a softmax that became part of a table) is not compared.
    """
    changes, scores = [], []
    for key, b in before.items():
        a = after.get(key)
        if a is None:
            continue
        change, score = _change(b, a)
        changes.append(change)
        scores.append(score)
    kept = any(c.gains for c in changes) and not any(c.loses for c in changes)
    return Verdict(kept, tuple(changes), float(np.mean(scores)) if scores else 0.0)


def _change(before: PartError, after: PartError) -> tuple[Change, float]:
    # Each by the floor of its own grid: a coarser one must lose.
    e = np.maximum(before.errors, max(before.floor, 1e-30))
    f = np.maximum(after.errors, max(after.floor, 1e-30))
    # A change that makes the output infinite or NaN must lose.
    f = np.where(np.isfinite(f), f, 1e30)
    ratios, differences = 10 * np.log10(f / e), f - e
    summed = float(10 * np.log10(f.sum() / e.sum()))
    signs = [
        (float(ratios.mean()), float(ratios.mean()), _standard_error(ratios)),
        (summed, float(differences.mean()), _standard_error(differences)),
    ]
    loses = any(
        (db > _NOTICED and mean > _SURE * s) or (db > _LARGE and mean > _SURE_OF_LARGE * s)
        for db, mean, s in signs
    )
    _, mean, s = signs[0]
    loses |= mean > 0 and mean + s > _HARM
    sure = _sure(len(ratios))
    gains = any(db < -_NOTICED and mean < -sure * s for db, mean, s in signs)
    change = Change(
        before.output,
        before.part,
        decibel(float(before.powers.sum()), float(before.errors.sum())),
        decibel(float(after.powers.sum()), float(after.errors.sum())),
        max(db for db, _, _ in signs),
        loses,
        gains and not loses,
    )
    return change, float(ratios.mean())


@functools.cache
def _sure(samples: int) -> float:
    """Standard errors, of so many samples, that are as sure as `_SURE` of many."""
    from scipy import special  # A tenth of a second, where something is judged only.

    if samples < 2:
        return 0.0
    return float(special.stdtrit(samples - 1, special.ndtr(_SURE)))


def _standard_error(values: np.ndarray) -> float:
    """Of the mean; 0 for a single sample, whose word is taken."""
    if values.size < 2:
        return 0.0
    return float(values.std(ddof=1) / np.sqrt(values.size))
