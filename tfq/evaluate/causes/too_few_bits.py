"""None of the other causes, and yet the noise is too much: 8 bits are too few for this tensor.

Either its own distribution needs more steps (rare values that matter, small differences far from
zero), or its op makes the rounding of its inputs large: a difference of nearly equal numbers, a sum
in which the terms cancel.
"""

from __future__ import annotations

from tfq.evaluate.causes import noise
from tfq.evaluate.causes.finding import Claim, Remedy
from tfq.evaluate.causes.remedies import wider, wider_around
from tfq.evaluate.causes.view import FINE, NARROW, View, bits, fixed, width
from tfq.evaluate.causes.wording import number, span
from tfq.evaluate.figures import TensorFigures

NAME = "too_few_bits"

# 25 dB: the tensor's noise is 5 % of its values.
_TOO_MUCH = 10**-2.5

_QAT = "or train with quantization in the loop"


def find(view: View, t: TensorFigures, explained: float) -> Claim | None:
    """What is left.

    Args:
      view: the model.
      t: the tensor.
      explained: noise that other causes account for, here and at the inputs.
    """
    if bits(t) > 8:
        return None
    return _far_from_zero(view, t) or _too_much(view, t, explained)


def _too_much(view: View, t: TensorFigures, explained: float) -> Claim | None:
    step = view.step(t)
    total = view.isolated(t)
    total = step if total is None else total
    left = total - explained
    if left < _TOO_MUCH or left < 0.5 * total:
        return None
    if step >= 0.5 * left:
        return Claim(
            NAME,
            "8 bits are too few for this distribution",
            f"{noise.decibel(total):.0f} dB is near what 8 bits can give here: the grid fits the "
            f"values, {span(t.observed)}, but most are no larger than a "
            f"few steps of {number(t.scale, 3)}.",
            wider_around(view, t, f"Give the layer 16-bit activations, {_QAT}.{_rare(t)}"),
            left,
        )
    inputs = view.inputs(t)
    if t.weights is not None and inputs and all(bits(i) > 8 for i in inputs):
        return Claim(
            NAME,
            "The op makes the rounding of its weights large",
            f"{noise.decibel(total):.0f} dB, though its inputs have 16 bits: {t.op} passes on the "
            f"rounding of its {t.weights.bits}-bit weights with little signal left.",
            Remedy("Train with quantization in the loop."),
            left,
        )
    return Claim(
        NAME,
        "The op makes the rounding of its inputs large",
        f"{noise.decibel(total):.0f} dB, while its own grid would allow "
        f"{noise.decibel(view.own(t)):.0f} dB: {t.op} passes on the rounding of its 8-bit inputs "
        "with little signal left, as where large values cancel.",
        wider(
            view,
            (*(j for i in inputs for j in view.joined(i)), t),
            f"Give the layer and those that feed it 16-bit activations, {_QAT}.",
        ),
        left,
    )


def _rare(t: TensorFigures) -> str:
    """What else there is where only rare values need the range, and by their size matter."""
    if width(t.percentile_range) > NARROW * width(t.grid):
        return ""
    return " If its rare large values do not matter, --calibration=percentile:99.99 clips them."


def _far_from_zero(view: View, t: TensorFigures) -> Claim | None:
    """Differences far from zero, which the grid must hold, too: seen in what reads the tensor."""
    lo, hi = t.observed
    variance = view.variance(t)
    if lo <= 0 <= hi or not variance or fixed(t):
        return None
    amount = min(t.scale**2 / 12 / variance, view.passed_on(t) or 0.0)
    if amount < max(FINE, 4 * view.step(t)):
        return None
    return Claim(
        NAME,
        "Values far from zero leave few steps",
        f"All values lie within {span(t.observed)}, but the grid must hold zero, too: "
        f"{(hi - lo) / t.scale:.0f} of its steps are used. What reads it needs the differences.",
        wider_around(view, t, f"Give the layer 16-bit activations, {_QAT}."),
        amount,
    )
