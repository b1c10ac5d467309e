"""Channels so different in magnitude that the small ones have few of the grid's steps left.

The loss does not show in the tensor's own error, which the large channels dominate, but where the
next layer's weights make the small channels large again: there noise appears that the next layer
does not explain. A channel whose peak is `imbalance` times smaller than the widest one's has a
noise of step^2 / 12 over (peak / imbalance / crest)^2; crest, peak over rms, is taken as 4. What
the median channel loses decides whether imbalance is to blame; what the next layer shows, how much.
"""

from __future__ import annotations

from tfq.evaluate.causes.finding import Claim, Remedy
from tfq.evaluate.causes.remedies import option, wider_until_even
from tfq.evaluate.causes.view import FINE, UNEVEN, View, fixed
from tfq.evaluate.causes.wording import number
from tfq.evaluate.figures import TensorFigures

NAME = "channel_imbalance"

_CREST = 4.0


def find(view: View, t: TensorFigures) -> Claim | None:
    # Where activations are uneven, their layer's weights are, too: equalization mends both.
    return _activations(view, t) or _weights(view, t)


def _activations(view: View, t: TensorFigures) -> Claim | None:
    channels, peak = t.channels, max(abs(t.observed[0]), abs(t.observed[1]))
    if channels is None or channels.imbalance < UNEVEN or fixed(t) or not peak:
        return None
    median = t.scale**2 / 12 * (_CREST * channels.imbalance / peak) ** 2
    amount = view.passed_on(t) or 0.0
    if min(median, amount) < FINE:
        return None
    steps = peak / t.scale / channels.imbalance
    lost = f", and {channels.silenced} constant now" if channels.silenced else ""
    return Claim(
        NAME,
        "Channels of very different size share one grid",
        f"The widest of {channels.count} channels is {number(channels.imbalance, 3)} times the "
        f"median one, which has about {steps:.0f} steps left{lost}. The layers that read "
        "it need the small channels.",
        _remedy(view, t),
        amount,
    )


def _remedy(view: View, t: TensorFigures) -> Remedy:
    text = "Equalize: scale the channels alike, and the next layer's weights the other way."
    if t.weights is not None and view.option("equalization") not in ("cross_layer",):
        return option("equalization", "cross_layer", text)
    return wider_until_even(
        view, t, "Give the layer 16-bit activations, or scale the channels alike in training."
    )


def _weights(view: View, t: TensorFigures) -> Claim | None:
    w = t.weights
    if w is None or w.per_channel or w.imbalance < UNEVEN or t.op in _ONE_SCALE:
        return None
    top = 2 ** (w.bits - 1) - 1
    shown = (view.passed_on(t), view.isolated(t), view.weights(t))
    amount = max(n for n in shown if n is not None)
    if min((_CREST * w.imbalance / top) ** 2 / 12, amount) < FINE:
        return None
    return Claim(
        NAME,
        "One scale for output channels of very different size",
        f"The widest output channel of the weights is {number(w.imbalance, 3)} times the median "
        f"one, and all share one scale: the median channel has {2 * top / w.imbalance:.0f} "
        f"steps of {2 * top}.",
        per_channel(t),
        amount,
    )


# No kernel takes a scale per channel.
_ONE_SCALE = ("BATCH_MATMUL",)


def per_channel(t: TensorFigures) -> Remedy:
    """A scale for every output channel, with the flag that decides it for this op."""
    return option(
        "dense_granularity" if t.op == "FULLY_CONNECTED" else "granularity",
        "per_channel",
        "Give every output channel its own scale; if the target cannot, equalize with "
        "--equalization=cross_layer.",
    )
