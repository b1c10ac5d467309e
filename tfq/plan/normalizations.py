"""Where 8 bits are too few inside an int8 model, whatever the ranges.

A variance is a mean of squares: its useful values span orders of magnitude, and 1/sqrt magnifies
what rounding did to the small ones. LayerNormalization, GroupNormalization and RMS norm in plain
int8 lose several bits of every activation. Their short chains (mean, difference, square, mean,
rsqrt, product) run in int16, which costs little beside the layers around them.
"""

from __future__ import annotations

from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.optable import MOVES

_REDUCTIONS = {"MEAN", "SUM", "AVERAGE_POOL_2D"}
_AFFINE = {"MUL", "ADD", "SUB", "DIV"}
REASON = "part of a normalization: 8 bits cannot hold a variance"


def wide_ops(graph: Graph) -> dict[Op, str]:
    """The ops that an int8 model should compute in int16, with the reason."""
    producers = graph.producers()
    wide: dict[Op, str] = {}
    for root in graph.ops:
        if root.name not in ("RSQRT", "SQRT"):
            continue
        found = _up_to_square(root.input(0), producers)
        if found is None:
            continue
        above, data = found
        wide.update(dict.fromkeys([root, *above], REASON))
        _spread(graph, wide, {t for op in [root, *above] for t in op.outputs}, data)
    return wide


def _up_to_square(t: Tensor, producers: dict[Tensor, Op]) -> tuple[list[Op], Tensor] | None:
    """From a variance up to the data it is of: the ops between, and the data; None if it is not."""
    ops: list[Op] = []
    reduced = False
    for _ in range(8):
        op = producers.get(t)
        if op is None:
            return None
        ops.append(op)
        if op.name == "SQUARED_DIFFERENCE":
            data, mean = op.input(0), op.input(1)
            if (center := producers.get(mean)) is not None and center.name in _REDUCTIONS | MOVES:
                ops += _reduction(mean, producers)
            return (ops, data) if reduced else None
        if op.name == "SQUARE" or (op.name == "MUL" and op.inputs[0] is op.inputs[1]):
            data = op.input(0)
            center = producers.get(data)
            if center is not None and center.name == "SUB":
                mean_ops = _reduction(center.input(1), producers)
                if mean_ops:
                    ops += [center, *mean_ops]
                    data = center.input(0)
            return (ops, data) if reduced else None
        reduced |= op.name in _REDUCTIONS
        others = [i for i in op.inputs if i is not None and not i.is_const]
        if len(others) != 1 or op.name not in _REDUCTIONS | MOVES | _AFFINE | {"MAXIMUM"}:
            return None
        t = others[0]
    return None


def _reduction(t: Tensor, producers: dict[Tensor, Op]) -> list[Op]:
    """The MEAN that computes `t` with the reshapes after it, or nothing."""
    ops: list[Op] = []
    while (op := producers.get(t)) is not None and op.name in MOVES | _REDUCTIONS:
        ops.append(op)
        if op.name in _REDUCTIONS:
            return ops
        t = op.input(0)
    return []


def _spread(graph: Graph, wide: dict[Op, str], tensors: set[Tensor], data: Tensor) -> None:
    """Adds the differences, products and constant scale and shift that make the result."""
    known = {*tensors, data}
    for op in graph.ops:
        if op in wide or op.name not in _AFFINE | MOVES:
            continue
        computed = [t for t in op.inputs if t is not None and t.dtype == "float32"]
        computed = [t for t in computed if not t.is_const]
        if not all(t in known for t in computed):
            continue
        if any(t in tensors for t in computed):
            wide[op] = REASON
            tensors.update(op.outputs)
            known.update(op.outputs)
