"""Every layer is fine by itself, but their errors add up over the depth of the model."""

from __future__ import annotations

from tfq.evaluate.causes import noise
from tfq.evaluate.causes.finding import Claim, Remedy
from tfq.evaluate.causes.remedies import option
from tfq.evaluate.causes.view import FINE, View, bits, label
from tfq.evaluate.figures import TensorFigures

NAME = "accumulates"

# No layer alone makes more than this part of the output's noise.
_PART = 0.3


def find(view: View, t: TensorFigures, explained: float) -> Claim | None:
    """Looks at one output of the model.

    Args:
      view: the model.
      t: the output.
      explained: noise that other causes account for in what it is computed from.
    """
    total = view.accumulated(t)
    sources = view.sources(t)
    layers = [
        (n, o)
        for o in view.analysis.tensors
        if o.name in sources and (n := view.isolated(o)) is not None
    ]
    if total is None or len(layers) < 2 or total < FINE or explained > _PART * total:
        return None
    worst, where = max(layers, key=lambda pair: pair[0])
    if worst > _PART * total:
        return None
    return Claim(
        NAME,
        "Small errors add up over the layers",
        f"No layer is worse than {noise.decibel(worst):.0f} dB by itself ({label(where)}), but as "
        f"the model runs, {label(t)} has {noise.decibel(total):.0f} dB.",
        _remedy(view, t),
        total,
    )


def _remedy(view: View, t: TensorFigures) -> Remedy:
    if bits(t) > 8 or view.option("scheme") == "int16x8":
        return Remedy("Train with quantization in the loop.")
    return option(
        "scheme",
        "int16x8",
        "16-bit activations for the whole model, or with --int16=REGEX for its worst layers; or "
        "train with quantization in the loop.",
    )
