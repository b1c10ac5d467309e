"""How much a conversion does for accuracy: one switch, and what single options make of it."""

from __future__ import annotations

import dataclasses

from tfq.errors import unknown_option
from tfq.improve import Improvement
from tfq.improve.bias import CorrectBiases
from tfq.improve.equalization import Equalize
from tfq.improve.own_grids import OwnGrids
from tfq.improve.ranges import ALL, QUICK, ChooseRanges

# The option that lets the judge choose the range rules, beginning with this one.
AUTO = "auto"
FIRST_RULE = "robust"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """What is done where no option says otherwise.

    Attributes:
      name: what the user writes.
      calibration, equalization, bias_correction: the options' defaults.
      rules, depth: what "auto" calibration tries.
      again: whether biases are solved again on the ranges that were chosen.
      budget: multiplications spent on judging the proposals of each improvement.
    """

    name: str
    calibration: str
    equalization: str
    bias_correction: str
    rules: tuple[str, ...]
    depth: int
    again: bool
    budget: float
    help: str


QUALITIES = {
    q.name: q
    for q in (
        Quality(
            name="fast",
            calibration="minmax",
            equalization="none",
            bias_correction="none",
            rules=(),
            depth=0,
            again=False,
            budget=0.0,
            help="minimum and maximum, nothing else",
        ),
        Quality(
            name="default",
            calibration=AUTO,
            equalization="auto",
            bias_correction="sequential",
            rules=QUICK,
            depth=2,
            again=False,
            budget=6e10,
            help="what costs seconds",
        ),
        Quality(
            name="best",
            calibration=AUTO,
            equalization="auto",
            bias_correction="sequential",
            rules=ALL,
            depth=5,
            again=True,
            budget=1e12,
            help="everything",
        ),
    )
}


def get_quality(name: str) -> Quality:
    """Raises UsageError where there is none of that name."""
    if name not in QUALITIES:
        raise unknown_option("quality", name, QUALITIES)
    return QUALITIES[name]


def choose_improvements(
    quality: Quality,
    *,
    calibration: object,
    equalization: str,
    bias_correction: str,
    fresh: bool,
    synthetic: bool,
    trained: bool,
) -> list[Improvement]:
    """What is tried, in this order.

    Args:
      quality: decides how much.
      calibration: a rule (its name, or an object), or `AUTO`.
      equalization, bias_correction: checked options.
      fresh: whether all statistics are of this run's samples, so that there can be others.
      synthetic: whether samples are random numbers, of which nothing can be learned.
      trained: whether the model was trained with its quantizers. It has learned to live with them:
        no layer is changed, and only what training gave no range can be calibrated differently.
    """
    found: list[Improvement] = []
    always = equalization == "cross_layer"
    if equalization != "none" and not trained and (always or not synthetic or not fresh):
        found.append(Equalize(always, fresh))
    if synthetic:
        return found
    if quality.budget and not trained:
        found.append(OwnGrids())
    # Which ranges are best shows behind corrected biases; which biases, on the ranges.
    corrected = bias_correction != "none" and not trained
    if corrected:
        found.append(CorrectBiases())
    if calibration == AUTO:
        found.append(ChooseRanges(quality.rules, quality.depth))
        if corrected and quality.again:
            found.append(CorrectBiases(again=True))
    return found
