"""Where the values of a tensor come from, behind ops that only move them."""

from __future__ import annotations

from collections.abc import Mapping

from tfq.graph.boundary import own_grid
from tfq.graph.model import Op, Tensor
from tfq.graph.numerics import Grid
from tfq.graph.optable import Kind, spec

_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")


def moves(op: Op) -> bool:
    """Whether an op selects or moves values, or converts them from one type to another."""
    s = spec(op.name)
    return op.name in _CONVERSIONS or (s is not None and s.kind is Kind.SAME)


def moved_inputs(op: Op) -> list[Tensor]:
    """The inputs of such an op that hold values, not shapes or indices."""
    s = spec(op.name)
    at = range(len(op.inputs)) if s is None or s.data is None else s.data
    return [t for i in at if i < len(op.inputs) and (t := op.inputs[i]) is not None]


def makers(t: Tensor, producers: Mapping[Tensor, Op]) -> list[Op | None]:
    """The ops that computed the values of `t`; None stands for an input or a constant."""
    found: list[Op | None] = []
    stack, seen = [t], {t}
    while stack:
        op = producers.get(stack.pop())
        if op is None or not moves(op):
            found.append(op)
            continue
        for source in moved_inputs(op):
            if source not in seen:
                seen.add(source)
                stack.append(source)
    return found


def has_fixed_range(t: Tensor, producers: Mapping[Tensor, Op]) -> bool:
    """Whether all values of `t` are of kernels that fix their range (SOFTMAX, LOGISTIC, TANH, ...),
    so that what is small on it is meant to be small."""
    kinds = [None if op is None else spec(op.name) for op in makers(t, producers)]
    return all(s is not None and s.kind is Kind.FIXED for s in kinds)


def last_grid(t: Tensor, producers: Mapping[Tensor, Op]) -> Grid | None:
    """The grid that the values of `t` were on last, before they were made real; None if none."""
    while (op := producers.get(t)) is not None and op.name == "DEQUANTIZE":
        t = op.input(0)
    return own_grid(t)
