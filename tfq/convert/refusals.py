"""Why a conversion stops, in words: what failed, where, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tfq.errors import UsageError
from tfq.graph.model import Graph
from tfq.plan.layout import Layout
from tfq.plan.plan import Plan
from tfq.plan.scheme import Config
from tfq.rewrite.prepare import Prepared
from tfq.sources import Source

__all__ = ["check_trained", "refused", "untrained", "without_samples"]

# How LiteRT names an op that it refuses.
_NODE = re.compile(r"Node number (\d+) \((\w+)\)")


def check_trained(
    prepared: Prepared, layout: Layout, config: Config, layers: Mapping[str, str]
) -> None:
    """Stops a model on whose trained grids a scheme cannot compute.

    Args:
      prepared: the float model.
      layout: of the model, with these choices.
      config: the choices.
      layers: the source's layer of a tensor, for messages.

    Raises:
      UsageError: training was for another width of activations, or for one that no kernel has. A
        trained int8 tensor that a rule widens, and int16 where the conversion computes in 16 bits,
        are no obstacle.
    """
    graph, scheme = prepared.model.main, config.scheme
    trained = [(t, prepared.trained.grids.get(t.name)) for t in graph.tensors() if not t.is_const]
    grids = {t: g.dtype for t, g in trained if g is not None}
    narrow = {t: dtype for t, dtype in grids.items() if dtype not in ("int8", "int16")}
    if narrow:
        raise UsageError(
            f"Training quantized {_named((t.name for t in narrow), layers)} to "
            f"{', '.join(sorted(set(narrow.values())))}, but kernels take activations of 8 or 16 "
            "bits. Train again with 8 bits, or with 16."
        )
    others = {t: dtype for t, dtype in grids.items() if dtype != scheme.activations}
    others = {t: d for t, d in others.items() if layout.dtypes.get(t) == scheme.activations}
    if not others:
        return
    width = next(iter(others.values()))
    if scheme.activations not in grids.values():
        other = {"int8": "int8", "int16": "int16x8"}[width]
        raise UsageError(
            f"Training quantized the activations for the scheme {other}, and its grids do not fit "
            f"{scheme.name}. Convert with --scheme={other}, or train again for {scheme.name}."
        )
    raise UsageError(
        f"Training gave {width} to {_named((t.name for t in others), layers)}, where the scheme "
        f"{scheme.name} computes in {scheme.activations}. Train again with one width of "
        f"activations, or keep theirs by a rule: LayerRule(regex=..., activations={width!r})."
    )


def _named(tensors: Iterable[str], layers: Mapping[str, str], most: int = 3) -> str:
    """How many tensors, and the first of them by their layers."""
    names = sorted(tensors)
    where = list(dict.fromkeys(layers.get(n, n) for n in names))
    shown = ", ".join(map(repr, where[:most])) + (", ..." if len(where) > most else "")
    return f"{len(names)} tensor(s), at {shown},"


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


def without_samples(config: Config) -> UsageError:
    """Nothing says which ranges the model's values have."""
    return UsageError(
        f"Scheme {config.scheme.name} needs representative samples to choose ranges, and the model "
        "carries none. Give some with --data=FILE, or use --scheme=dynamic, which needs none, or "
        "say --data=synthetic for ranges from random numbers (not calibrated: fit for timing only)."
    )


def refused(message: str, plan: Plan, emitted: Graph) -> str:
    """What LiteRT said when it refused the integer model, of which op, and the ranges' extremes.

    Args:
      message: LiteRT's, as an error has it.
      plan: what the model was emitted from.
      emitted: the main graph that was refused.
    """
    text = message.removesuffix(" Export or copy it again.").replace(": it is damaged.", ".")
    node = _NODE.search(message)
    ops = emitted.ops
    if node is not None and int(node[1]) < len(ops) and ops[int(node[1])].name == node[2]:
        text += f" That is the op that computes {ops[int(node[1])].key!r}."
    ranges = {n: t.grid.range() for n, t in plan.tensors.items() if len(t.grid.scale) == 1}
    spans = sorted(ranges, key=lambda n: ranges[n][1] - ranges[n][0])
    for what, name in zip(("narrowest", "widest"), (spans[:1], spans[-1:]), strict=True):
        if name:
            lo, hi = ranges[name[0]]
            text += f" The {what} range is that of {name[0]!r}, {lo:.3g} to {hi:.3g}."
    return (
        f"{text} Are the samples like the model's real inputs? If they are, keep the layer float "
        "with --exclude, and please report this model. Nothing was written."
    )
