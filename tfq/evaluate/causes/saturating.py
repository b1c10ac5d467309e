"""Float values lie beyond the grid: its range is too narrow for the data that was evaluated."""

from __future__ import annotations

from tfq.evaluate.causes.finding import Claim, Remedy
from tfq.evaluate.causes.remedies import option, wider_around
from tfq.evaluate.causes.view import FINE, View, fixed, width
from tfq.evaluate.causes.wording import number, span
from tfq.evaluate.figures import TensorFigures

NAME = "saturating"

# Below this many times the rounding noise, clipping is a fair price of a finer step.
_CLIPS = 3.0

# The default range rule leaves out no more than this share of the samples.
_REJECTED = 0.02

_DATA = "calibrate on samples like those that the model will see"


def find(view: View, t: TensorFigures) -> Claim | None:
    clip, step = view.clip(t), view.step(t)
    if fixed(t) or clip < FINE or clip < _CLIPS * step:
        return None
    ends = (min(t.observed[0], t.grid[0]), max(t.observed[1], t.grid[1]))
    wide = step * (width(ends) / width(t.grid)) ** 2
    return Claim(
        NAME,
        "Values beyond the range are clipped",
        f"{number(100 * t.saturation, 2)} % of the values lie beyond the grid, which ends at "
        f"{number(t.grid[0])} and {number(t.grid[1])} while values reach from "
        f"{span(t.observed)}. The ranges are too narrow, or calibration saw other data.",
        _remedy(view, t, clip, wide),
        clip,
    )


def _remedy(view: View, t: TensorFigures, clip: float, wide: float) -> Remedy:
    if wide > clip / 2:
        return wider_around(
            view,
            t,
            "A range for all values would round as badly in 8 bits: give the layer 16-bit "
            f"activations, and {_DATA}.",
        )
    used = view.range_rule(t)
    if view.tried("calibration") is not None and used not in ("minmax", "robust"):
        return Remedy(
            f"The range was chosen by the error that it causes at the outputs: {_DATA}, or take "
            "that of all values with --calibration=minmax."
        )
    if used == "minmax" or (used == "robust" and t.saturation > _REJECTED):
        return Remedy(f"The range already holds the calibration data: {_DATA}.")
    return option("calibration", "minmax", f"Take the range of all values, and {_DATA}.")
