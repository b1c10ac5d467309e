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
_FUSED = {
    _ACT.RELU6: ("RELU6", _ACT.RELU),
    _ACT.RELU_N1_TO_1: ("RELU_N1_TO_1", _ACT.NONE),
}
# No grid of 16 bits reaches that many steps; kernels count in 32 bits.
_FAR = 2.0**20


def without_far_bounds(op: Op, scale: float) -> Op:
    """The op without a bound that is out of its output grid's reach.

    Args:
      op: an integer op.
      scale: of its output.
    """
    if _reach(op.name) / scale > _FAR:
        if op.name == "RELU_N1_TO_1":
            return dataclasses.replace(
                op, name="QUANTIZE", options=options_type("QuantizeOptions")()
            )
        return dataclasses.replace(op, name="RELU", options=None)
    name, other = _FUSED.get(getattr(op.options, "fusedActivationFunction", None), ("", 0))
    if _reach(name) / scale <= _FAR:
        return op
    options = copy.copy(op.options)
    options.fusedActivationFunction = other
    return dataclasses.replace(op, options=options)


def _reach(op: str) -> float:
    """The finite bound of a clamp; 0 of other ops."""
    row = spec(op)
    high = row.clamp[1] if row is not None and row.clamp is not None else 0.0
    return high if math.isfinite(high) else 0.0
