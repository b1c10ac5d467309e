"""The weights' own rounding is a large part of the error: few bits, or one scale for all."""

from __future__ import annotations

from tfq.evaluate.causes import channel_imbalance, noise
from tfq.evaluate.causes.finding import Claim, Remedy
from tfq.evaluate.causes.remedies import option
from tfq.evaluate.causes.view import FINE, View
from tfq.evaluate.figures import TensorFigures, WeightFigures

NAME = "weights_too_coarse"

# The least gain of clipping the largest weights that is worth it: 3 dB.
_GAIN = 2.0


def find(view: View, t: TensorFigures) -> Claim | None:
    w = t.weights
    amount = view.weights(t)
    if w is None or amount < FINE:
        return None
    scales = "a scale per channel" if w.per_channel else "one scale for all channels"
    return Claim(
        NAME,
        "The weights are rounded too coarsely",
        f"The weights have {w.sqnr_db:.0f} dB in {w.bits} bits with {scales}; "
        "40 to 45 dB are usual in 8 bits with a scale per channel.",
        _remedy(view, t, w),
        amount,
    )


def _remedy(view: View, t: TensorFigures, w: WeightFigures) -> Remedy:
    mse = view.option("weights") != "mse" and _gain(w) >= _GAIN
    if not w.per_channel and not (mse and w.imbalance < 2):
        return channel_imbalance.per_channel(t)
    if mse:
        return option(
            "weights",
            "mse",
            "Choose the weights' scales by least squared error, not by the largest.",
        )
    if w.bits < 8:
        return Remedy(
            "Give such layers 8-bit weights (--weight_bits=REGEX=8), or train with quantization in "
            f"the loop: no scale represents these weights well in {w.bits} bits."
        )
    return Remedy(
        "Train with quantization in the loop: no scale represents these weights well in "
        f"{w.bits} bits."
    )


def _gain(w: WeightFigures) -> float:
    """How much less noise the best scale has than that of the largest weight."""
    bins = None if w.histogram is None else noise.bins_of_weights(w.histogram)
    if bins is None:
        return _GAIN
    peak = max(abs(float(bins.lower[0])), abs(float(bins.upper[-1])))
    now = noise.on_grid(bins, -peak, peak, w.bits, symmetric=True)
    best = min(
        noise.on_grid(bins, -peak * f, peak * f, w.bits, symmetric=True)
        for f in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
    )
    return now / best if best > 0 else 1.0
