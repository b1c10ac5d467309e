"""EQUAL, LESS and their kind.

On a grid both sides are first brought to steps of 1/256: (x - z) * 2^8 times the scale, rounded
(lite/kernels/comparisons.cc). The ordering kernels of int16 compare the integers as they are.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfq.graph.model import Op, Tensor
from tfq.keras.simulation.grids import centred, scale
from tfq.keras.simulation.rounding import as_int64, fixed_multiplier, scaled_twice


def _steps(value: Any, tensor: Tensor) -> Any:
    return scaled_twice(centred(value, tensor) * 2**8, *fixed_multiplier(float(scale(tensor))))


def _sides(op: Op, values: list[Any], rescaled: tuple[str, ...]) -> tuple[Any, Any]:
    if op.input(0).dtype not in rescaled:
        return values[0], values[1]
    return _steps(values[0], op.input(0)), _steps(values[1], op.input(1))


def _ordered(op: Op, values: list[Any]) -> tuple[Any, Any]:
    a, b = _sides(op, values, ("int8",))
    return as_int64(a), as_int64(b)


def equal(op: Op, values: list[Any], kernels: str) -> list[Any]:
    return [tf.equal(*_sides(op, values, ("int8", "int16")))]


def not_equal(op: Op, values: list[Any], kernels: str) -> list[Any]:
    return [tf.not_equal(*_sides(op, values, ("int8", "int16")))]


def less(op: Op, values: list[Any], kernels: str) -> list[Any]:
    return [tf.less(*_ordered(op, values))]


def less_equal(op: Op, values: list[Any], kernels: str) -> list[Any]:
    return [tf.less_equal(*_ordered(op, values))]


def greater(op: Op, values: list[Any], kernels: str) -> list[Any]:
    return [tf.greater(*_ordered(op, values))]


def greater_equal(op: Op, values: list[Any], kernels: str) -> list[Any]:
    return [tf.greater_equal(*_ordered(op, values))]
