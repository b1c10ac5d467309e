"""What kernels read off a tensor's grid: zero points, scales, and where an activation clamps."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.graph.model import Op, Quant, Tensor
from tfq.graph.numerics import LIMITS
from tfq.keras.simulation.rounding import as_int64, saturate

_ACT = schema.ActivationFunctionType


def quant(tensor: Tensor) -> Quant:
    """The tensor's grid; integers without one stand for themselves."""
    return tensor.quant or Quant.per_tensor(1.0)


def scale(tensor: Tensor) -> np.float32:
    return np.float32(quant(tensor).scale[0])


def zero(tensor: Tensor) -> int:
    return int(quant(tensor).zero_point[0])


def centred(value: Any, tensor: Tensor) -> Any:
    """The integers with their zero point taken away, int64."""
    return as_int64(value) - zero(tensor)


def clamp_range(op: Op, kernels: str) -> tuple[int, int]:
    """The integers that the fused activation leaves of the output's type.

    Source: CalculateActivationRangeQuantized in lite/kernels/kernel_util.cc: 0, 1 and 6 on the
    output's grid, divided in float32 and rounded halves away from zero (XNNPACK: to even).
    """
    out = op.outputs[0]
    low, high = LIMITS[out.dtype]
    act = getattr(op.options, "fusedActivationFunction", None) or _ACT.NONE
    round_ = np.rint if kernels == "xnnpack" else lambda v: np.floor(v + np.float32(0.5))

    def on_grid(real: float) -> int:
        return zero(out) + int(round_(np.float32(real) / scale(out)))

    if act == _ACT.RELU:
        low = max(low, on_grid(0.0))
    elif act == _ACT.RELU6:
        low, high = max(low, on_grid(0.0)), min(high, on_grid(6.0))
    elif act == _ACT.RELU_N1_TO_1:
        low, high = max(low, on_grid(-1.0)), min(high, on_grid(1.0))
    return low, high


def finish(op: Op, y: Any, kernels: str) -> Any:
    """Adds the output's zero point and clamps: the last step of every requantizing kernel."""
    low, high = clamp_range(op, kernels)
    return saturate(y + zero(op.outputs[0]), low, high, op.outputs[0].dtype)
