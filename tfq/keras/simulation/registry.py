"""Which function simulates which op."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tfq.graph.model import Model, Op
from tfq.keras.simulation import (
    arithmetic,
    boundary,
    comparisons,
    moves,
    resize,
    softmax,
    tables,
    weighted,
)

# (op, the values of its inputs, "reference" | "builtin" | "xnnpack") -> the values of its outputs.
Simulation = Callable[[Op, list[Any], str], list[Any]]


@dataclasses.dataclass(frozen=True)
class Row:
    """One op.

    Attributes:
      function: computes it.
      constants: the inputs that must be constants: weights, shapes, axes.
      activations: the quantized types for which it is exact.
    """

    function: Simulation
    constants: tuple[int, ...] = ()
    activations: tuple[str, ...] = ("int8", "int16")


_INT8 = ("int8",)

OPS: Mapping[str, Row] = MappingProxyType(
    {
        "ABS": Row(tables.elementwise),
        "ADD": Row(arithmetic.add),
        "ARG_MAX": Row(moves.arg_max, (1,)),
        "ARG_MIN": Row(moves.arg_min, (1,)),
        "AVERAGE_POOL_2D": Row(arithmetic.average_pool_2d),
        "BATCH_MATMUL": Row(weighted.batch_matmul),
        "BATCH_TO_SPACE_ND": Row(moves.batch_to_space_nd, (1, 2)),
        "BROADCAST_TO": Row(moves.broadcast_to, (1,)),
        "CAST": Row(moves.cast),
        "CONCATENATION": Row(moves.concatenation),
        "CONV_2D": Row(weighted.conv_2d, (1, 2)),
        "DEPTHWISE_CONV_2D": Row(weighted.depthwise_conv_2d, (1, 2)),
        "DEPTH_TO_SPACE": Row(moves.depth_to_space),
        "DEQUANTIZE": Row(boundary.dequantize),
        "DYNAMIC_UPDATE_SLICE": Row(moves.dynamic_update_slice),
        "ELU": Row(tables.elementwise),
        "EMBEDDING_LOOKUP": Row(moves.embedding_lookup),
        "EQUAL": Row(comparisons.equal),
        "EXP": Row(tables.elementwise),
        "EXPAND_DIMS": Row(moves.expand_dims, (1,)),
        "FULLY_CONNECTED": Row(weighted.fully_connected, (2,)),
        "GATHER": Row(moves.gather),
        "GATHER_ND": Row(moves.gather_nd),
        "GELU": Row(tables.elementwise),
        "GREATER": Row(comparisons.greater),
        "GREATER_EQUAL": Row(comparisons.greater_equal),
        "HARD_SWISH": Row(tables.elementwise),
        "LEAKY_RELU": Row(tables.elementwise),
        "LESS": Row(comparisons.less),
        "LESS_EQUAL": Row(comparisons.less_equal),
        "LOG": Row(tables.elementwise),
        "LOGICAL_AND": Row(moves.logical_and),
        "LOGICAL_NOT": Row(moves.logical_not),
        "LOGICAL_OR": Row(moves.logical_or),
        "LOGISTIC": Row(tables.elementwise),
        "MAXIMUM": Row(moves.maximum),
        "MAX_POOL_2D": Row(arithmetic.max_pool_2d),
        "MEAN": Row(arithmetic.mean, (1,)),
        "MINIMUM": Row(moves.minimum),
        "MIRROR_PAD": Row(moves.mirror_pad, (1,)),
        "MUL": Row(arithmetic.mul),
        "NOT_EQUAL": Row(comparisons.not_equal),
        "PACK": Row(moves.pack),
        "PAD": Row(moves.pad, (1,)),
        "PADV2": Row(moves.pad, (1, 2)),
        "PRELU": Row(arithmetic.prelu, activations=_INT8),
        "QUANTIZE": Row(boundary.quantize),
        "REDUCE_MAX": Row(moves.reduce_max, (1,)),
        "REDUCE_MIN": Row(moves.reduce_min, (1,)),
        "RELU": Row(tables.elementwise),
        "RELU6": Row(tables.elementwise),
        "RELU_0_TO_1": Row(tables.elementwise),
        "RELU_N1_TO_1": Row(tables.elementwise),
        "RESHAPE": Row(moves.reshape),
        "RESIZE_BILINEAR": Row(resize.resize_bilinear, (1,)),
        "RESIZE_NEAREST_NEIGHBOR": Row(resize.resize_nearest_neighbor, (1,)),
        "REVERSE_V2": Row(moves.reverse_v2, (1,)),
        "RIGHT_SHIFT": Row(moves.right_shift),
        "RSQRT": Row(tables.elementwise),
        "SELECT": Row(moves.select),
        "SELECT_V2": Row(moves.select),
        "SLICE": Row(moves.slice_, (1, 2)),
        "SOFTMAX": Row(softmax.softmax),
        "SPACE_TO_BATCH_ND": Row(moves.space_to_batch_nd, (1, 2)),
        "SPACE_TO_DEPTH": Row(moves.space_to_depth),
        "SPLIT": Row(moves.split, (0,)),
        "SPLIT_V": Row(moves.split_v, (1, 2)),
        "SQRT": Row(tables.elementwise),
        "SQUARED_DIFFERENCE": Row(arithmetic.squared_difference, activations=_INT8),
        "SQUEEZE": Row(moves.squeeze),
        "STRIDED_SLICE": Row(moves.strided_slice, (1, 2, 3)),
        "SUB": Row(arithmetic.sub),
        "SUM": Row(arithmetic.sum_, (1,)),
        "TANH": Row(tables.elementwise),
        "TILE": Row(moves.tile, (1,)),
        "TRANSPOSE": Row(moves.transpose, (1,)),
        "TRANSPOSE_CONV": Row(weighted.transpose_conv, (0, 1, 3)),
        "UNPACK": Row(moves.unpack),
    }
)

# Integers that stand for themselves: row numbers, shapes, masks.
_PLAIN = frozenset({"bool", "int32", "int64"})
# Weights that are packed below a byte hold ordinary integers here.
_WEIGHTS = frozenset({"int2", "int4", "int8"})


def unsupported(model: Model, names: Sequence[str]) -> list[str]:
    """What cannot be simulated, one phrase for each op: what, why and which layer."""
    reasons = []
    for op, name in zip(model.main.ops, names, strict=True):
        reason = _obstacle(op)
        if reason:
            reasons.append(f"{op.label} ({reason}, layer {name!r})")
    return reasons


def _obstacle(op: Op) -> str:
    row = OPS.get(op.name)
    if row is None:
        return "unknown"
    if op.name in ("QUANTIZE", "DEQUANTIZE"):
        return ""
    for i in row.constants:
        tensor = op.inputs[i] if i < len(op.inputs) else None
        if tensor is not None and not tensor.is_const:
            return f"its input {i} is computed"
    for t in [*op.inputs, *op.outputs]:
        if t is None or t.dtype in _PLAIN or t.dtype in row.activations:
            continue
        if t.is_const and t.dtype in _WEIGHTS:
            continue
        return f"computes in {t.dtype}"
    return ""
