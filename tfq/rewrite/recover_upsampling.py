"""Repeated rows and columns become RESIZE_NEAREST_NEIGHBOR.

    RESHAPE(TILE(RESHAPE(TILE(RESHAPE(x)))))  ->  RESIZE_NEAREST_NEIGHBOR(x)

where x is [n, h, w, c], the tiles repeat along a new dimension behind h and then behind w (or the
other way round), and the result is [n, a h, b w, c]. Keras's UpSampling2D converts to the left.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import ints, is_float, static


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    x: Tensor


def _repeats(op: Op, view: View) -> tuple[Tensor, list[tuple[tuple[int, ...], int]]] | No:
    """The source, and for the first and second repeat (the opened shape, how often)."""
    x = op.input(0)
    found: list[tuple[tuple[int, ...], int]] = []
    for _ in range(2):
        tile = view.made_by(x, "TILE")
        opened = view.made_by(tile.input(0), "RESHAPE") if tile is not None else None
        if tile is None or opened is None:
            return No("not two repeats, each a RESHAPE and a TILE")
        shape, times = opened.outputs[0].shape, ints(tile.input(1))
        many = [i for i, t in enumerate(times or ()) if t != 1]
        if times is None or len(many) != 1 or shape[many[0]] != 1:
            return No("a TILE that repeats something else than single slices")
        found.append((shape, times[many[0]]))
        x = opened.input(0)
    return x, found[::-1]


def check(op: Op, view: View) -> _Match | No:
    out = op.outputs[0]
    if len(out.shape) != 4 or not is_float(out) or not static(out):
        return No("the result is not a static float image")
    repeats = _repeats(op, view)
    if isinstance(repeats, No):
        return repeats
    x, found = repeats
    if len(x.shape) != 4 or not static(x) or x.shape[0] != out.shape[0]:
        return No("the source is not a static image")
    n, h, w, c = x.shape
    a, b = out.shape[1] // h, out.shape[2] // w
    rows_first = [((n, h, 1, w, c), a), ((n, a * h, w, 1, c), b)]
    columns_first = [((n, h, w, 1, c), b), ((n, h, 1, b * w, c), a)]
    if found not in (rows_first, columns_first) or out.shape != (n, a * h, b * w, c):
        return No("it repeats something else than rows and columns")
    return _Match(op, x)


def apply(m: _Match, view: View) -> None:
    out = m.op.outputs[0]
    size = view.const(f"{out.name}/size", out.shape[1:3], "int32")
    view.replace(
        m.op,
        [new_op("RESIZE_NEAREST_NEIGHBOR", [m.x, size], out, "ResizeNearestNeighborOptions")],
    )


RULE = Rule(name="recover_upsampling", roots=frozenset({"RESHAPE"}), check=check, apply=apply)
