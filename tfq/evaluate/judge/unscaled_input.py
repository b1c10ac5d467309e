"""The samples are not on the scale that the model was calibrated with: nothing else can be judged.

Bytes where the model takes 0 to 1 are the usual case. What goes wrong behind the input follows.
"""

from __future__ import annotations

from tfq.evaluate.figures import TensorFigures
from tfq.evaluate.judge.finding import Claim, Remedy
from tfq.evaluate.judge.view import View, enters, width
from tfq.evaluate.judge.wording import number, span

NAME = "unscaled_input"

_BEYOND = 0.1

# Rules for ranges that leave out little of what calibration saw; where it is not known, one of them
# was used. With others, so far beyond the range is no matter of the rule.
_WHOLE = ("", "minmax", "robust")
_FAR = 8.0

_BYTE = 255.0
_NEARLY = 0.05


def find(view: View, t: TensorFigures) -> Claim | None:
    """Looks at one input of the model."""
    if not enters(t) or not width(t.grid) or not width(t.observed):
        return None
    ratio = width(t.observed) / width(t.grid)
    beyond = t.saturation > _BEYOND and (view.option("calibration") in _WHOLE or ratio >= _FAR)
    # By chance no data use just 1/255 of the range.
    small = _near(1 / ratio, _BYTE) and t.observed[0] >= 0
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
        Remedy(_advice(t, ratio)),
        0.0,
        weight=1.0,
    )


def _advice(t: TensorFigures, ratio: float) -> str:
    lo, hi = t.grid
    if t.observed[0] >= 0:
        if abs(lo) <= _NEARLY * hi and _near(ratio, _BYTE):
            return (
                "Divide the samples by 255, as in training: --scale=0.00392157 of tfq.evaluate "
                "for images."
            )
        if _near(-lo, 1.0) and _near(hi, 1.0) and _near(t.observed[1], _BYTE):
            return (
                "Take the samples from 0 to 255 to -1 to 1, as in training: --mean=127.5 "
                "--scale=0.00784314 of tfq.evaluate for images."
            )
        if _near(1 / ratio, _BYTE):
            return (
                "Multiply the samples by 255, as in training: for images, tfq.evaluate without "
                "--scale reads 0 to 255."
            )
    return (
        "Scale the samples as in training (for images, --scale and --mean of tfq.evaluate). If "
        "they are right, calibrate on samples like those that the model will see."
    )


def _near(value: float, wanted: float) -> bool:
    return abs(value / wanted - 1) <= _NEARLY
