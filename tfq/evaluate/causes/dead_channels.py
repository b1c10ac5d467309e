"""Channels that are zero in the float model on every sample: wasted work, harmless for accuracy."""

from __future__ import annotations

from tfq.evaluate.causes.finding import Claim, Remedy
from tfq.evaluate.causes.view import View
from tfq.evaluate.figures import TensorFigures

NAME = "dead_channels"

# Few samples leave many channels silent by chance, and some always are.
_SAMPLES = 8
_SHARE = 0.25

_WEIGHT = 0.05


def find(view: View, t: TensorFigures) -> Claim | None:
    channels = t.channels
    if channels is None or t.weights is None or view.analysis.samples < _SAMPLES:
        return None
    share = channels.dead / channels.count
    if channels.dead < 2 or share < _SHARE:
        return None
    return Claim(
        NAME,
        "Channels that are always zero",
        f"{channels.dead} of {channels.count} channels are zero in the float model on all "
        f"{view.analysis.samples} samples. This costs no accuracy, but size and time.",
        Remedy("Remove the channels from the model, or train them again; nothing to convert."),
        0.0,
        weight=_WEIGHT * share,
    )
