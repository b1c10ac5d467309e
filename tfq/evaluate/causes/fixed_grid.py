"""The kernel fixes the output's grid (SOFTMAX, LOGISTIC, TANH, ...), and the values use little."""

from __future__ import annotations

from tfq.evaluate.causes.finding import Claim
from tfq.evaluate.causes.remedies import wider_around
from tfq.evaluate.causes.view import FINE, NARROW, View, fixed, width
from tfq.evaluate.causes.wording import number, span
from tfq.evaluate.figures import TensorFigures

NAME = "fixed_grid"


def find(view: View, t: TensorFigures) -> Claim | None:
    if not fixed(t) or t.dtype not in ("int8", "uint8"):
        return None
    used = width(t.observed) / width(t.grid)
    amount = view.step(t) * (1 - used**2)
    if used > NARROW or amount < FINE:
        return None
    return Claim(
        NAME,
        f"The fixed grid of {t.op} is too coarse here",
        f"The kernel of {t.op} writes {span(t.grid)} in steps of "
        f"{number(t.scale, 3)}, whatever the data; the values reach from "
        f"{span(t.observed)}, {number(100 * used, 2)} % of that.",
        wider_around(view, t, "Give the layer 16-bit activations: 128 times finer a step."),
        amount,
    )
