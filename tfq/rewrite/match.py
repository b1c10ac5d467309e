"""Small questions that several rewrites ask about ops and constants."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.graph.model import Op, Tensor
from tfq.graph.optable import OP_TABLE, Kind

ACT = schema.ActivationFunctionType
PADDING = schema.Padding

# Ops y = f(x, w) + b that are linear in the weights, with where the parts are.
# op: (input, weight, bias, axis of the weight that counts output channels)
WEIGHTED = {
    name: (row.data[0], row.weights, row.bias, row.axis)
    for name, row in OP_TABLE.items()
    if row.kind is Kind.WEIGHTED
    and row.data is not None
    and row.weights is not None
    and row.bias is not None
    and row.axis is not None
}


def activation(op: Op) -> int:
    """The fused activation of an op (0 when it has none or cannot have one)."""
    return int(getattr(op.options, "fusedActivationFunction", ACT.NONE))


def is_float(*tensors: Tensor) -> bool:
    return all(t.dtype == "float32" for t in tensors)


def static(*tensors: Tensor) -> bool:
    return all(t.signature is None for t in tensors)


def scalar(tensor: Tensor | None) -> float | None:
    """The value of a float constant all of whose elements are equal, else None."""
    if tensor is None or tensor.data is None or tensor.dtype != "float32" or not tensor.size:
        return None
    flat = tensor.data.reshape(-1)
    first = flat[0]
    return float(first) if flat.size == 1 or np.all(flat == first) else None


def ints(tensor: Tensor | None) -> tuple[int, ...] | None:
    """The values of an integer constant, flat, else None."""
    if tensor is None or tensor.data is None or tensor.dtype not in ("int32", "int64"):
        return None
    return tuple(int(v) for v in tensor.data.reshape(-1))


def axes(tensor: Tensor | None, rank: int) -> tuple[int, ...] | None:
    """A constant axis list as sorted non-negative numbers, else None."""
    values = ints(tensor)
    return None if values is None else tuple(sorted({v % rank for v in values}))


def const_side(op: Op) -> tuple[Tensor, Tensor, bool] | None:
    """For a binary op with one float constant: (computed, constant, constant is on the right)."""
    a, b = op.input(0), op.input(1)
    if not is_float(a, b, op.outputs[0]) or a.is_const == b.is_const:
        return None
    return (a, b, True) if b.is_const else (b, a, False)


def per_channel(const: Tensor, channels: int) -> np.ndarray | None:
    """A constant that varies along the last axis only, as a [channels] vector, else None."""
    values = const.values()
    if values.size == 1:
        return np.full(channels, values.reshape(-1)[0], np.float32)
    if values.shape[-1] != channels or values.size != channels:
        uniform = scalar(const)
        return None if uniform is None else np.full(channels, uniform, np.float32)
    return np.asarray(values, np.float32).reshape(channels)


def broadcasts_to(const: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether combining a constant with a tensor of `shape` keeps that shape."""
    try:
        return np.broadcast_shapes(const.shape, shape) == shape
    except ValueError:
        return False
