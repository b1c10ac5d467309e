"""A few values stretch the range, so that most of the grid is idle.

Judged by what the narrower grid would really give: rounding on it plus what it clips, computed
from the histogram. Where the rare values carry the signal, nothing is gained, and nothing is said.
"""

from __future__ import annotations

from tfq.evaluate.causes import noise
from tfq.evaluate.causes.finding import Claim, Remedy
from tfq.evaluate.causes.remedies import option, wider_around
from tfq.evaluate.causes.view import FINE, NARROW, View, bits, fixed, partner, width
from tfq.evaluate.causes.wording import number, span
from tfq.evaluate.figures import TensorFigures

NAME = "outlier_range"

# The least gain worth another calibration: 6 dB, one bit.
_GAIN = 4.0

# Percentiles are simpler to explain than a search: preferred while nearly as good.
_NEARLY = 1.5


def find(view: View, t: TensorFigures) -> Claim | None:
    bins = view.bins(t)
    if bins is None or fixed(t) or partner(t) or view.step(t) < FINE:
        return None
    now = noise.on_grid(bins, *t.grid, bits(t))
    best = noise.best_range(bins, *t.observed, bits(t))
    least = noise.on_grid(bins, *best, bits(t))
    if now < _GAIN * least:
        return None
    cut = noise.on_grid(bins, *t.percentile_range, bits(t))
    percentile = cut <= _NEARLY * least
    ends = t.percentile_range if percentile else best
    gained = view.relative(t, now - (cut if percentile else least))
    return Claim(
        NAME,
        "Outliers dominate the range",
        f"The grid spans {span(t.grid)}, but nearly all values lie "
        f"within {span(ends)}, which is {_share(ends, t)} of it. A range of that "
        f"size would have {noise.decibel((cut if percentile else least) / now):.0f} dB less noise.",
        _remedy(view, t, percentile),
        gained,
    )


def _remedy(view: View, t: TensorFigures, percentile: bool) -> Remedy:
    if view.tried("calibration") is not None:
        return wider_around(
            view,
            t,
            "Other ranges were tried when the model was converted, and the best kept: give the "
            "layer 16-bit activations.",
        )
    used = view.range_rule(t)
    if used != "robust" and width(t.observed) < NARROW * width(t.grid):
        return option(
            "calibration",
            "robust",
            "Leave out what only a few calibration samples contain; the data evaluated here never "
            "reach it.",
        )
    if used in ("percentile", "mse"):
        return wider_around(
            view, t, f"{used} ranges do not help here: give the layer 16-bit activations."
        )
    if percentile:
        return option(
            "calibration",
            "percentile:99.99",
            "Calibrate with percentiles (or mse), which leave rare values out of the range.",
        )
    return option(
        "calibration", "mse", "Calibrate for the least squared error, which clips rare values."
    )


def _share(ends: tuple[float, float], t: TensorFigures) -> str:
    return f"{number(100 * width(ends) / width(t.grid), 2)} %"
