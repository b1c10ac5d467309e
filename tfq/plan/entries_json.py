"""A plan's entries as JSON: how each is written, and what a person may have made of it.

Readers raise ValueError, KeyError or TypeError (`GARBLED` ones) with what is wrong.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from tfq.graph.notes import GARBLED
from tfq.graph.numerics import Grid
from tfq.plan.entries import ACTIVATIONS, MODES, ROUNDINGS, TABLES, WHOLE, OpPlan, TensorPlan


def grid_to_json(grid: Grid) -> dict[str, Any]:
    """A grid; one scale or zero point stands for as many as there are."""
    out: dict[str, Any] = {"dtype": grid.dtype}
    if grid.scale:
        single = len(grid.scale) == 1
        out["scale"] = grid.scale[0] if single else list(grid.scale)
        zeros = set(grid.zero_point)
        out["zero_point"] = grid.zero_point[0] if len(zeros) == 1 else list(grid.zero_point)
        if grid.axis is not None:
            out["axis"] = grid.axis
        if grid.bits is not None:
            out["bits"] = grid.bits
    return out


_MOST_DIMENSIONS = 8

Entry = TypeVar("Entry")


def read_entries(
    body: Mapping[str, Any], section: str, read: Callable[[Any], Entry], *, optional: bool = False
) -> dict[str, Entry]:
    """Every entry of a section, read; what is wrong with one is said with its name."""
    if optional and section not in body:
        return {}
    found = {}
    for name, entry in body[section].items():
        try:
            found[name] = read(entry)
        except GARBLED as e:
            raise ValueError(f"in {section!r} at {name!r}: {type(e).__name__}: {e}") from None
    return found


_KINDS = {str: "text", int: "a whole number", bool: "true or false"}


def read_value(kind: type, body: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """The value at `key`, of exactly that type: True is no number, and "8" none either."""
    value = body[key] if default is None else body.get(key, default)
    if type(value) is not kind:
        raise ValueError(f"{key!r} is not {_KINDS[kind]}: {value!r}")
    return value


def _optional(kind: type, body: Mapping[str, Any], key: str) -> Any:
    return None if body.get(key) is None else read_value(kind, body, key)


def _numbers(values: Any, kinds: tuple[type, ...]) -> list[Any]:
    """One number or a list of them."""
    found = values if isinstance(values, list) else [values]
    if not all(type(v) in kinds for v in found):
        raise ValueError(f"bad scale or zero point: {values!r}")
    return found


def tensor_from_json(body: Mapping[str, Any]) -> TensorPlan:
    """A tensor: its grid, and the reason."""
    return TensorPlan(grid_from_json(body), read_value(str, body, "reason"))


def grid_from_json(body: Mapping[str, Any]) -> Grid:
    """A grid, its scales rounded to the float32 that a file can hold."""
    dtype = read_value(str, body, "dtype")
    if "scale" not in body:
        return Grid(dtype)
    # A hand-edited scale is rounded to the float32 that the file can hold.
    with np.errstate(over="ignore"):
        scale = tuple(float(np.float32(s)) for s in _numbers(body["scale"], (int, float)))
    zero = body["zero_point"]
    zeros = _numbers(zero, (int,)) * (1 if isinstance(zero, list) else len(scale))
    if not scale or len(zeros) != len(scale) or not all(np.isfinite(s) and s > 0 for s in scale):
        raise ValueError(f"bad scale or zero point: {body}")
    axis = _optional(int, body, "axis")
    if axis is not None and not 0 <= axis < _MOST_DIMENSIONS:
        raise ValueError(f"bad axis: {axis}")
    return Grid(dtype, scale, tuple(zeros), axis, _optional(int, body, "bits"))


def lists(values: Mapping[str, tuple[float, ...]]) -> dict[str, list[float]]:
    """Factors by name."""
    return {name: list(v) for name, v in values.items()}


def names_from_json(body: Any) -> list[str]:
    """The ops that were relaxed."""
    if not isinstance(body, list) or not all(isinstance(n, str) for n in body):
        raise ValueError(f"'relaxed' is not a list of names: {body!r}")
    return body


def absorbed_from_json(body: list[float]) -> tuple[float, ...]:
    """What was moved from the channels of a bias: finite, not negative."""
    moved = tuple(float(v) for v in _numbers(body, (int, float)))
    if not isinstance(body, list) or not all(math.isfinite(v) and v >= 0 for v in moved):
        raise ValueError(f"bad parts of biases: {body}")
    return moved


def scales_from_json(body: list[float]) -> tuple[float, ...]:
    """Factors of channels: finite, positive."""
    factors = tuple(float(f) for f in _numbers(body, (int, float)))
    if not isinstance(body, list) or not all(math.isfinite(f) and f > 0 for f in factors):
        raise ValueError(f"bad scales: {body}")
    return factors


def op_to_json(op: OpPlan) -> dict[str, Any]:
    """An op, without what is as it mostly is."""
    out: dict[str, Any] = {"op": op.op, "mode": op.mode}
    if op.edges:
        out["inputs"] = {str(i): grid_to_json(g) for i, g in op.edges.items()}
    if op.root is not None:
        out["root"] = op.root
    if op.reason:
        out["reason"] = op.reason
    if op.rounding:
        out["rounding"] = {str(i): how for i, how in op.rounding.items()}
    if op.clamp is not None:
        out["clamp"] = list(op.clamp)
    for field in _SHORT:
        if (value := getattr(op, field.name)) != field.default:
            out[field.name] = value
    return out


# Fields of ops that are written as they are, where they are not what they are mostly.
_SHORT = [
    f
    for f in dataclasses.fields(OpPlan)
    if f.name in ("narrow", "bias", "cast", "kernel", "activation", "hybrid", "table", "snap")
]


def _one_of(values: tuple[str, ...], found: Any) -> str:
    if found not in values:
        raise ValueError(f"{found!r} is none of {', '.join(values)}")
    return found


def _clamp_in(values: Any) -> tuple[int, int]:
    whole = isinstance(values, list) and len(values) == 2 and all(type(v) is int for v in values)
    if not whole or not -(2**31) <= values[0] <= values[1] < 2**31:
        raise ValueError(f"'clamp' is not the lowest and the highest integer: {values!r}")
    return values[0], values[1]


def op_from_json(body: Mapping[str, Any]) -> OpPlan:
    """What `op_to_json` wrote."""
    if body["mode"] not in MODES:
        raise ValueError(f"unknown mode {body['mode']!r}; one of {', '.join(MODES)}")
    cast = _optional(str, body, "cast")
    activation = _optional(str, body, "activation")
    return OpPlan(
        read_value(str, body, "op"),
        body["mode"],
        {int(i): grid_from_json(g) for i, g in body.get("inputs", {}).items()},
        _optional(str, body, "root"),
        read_value(str, body, "reason", ""),
        {int(i): _one_of(ROUNDINGS, how) for i, how in body.get("rounding", {}).items()},
        read_value(bool, body, "narrow", True),
        read_value(bool, body, "bias", True),
        None if cast is None else _one_of(("int32",), cast),
        None if body.get("clamp") is None else _clamp_in(body["clamp"]),
        _optional(str, body, "kernel"),
        None if activation is None else _one_of(ACTIVATIONS, activation),
        read_value(bool, body, "hybrid", False),
        _one_of(TABLES, body.get("table", WHOLE)),
        read_value(bool, body, "snap", False),
    )
