"""Constants of infinity, and of the lowest float, become large numbers that can be computed with.

    select(c, x, -inf)  ->  select(c, x, -1e30)         likewise +inf, and the lowest float, -3.4e38

A mask of minus infinity makes sums infinite, of which no range can be observed; two masks of the
lowest float add up to infinity. What the constants stand for, lower than any value, stays true.
Where an infinite constant multiplies or is multiplied nothing is changed.
"""

from __future__ import annotations

import numpy as np

from tfq.errors import ModelError
from tfq.graph.model import Model, Op, Tensor

_BOUND = np.float32(1e30)

# Ops in which infinity is a bound or a mask.
_ORDERED = {
    "ADD",
    "CONCATENATION",
    "DYNAMIC_UPDATE_SLICE",
    "EQUAL",
    "FILL",
    "GATHER",
    "GREATER",
    "GREATER_EQUAL",
    "LESS",
    "LESS_EQUAL",
    "MAXIMUM",
    "MINIMUM",
    "NOT_EQUAL",
    "PACK",
    "PADV2",
    "SELECT",
    "SELECT_V2",
    "SUB",
}
# And those in which the lowest float is: a mask of zeros and ones is multiplied by it.
_FINITE = _ORDERED | {"MUL"}


def bound_constants(model: Model) -> None:
    """Bounds the float constants of `model` in place.

    Raises:
      ModelError: a constant holds NaN, or an op computes with an infinite one.
    """
    for graph in model.graphs:
        bounded: dict[Tensor, Tensor] = {}
        for op in graph.ops:
            for i, t in enumerate(op.inputs):
                if t is None or not t.is_const or t.dtype != "float32" or not t.size:
                    continue
                low, high = float(t.values().min()), float(t.values().max())
                if low >= -_BOUND and high <= _BOUND:
                    continue
                finite = np.isfinite(low) and np.isfinite(high)
                if op.name in (_FINITE if finite else _ORDERED) and not np.isnan(low):
                    if t not in bounded:
                        bounded[t] = Tensor(
                            f"{t.name}/bounded", t.shape, t.dtype, t.values().clip(-_BOUND, _BOUND)
                        )
                    op.inputs[i] = bounded[t]
                elif not finite:
                    raise _unusable(op, t)


def _unusable(op: Op, t: Tensor) -> ModelError:
    where = f"The constant {t.name!r} of {op.label} at {op.key!r}"
    if np.isnan(t.values()).any():
        return ModelError(
            f"{where} holds NaN, for which no integer stands: training or the export went "
            "wrong. Repair the model."
        )
    return ModelError(
        f"{where} holds infinity, and zero times infinity is NaN. Repair the model; a mask needs "
        "no more than -1e9."
    )
