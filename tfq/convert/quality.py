"""How much a conversion does for accuracy: one switch, and what single options make of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfq.calibrate.weight_rules import WEIGHT_RULES
from tfq.errors import UsageError, unknown_option
from tfq.improve import Improvement
from tfq.improve.absorb_bias import AbsorbBiases
from tfq.improve.bias import CorrectBiases
from tfq.improve.equalization import Equalize
from tfq.improve.int16 import WidenLayers
from tfq.improve.own_grids import OwnGrids
from tfq.improve.ranges import ALL, QUICK, ChooseRanges
from tfq.improve.weight_scales import OUTPUT_MSE, ChooseWeightScales
from tfq.plan.scheme import LayerRule, Scheme

# The options that let the judge choose the rules of ranges and of weights; the first of ranges.
AUTO = "auto"
FIRST_RULE = "robust"

# What options say that are tried on samples and judged.
TRIED = (AUTO, "sequential", "best")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """What is done where no option says otherwise.

    Attributes:
      name: what the user writes.
      calibration, weights, equalization, bias_correction, int16: the options'
        defaults.
      narrow_weights: the default of `weights` where some have fewer than 8 bits.
      rules, depth: what "auto" calibration tries.
      budget: multiplications spent on judging the proposals of each improvement.
      pass_budget: multiplications in one run over all samples that improvements see.
    """

    name: str
    calibration: str
    weights: str
    narrow_weights: str
    equalization: str
    bias_correction: str
    int16: str
    own_grids: bool
    rules: tuple[str, ...]
    depth: int
    budget: float
    pass_budget: float
    help: str


QUALITIES = {
    q.name: q
    for q in (
        Quality(
            name="fast",
            calibration="minmax",
            weights="minmax",
            narrow_weights="minmax",
            equalization="none",
            bias_correction="none",
            int16="none",
            own_grids=False,
            # Where an option asks for more all the same: as much as by default.
            rules=QUICK,
            depth=2,
            budget=6e10,
            pass_budget=1e10,
            help="minimum and maximum, nothing else",
        ),
        Quality(
            name="default",
            calibration=AUTO,
            weights="minmax",
            narrow_weights=AUTO,
            equalization="auto",
            bias_correction="sequential",
            int16="none",
            own_grids=True,
            rules=QUICK,
            depth=2,
            budget=6e10,
            pass_budget=1e10,
            help="what costs seconds",
        ),
        Quality(
            name="best",
            calibration=AUTO,
            weights=AUTO,
            narrow_weights=AUTO,
            equalization="auto",
            bias_correction="sequential",
            int16="auto",
            own_grids=True,
            rules=ALL,
            depth=3,
            budget=2e11,
            pass_budget=1e11,
            help="everything",
        ),
    )
}


def get_quality(name: str) -> Quality:
    """Raises UsageError where there is none of that name."""
    if not isinstance(name, str) or name not in QUALITIES:
        raise unknown_option("quality", name, QUALITIES)
    return QUALITIES[name]


def choose_weights(
    weights: str | None,
    quality: Quality,
    scheme: Scheme,
    weight_bits: int,
    rules: Sequence[LayerRule],
) -> str:
    """How the scales of weights are found: a rule, `OUTPUT_MSE` or `AUTO`.

    Args:
      weights: what the user says, or None.
      quality, scheme, weight_bits, rules: what the default depends on.

    Raises:
      UsageError: there is no such way, or not with this scheme.
    """
    integer = scheme.compute == "integer"
    if weights is None:
        narrow = any((bits or 8) < 8 for bits in (weight_bits, *(r.weight_bits for r in rules)))
        weights = quality.narrow_weights if narrow else quality.weights
        return weights if integer else "minmax"
    if weights not in (*WEIGHT_RULES, OUTPUT_MSE, AUTO):
        raise unknown_option("weights rule", weights, (*WEIGHT_RULES, OUTPUT_MSE, AUTO))
    if not integer and weights not in WEIGHT_RULES:
        raise UsageError(
            f"weights={weights} needs an integer scheme, but scheme={scheme.name} computes in "
            "float. Use --scheme=int8, or --weights=mse."
        )
    return weights


def first_weights(weights: str) -> str:
    """The rule that weights begin with."""
    return weights if weights in WEIGHT_RULES else "mse" if weights == OUTPUT_MSE else "minmax"


def choose_improvements(
    quality: Quality,
    *,
    calibration: object,
    weights: str,
    equalization: str,
    bias_correction: str,
    int16: float = 0.0,
    int16_asked: bool = False,
    fresh: bool,
    synthetic: bool,
    trained: bool,
) -> list[Improvement]:
    """What is tried, in this order.

    Args:
      quality: decides how much.
      calibration: a rule (its name, or an object), or `AUTO`.
      weights: a rule, `OUTPUT_MSE` or `AUTO`.
      equalization, bias_correction: checked options.
      int16: the share of operations that may be widened; 0 for none.
      int16_asked: whether the user asked for that, and not the quality. Only then types of inputs
        and outputs change.
      fresh: whether all statistics are of this run's samples, so that there can be others.
      synthetic: whether samples are random numbers, of which nothing can be learned.
      trained: whether the model was trained with its quantizers. It has learned to live with them:
        no layer is changed, and only what training gave no range can be calibrated differently.
    """
    found: list[Improvement] = []
    if weights == OUTPUT_MSE and (synthetic or trained):
        why = (
            "the model was trained with its quantizers, and keeps their scales"
            if trained
            else "there are no samples that say what layers read"
        )
        raise UsageError(f"weights=output_mse: {why}. Leave it out, or say --weights=mse.")
    if int16 and int16_asked and (synthetic or trained):
        why = (
            "the model was trained with its quantizers, and keeps their types"
            if trained
            else "there are no samples that say which layers matter"
        )
        raise UsageError(f"int16=auto: {why}. Leave it out, or name layers: --int16=REGEX.")
    always = equalization == "cross_layer"
    if equalization != "none" and not trained and (always or not synthetic or not fresh):
        found.append(Equalize(always, fresh))
    if synthetic:
        return found
    if equalization != "none" and not trained and fresh:
        found.append(AbsorbBiases())
    if quality.own_grids and not trained:
        found.append(OwnGrids())
    if weights in (AUTO, OUTPUT_MSE) and not trained:
        found.append(ChooseWeightScales(asked=weights == OUTPUT_MSE))
    if calibration == AUTO:
        found.append(ChooseRanges(quality.rules, quality.depth))
    # Behind these: a bias makes up for what all that comes before it shifts. Ranges chosen behind
    # corrected biases are no better (palm detection: 20 dB in this order, 17 in the other).
    if bias_correction != "none" and not trained:
        found.append(CorrectBiases())
    # Last, with biases solved anew: what uncorrected biases are off by would hide any gain.
    if int16 and not trained:
        found.append(WidenLayers(int16, outside=int16_asked))
    return found
