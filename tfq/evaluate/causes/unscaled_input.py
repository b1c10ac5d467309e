"""The samples are not on the scale that the model was calibrated with: nothing else can be judged.

Bytes where the model takes 0 to 1 are the usual case. What goes wrong behind the input follows.
"""

from __future__ import annotations

from tfq.evaluate.causes.finding import Claim, Remedy
from tfq.evaluate.causes.view import View, enters, width
from tfq.evaluate.causes.wording import number, span
from tfq.evaluate.figures import TensorFigures
from tfq.verify.input_range import is_what_division_leaves, way_out

NAME = "unscaled_input"

_BEYOND = 0.1

# Rules for ranges that leave out little of what calibration saw; where it is not known, one of them
# was used. With others, so far beyond the range is no matter of the rule.
_WHOLE = ("", "minmax", "robust")
_FAR = 8.0


def find(view: View, t: TensorFigures) -> Claim | None:
    """Looks at one input of the model."""
    if not enters(t) or not width(t.grid) or not width(t.observed):
        return None
    ratio = width(t.observed) / width(t.grid)
    beyond = t.saturation > _BEYOND and (view.range_rule(t) in _WHOLE or ratio >= _FAR)
    small = is_what_division_leaves(t.grid, t.observed)
    if not beyond and not small:
        return None
    share = (
        f"{number(100 * t.saturation, 2)} % of the values lie beyond"
        if beyond
        else f"the values use 1/{number(1 / ratio, 3)} of"
    )
    return Claim(
        NAME,
        "The data does not fit the input's range",
        f"The input takes {span(t.grid)}, the samples hold {span(t.observed)}: {share} it. Other "
        "causes are not named, as all that is wrong behind the input may follow from this.",
        Remedy(_advice(t)),
        0.0,
        weight=1.0,
    )


def _advice(t: TensorFigures) -> str:
    return way_out(t.observed, t.grid) or (
        "Scale the samples as in training (for images in files, --scale and --mean). If they are "
        "right, calibrate on samples like those that the model will see."
    )
