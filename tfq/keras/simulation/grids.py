"""What kernels read off a tensor's grid: zero points, scales, and where an activation clamps."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfq.graph.clamping import clamp_range
from tfq.graph.model import Op, Quant, Tensor
from tfq.keras.simulation.rounding import as_int64, saturate


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


def finish(op: Op, y: Any, kernels: str) -> Any:
    """Adds the output's zero point and clamps: the last step of every requantizing kernel."""
    low, high = clamp_range(op, kernels)
    return saturate(y + zero(op.outputs[0]), low, high, op.outputs[0].dtype)
