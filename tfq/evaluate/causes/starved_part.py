"""A part of an output has only a few steps of a grid that a larger part makes coarse.

The output's own error does not show it: all its power is the larger part's. So the severity is that
of the part: its values are even over n steps at best, which leaves 20 log10(n) dB of them.
"""

from __future__ import annotations

import math
import shlex

from tfq.evaluate.causes.finding import Claim, Remedy
from tfq.evaluate.causes.remedies import wider
from tfq.evaluate.causes.view import View, fixed, label, moves, same_grid
from tfq.evaluate.causes.wording import number, span
from tfq.evaluate.figures import TensorFigures
from tfq.verify.meter import FEW_STEPS

NAME = "starved_part"

_JOINTS = ("CONCATENATION", "PACK")
_GOOD_DB = 35.0
_NOTHING = 2.0**-20


def find(view: View, t: TensorFigures) -> Claim | None:
    """Of outputs; what starves inside of a model is the shared scale's matter."""
    if not view.is_output(t) or _has_fixed_range(view, t):
        return None
    joint = _joint(view, t)
    parts = [(p.name, p.low, p.high) for p in t.parts]
    if joint is not None and joint.op in _JOINTS and not any(_starves(t, *p[1:]) for p in parts):
        # The parts may lie along another axis than the last.
        parts = [(f" from {label(i)}", *i.observed) for i in view.inputs(joint)]
    widest = max((high - low for _, low, high in parts), default=0.0)
    starved = [
        (high - low, name, low, high)
        for name, low, high in parts
        if _starves(t, low, high) and high - low > _NOTHING * widest
    ]
    if widest < FEW_STEPS * t.scale or not starved:
        return None
    spread, name, low, high = min(starved)
    steps = spread / t.scale
    left = 20 * math.log10(steps)
    output = view.output_name(t)
    return Claim(
        NAME,
        "A part of the output has hardly any steps",
        f"{output}{name} reaches from {span((low, high))}, {number(steps, 2)} steps of the grid "
        f"that larger parts of the output need ({number(t.scale, 3)} a step).",
        _remedy(view, t, joint, output, steps),
        0.0,
        min(max((_GOOD_DB - left) / _GOOD_DB, 0.0), 1.0),
    )


def _starves(t: TensorFigures, low: float, high: float) -> bool:
    return 0 < high - low < FEW_STEPS * t.scale


def _remedy(
    view: View, t: TensorFigures, joint: TensorFigures | None, output: str, steps: float
) -> Remedy:
    also = "or scale the parts alike in the model (boxes to 0..1)"
    if joint is not None and joint.op == "CONCATENATION":
        return Remedy(
            f"Give the parts outputs of their own, each with its own grid, {also}.",
            f"--split_output={shlex.quote(output)}",
            f"tfq.convert_model(..., split_output={output!r})",
        )
    if 256 * steps < FEW_STEPS:
        return Remedy(f"Make outputs of the parts, {also}: 16 bits would not be enough.")
    return wider(view, view.joined(t), f"Give the output 16 bits, {also}.", output=True)


def _joint(view: View, t: TensorFigures) -> TensorFigures | None:
    """The concatenation whose values an output is, only moved."""
    while t.op not in _JOINTS:
        inputs = view.inputs(t)
        if not moves(t) or len(inputs) != 1 or not same_grid(inputs[0], t):
            return None
        t = inputs[0]
    return t


def _has_fixed_range(view: View, t: TensorFigures) -> bool:
    """Whether kernels fix the range of all values, so that what is small is meant to be small."""
    if moves(t) and view.inputs(t):
        return all(_has_fixed_range(view, i) for i in view.inputs(t))
    return fixed(t)
