"""Where the fused activation of an integer kernel clamps."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.graph.model import Op
from tfq.graph.numerics import LIMITS

_ACT = schema.ActivationFunctionType


def clamp_range(op: Op, kernels: str = "xnnpack") -> tuple[int, int]:
    """The integers that the fused activation leaves of the output's type.

    Source: CalculateActivationRangeQuantized in lite/kernels/kernel_util.cc: 0, 1 and 6 on the
    output's grid, divided in float32 and rounded halves away from zero (XNNPACK: to even).

    Args:
      op: an op whose first output is of an integer type; without a grid its integers stand for
        themselves.
      kernels: as for `tfq.runtime.Runner`.
    """
    out = op.outputs[0]
    low, high = LIMITS[out.dtype]
    act = getattr(op.options, "fusedActivationFunction", None) or _ACT.NONE
    round_ = np.rint if kernels == "xnnpack" else lambda v: np.floor(v + np.float32(0.5))
    scale = np.float32(1.0 if out.quant is None else out.quant.scale[0])
    zero = 0 if out.quant is None else int(out.quant.zero_point[0])

    def on_grid(real: float) -> int:
        return zero + int(round_(np.float32(real) / scale))

    if act == _ACT.RELU:
        low = max(low, on_grid(0.0))
    elif act == _ACT.RELU6:
        low, high = max(low, on_grid(0.0)), min(high, on_grid(6.0))
    elif act == _ACT.RELU_N1_TO_1:
        low, high = max(low, on_grid(-1.0)), min(high, on_grid(1.0))
    return low, high
