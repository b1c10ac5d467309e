"""The error is more a shift than a spread: rounded weights times inputs of one sign.

Judged by the model as it runs, which is what bias correction makes right: the shift of one layer
may be there to undo that of the layers before.
"""

from __future__ import annotations

from tfq.evaluate.causes.finding import Claim, Remedy
from tfq.evaluate.causes.remedies import option
from tfq.evaluate.causes.view import FINE, View
from tfq.evaluate.causes.wording import number
from tfq.evaluate.figures import TensorFigures

NAME = "bias_error"

_HALF = 0.5

# Of fewer values the mean says nothing: errors of any kind leave one.
_REPEATS = 16

# The least part of the shift that is the layer's own, not that of its inputs.
_OWN = 0.25


def find(view: View, t: TensorFigures) -> Claim | None:
    reading = t.accumulated or t.isolated
    if reading is None or t.weights is None or view.repeats(t) < _REPEATS:
        return None
    amount, share = view.bias(t, reading)
    if amount < FINE or share < _HALF or view.clip(t) >= _HALF * amount:
        return None
    if t.isolated is not None and view.bias(t, t.isolated)[0] < _OWN * amount:
        return None
    if reading.bias_lsb >= _HALF * reading.worst_bias_lsb:
        where = f"by {number(reading.bias_lsb, 2)} steps on average"
    else:
        where = f"by {number(reading.worst_bias_lsb, 2)} steps in the worst channel"
    return Claim(
        NAME,
        "The mean of the output is shifted",
        f"The output is off {where}; {100 * share:.0f} % of the noise is this constant "
        "error, which does not average out.",
        _remedy(view),
        amount,
    )


def _remedy(view: View) -> Remedy:
    if view.tried("bias_correction") == "":
        return Remedy(
            "Bias correction was tried and refused, since an output would have lost: calibrate "
            "with more samples, of the kind the model will see."
        )
    if view.tried("bias_correction"):
        return Remedy(
            "Bias correction did not reach it: calibrate with more samples, of the kind the model "
            "will see."
        )
    # A file that does not say so may still have corrected biases.
    return option(
        "bias_correction",
        "sequential",
        "Bias correction is on by default: switch it on if it was off, else calibrate with more "
        "samples, of the kind the model will see.",
    )
