"""Clamps so far beyond a grid that kernels cannot say where they are.

The kernel of a RELU6, alone or fused, computes the integer of 6 on its output's grid, and refuses
or overflows where that is more than 32 bits: activations of 1e-9, as networks have that were not
trained yet. The grid ends long before, so that its own end is the clamp:

    RELU6, RELU_0_TO_1  ->  RELU
    RELU_N1_TO_1        ->  nothing when fused, QUANTIZE alone

which computes the same integers.
"""

from __future__ import annotations

import copy
import dataclasses
import math

from ai_edge_litert import schema_py_generated as schema

from tfq.graph.model import Op, options_type
from tfq.graph.optable import spec

_ACT = schema.ActivationFunctionType
_KERNELS = {"RELU6": "RELU", "RELU_0_TO_1": "RELU", "RELU_N1_TO_1": "QUANTIZE"}
_FUSED = {_ACT.RELU6: ("RELU6", "RELU"), _ACT.RELU_N1_TO_1: ("RELU_N1_TO_1", "NONE")}
# No grid of 16 bits reaches that many steps; kernels count in 32 bits.
_FAR = 2.0**20


@dataclasses.dataclass(frozen=True)
class Unbounded:
    """What stands for a clamp that is out of reach.

    Attributes:
      kernel: the op in its place; None for the op itself.
      activation: the fused activation in the place of its own; None for that.
    """

    kernel: str | None = None
    activation: str | None = None


def far_bound(op: Op, scale: float) -> Unbounded:
    """What to emit for the op where its clamp is out of its output grid's reach.

    Args:
      op: an integer op.
      scale: of its output.
    """
    if op.name in _KERNELS:
        return Unbounded(kernel=_KERNELS[op.name] if _reach(op.name) / scale > _FAR else None)
    name, other = _FUSED.get(getattr(op.options, "fusedActivationFunction", None), ("", ""))
    return Unbounded(activation=other if _reach(name) / scale > _FAR else None)


def _reach(op: str) -> float:
    """The finite bound of a clamp; 0 of other ops."""
    row = spec(op)
    high = row.clamp[1] if row is not None and row.clamp is not None else 0.0
    return high if math.isfinite(high) else 0.0


def without_far_bound(op: Op, instead: Unbounded) -> Op:
    """The op, or what stands for it."""
    if instead.kernel is not None:
        quantize = instead.kernel == "QUANTIZE"
        options = options_type("QuantizeOptions")() if quantize else None
        return dataclasses.replace(op, name=instead.kernel, options=options)
    if instead.activation is not None:
        options = copy.copy(op.options)
        options.fusedActivationFunction = getattr(_ACT, instead.activation)
        return dataclasses.replace(op, options=options)
    return op
