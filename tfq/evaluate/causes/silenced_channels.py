"""Channels that vary in the float model but are constant in the quantized one.

All they say lies within one step. It matters where something reads them and makes them large
again: noise appears there that the reader does not explain.
"""

from __future__ import annotations

from tfq.evaluate.causes import channel_imbalance
from tfq.evaluate.causes.finding import Claim, Remedy
from tfq.evaluate.causes.remedies import option, wider_until_even
from tfq.evaluate.causes.view import FINE, View, bits, fixed
from tfq.evaluate.causes.wording import number
from tfq.evaluate.figures import TensorFigures

NAME = "silenced_channels"


def find(view: View, t: TensorFigures) -> Claim | None:
    channels = t.channels
    # With 16 bits, what is constant came in constant.
    if channels is None or not channels.silenced or fixed(t) or bits(t) > 8:
        return None
    amount = view.passed_on(t) or 0.0
    if amount < FINE or channel_imbalance.find(view, t) is not None:
        return None
    return Claim(
        NAME,
        "Channels smaller than one step",
        f"{channels.silenced} of {channels.count} channels vary in the float model and are "
        f"constant in the quantized one: a step of {number(t.scale, 3)} is too coarse for them.",
        _remedy(view, t),
        amount,
    )


def _remedy(view: View, t: TensorFigures) -> Remedy:
    if t.weights is not None and not t.weights.per_channel:
        return channel_imbalance.per_channel(t)
    if t.weights is not None and view.option("equalization") != "cross_layer":
        return option(
            "equalization", "cross_layer", "Equalize the channels, or give the layer 16 bits."
        )
    return wider_until_even(view, t, "Give the layer 16-bit activations.")
