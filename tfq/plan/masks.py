"""Attention masks: -1e9 stands for minus infinity and must not become part of a range.

A mask reaches a softmax as `x + m` with m = 0 or -1e9, or as `select(c, x, -1e9)`. A grid that
spans 1e9 has no step left for x. All the softmax needs is that masked places come out as zero, and
they do when they lie a margin below every x: exp(-8) < 1/512, half a step of its int8 output. So

    select:  the constant saturates at min(x) - margin
    add:     m saturates at min(x) - max(x) - margin, and the sum at min(x) - margin
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.optable import Kind, spec
from tfq.plan.layout import Layout
from tfq.plan.plan import INTEGER

# exp(-margin) is below half a step of the softmax output.
_MARGIN = {"int8": 8.0, "int16": 12.0}

# No trained logit is this low; every mask in use is (-1e4 in half precision, -1e9, -inf, FLT_MIN).
_MASK = -1000.0

_MOVES = {"RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS"}


@dataclasses.dataclass(frozen=True)
class Masks:
    """Attributes:
    floors: tensor -> the real range that replaces its observed one.
    consts: (op, input index) of a mask constant -> the real range of its grid.
    """

    floors: Mapping[Tensor, tuple[float, float]]
    consts: Mapping[tuple[Op, int], tuple[float, float]]


def find_masks(
    graph: Graph, layout: Layout, observed: Callable[[Tensor], tuple[float, float] | None]
) -> Masks:
    """Finds masks above every softmax.

    Args:
      graph: the main graph.
      layout: the plan's `Layout`.
      observed: the real range of a tensor, or None when there are no statistics of it.
    """
    producers = graph.producers()
    choices = layout.choices
    floors: dict[Tensor, tuple[float, float]] = {}
    consts: dict[tuple[Op, int], tuple[float, float]] = {}
    for softmax in graph.ops:
        if softmax.name != "SOFTMAX" or choices[softmax].mode != INTEGER:
            continue
        t = softmax.input(0)
        while (op := producers.get(t)) is not None and op.name in _MOVES:
            t = op.input(0)
        if op is None or op.name not in ("ADD", "SELECT", "SELECT_V2"):
            continue
        first = 0 if op.name == "ADD" else 1
        pair = (first, first + 1)
        ranges = [_range(op.input(i), producers, observed) for i in pair]
        masks = [r is not None and r[0] <= _MASK for r in ranges]
        if masks.count(True) != 1:
            continue
        mask, data = (pair[0], pair[1]) if masks[0] else (pair[1], pair[0])
        x = ranges[data - first]
        if x is None:
            continue
        margin = _MARGIN[choices[softmax].activations]
        lo, hi = min(x[0], 0.0), max(x[1], 0.0)
        m = op.input(mask)
        # What a constant adds where it does not mask: a bias by position.
        below, above = _open_range(m) if op.name == "ADD" else (0.0, 0.0)
        floors[op.outputs[0]] = (lo + below - margin, hi + above)
        low = lo - margin if op.name != "ADD" else lo + below - hi - margin
        if m.is_const:
            consts[op, mask] = (low, above)
        elif op.name == "ADD":
            for source in _sources(m, producers):
                floors[source] = (low, 0.0)
    return Masks(floors, consts)


def _sources(t: Tensor, producers: Mapping[Tensor, Op]) -> list[Tensor]:
    """`t`, and the tensor it was moved from."""
    found = [t]
    while (op := producers.get(t)) is not None and op.name in (*_MOVES, "TILE", "BROADCAST_TO"):
        t = op.input(0)
        found.append(t)
    return found


def _open_range(m: Tensor) -> tuple[float, float]:
    """The range, with zero, of the values of a constant that do not mask."""
    if not m.is_const:
        return 0.0, 0.0
    values = m.values()[m.values() > _MASK]
    return float(values.min(initial=0.0)), float(values.max(initial=0.0))


def _range(
    t: Tensor,
    producers: Mapping[Tensor, Op],
    observed: Callable[[Tensor], tuple[float, float] | None],
) -> tuple[float, float] | None:
    """The observed range of `t`, or of what its values were moved or picked from."""
    found = observed(t)
    op = producers.get(t)
    s = spec(op.name) if op is not None else None
    if found is not None or op is None or s is None or s.kind is not Kind.SAME:
        return found
    indices = range(len(op.inputs)) if s.data is None else s.data
    parts = [_range(op.input(i), producers, observed) for i in indices if i < len(op.inputs)]
    known = [p for p in parts if p is not None]
    if not known or len(known) < len(parts):
        return None
    return min(p[0] for p in known), max(p[1] for p in known)
