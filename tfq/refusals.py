"""Why a conversion stops, in words: what failed, where, what to do."""

from __future__ import annotations

from tfq.errors import UsageError
from tfq.plan.layout import Layout
from tfq.plan.plan import Plan
from tfq.plan.scheme import Scheme
from tfq.rewrite.prepare import Prepared
from tfq.sources import Source

__all__ = ["check_trained", "refused", "untrained"]


def check_trained(prepared: Prepared, scheme: Scheme) -> None:
    """Stops a model on whose trained grids a scheme cannot compute.

    Raises:
      UsageError: training was for another type of activations.
    """
    computed = {t.name for t in prepared.model.main.tensors() if not t.is_const}
    grids = {n: g for n, g in prepared.trained.grids.items() if n in computed}
    dtypes = {g.dtype for g in grids.values()}
    if not dtypes or scheme.activations in dtypes:
        return
    other = {"int8": "int8", "int16": "int16x8"}[dtypes.pop()]
    raise UsageError(
        f"Training quantized the activations for the scheme {other}, and its grids do not fit "
        f"{scheme.name}. Convert with --scheme={other}, or train again for {scheme.name}."
    )


def untrained(loaded: Source, layout: Layout) -> UsageError:
    """A trained model without samples holds tensors that training gave no range."""
    names = sorted(t.name for t in layout.sources)
    where = dict.fromkeys(loaded.layer_names.get(n, n) for n in names)
    shown = ", ".join(repr(n) for n in list(where)[:5]) + (", ..." if len(where) > 5 else "")
    return UsageError(
        f"Training gave no range to {len(names)} tensors of this model, at {shown}. They are "
        "calibrated: give representative samples with --data=FILE, or train these layers "
        "with quantizers too."
    )


def refused(message: str, plan: Plan) -> str:
    """What LiteRT said when it refused the integer model, and the likely cause."""
    widest = max(
        (t for t in plan.tensors.items() if t[1].grid.scale),
        key=lambda t: max(t[1].grid.scale),
        default=None,
    )
    text = message.removesuffix(" Export or copy it again.").replace(": it is damaged.", ".")
    if widest is not None:
        lo, hi = widest[1].grid.range()
        text += f" The widest range is that of {widest[0]!r}, {lo:.3g} to {hi:.3g}:"
        text += " are the samples as large as the model's real inputs?"
    return f"{text} Nothing was written."
