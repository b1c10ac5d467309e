"""A chain of elementwise float ops as a table over the integers of its argument.

The table is computed by the float kernels themselves: the chain is run once, in the interpreter,
on the real value of every integer that the argument can take. At run time the argument becomes a
row number and GATHER reads the table, so the result is within half a step of the float function of
the quantized argument:

    whole   int8, int16     row = int32(x) - min                    256 or 65,536 rows
    half    int16, x >= 0   row = max(int32(x), 0)                  32,768 rows (a variance)
    power   int32, x >= 0   row = x                for x < 2^15     98,304 rows
                                  (x >> 8)  + 2^15   for x < 2^23
                                  (x >> 16) + 2^16   above

The rows of the last grow with x: each is right for its middle and 0.4 % wide, while the smallest x
have a row each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tfq.graph.model import DTYPE_CODES, Graph, Model, Op, Tensor, options_type
from tfq.graph.numerics import LIMITS, Grid, dequantize, quantize
from tfq.plan.entries import HALF, POWER, WHOLE
from tfq.runtime import Runner

Unique = Callable[[str], str]

# Each of the three parts of a power's table has so many rows.
_PART = 2**15


def chain_values(root: Tensor, ops: list[Op], x: np.ndarray) -> np.ndarray:
    """Runs a chain of elementwise ops on other values.

    Args:
      root: the tensor that the chain is a function of.
      ops: the chain in execution order; the last op's first output is the result.
      x: float32, shape [n].

    Returns:
      The result's values, shape [n].
    """
    shape = x.shape
    argument = Tensor("x", shape, "float32")
    mapped: dict[Tensor, Tensor] = {root: argument}
    copies = []
    for n, op in enumerate(ops):
        # A constant of one value has any rank: filled, it broadcasts to nothing else.
        for t in op.inputs:
            if t is not None and t.is_const and t not in mapped:
                data = np.full(shape, t.values().reshape(-1)[0])
                mapped[t] = Tensor(f"c{len(mapped)}", shape, t.dtype, data)
        inputs = [None if t is None else mapped[t] for t in op.inputs]
        outputs = []
        for k, t in enumerate(op.outputs):
            mapped[t] = Tensor(f"t{n}_{k}", shape, t.dtype)
            outputs.append(mapped[t])
        copies.append(dataclasses.replace(op, inputs=inputs, outputs=outputs))
    result = mapped[ops[-1].outputs[0]]
    model = Model([Graph("chain", copies, [argument], [result])])
    # The built-in kernels: XNNPACK approximates EXP and its family a little more coarsely.
    return Runner(model.to_bytes(), kernels="builtin").run({"x": x})[result.name]


def row_values(grid: Grid, table: str = WHOLE) -> np.ndarray:
    """The integer that each row of a table stands for, shape [rows]."""
    if table == POWER:
        middle = np.arange(_PART, dtype=np.int64)
        return np.concatenate([middle, (middle << 8) + 2**7, (middle << 16) + 2**15])
    lo, hi = LIMITS[grid.dtype]
    return np.arange(0 if table == HALF else lo, hi + 1, dtype=np.int64)


def misfit(grid: Grid, table: str) -> str:
    """Why a kind of table cannot have an argument on `grid`, or ""."""
    if table == POWER:
        return "" if grid.dtype == "int32" else f"rows for int32, but reads {grid.dtype}"
    if grid.dtype not in ("int8", "int16"):
        return f"rows for int8 or int16, but reads {grid.dtype}"
    if table == HALF and (grid.dtype != "int16" or grid.zero_point != (0,)):
        return f"rows for int16 around zero, but reads {grid.dtype}"
    return ""


def make_table(
    root: Tensor,
    ops: list[Op],
    grid: Grid,
    out_grid: Grid | None,
    *,
    table: str = WHOLE,
    snap: bool = False,
) -> np.ndarray:
    """The chain's results for the integers that the rows stand for.

    Where the float function is undefined (the logarithm of a negative number) the entry is the
    nearest defined one, since such an argument is only reached by rounding.

    Returns:
      shape [rows], of `out_grid`'s dtype, or of the chain's own when `out_grid` is None.
    """
    x = dequantize(row_values(grid, table), grid)
    if snap:
        # What a mask multiplies is 0 or 1 exactly; a millionth off would be minus a thousand.
        whole = np.rint(x)
        x = np.where(np.abs(x - whole) <= grid.scale[0] / 2, whole, x)
    y = chain_values(root, ops, x)
    if out_grid is None:
        return y
    y = y.astype(np.float64)
    bad = np.isnan(y)
    if bad.any() and not bad.all():
        good = np.flatnonzero(~bad)
        at = np.clip(np.searchsorted(good, np.flatnonzero(bad)), 0, good.size - 1)
        y[bad] = y[good[at]]
    bound = np.finfo(np.float32).max
    return quantize(np.clip(np.nan_to_num(y, nan=0.0), -bound, bound), out_grid)


def lookup_ops(
    root: Tensor,
    ops: list[Op],
    x: Tensor,
    grid: Grid,
    y: Tensor,
    out_grid: Grid | None,
    unique: Unique,
    *,
    table: str = WHOLE,
    snap: bool = False,
) -> list[Op]:
    """The emitted ops that compute `y` from the integer tensor `x` through a table.

    Args:
      root, ops: the float chain.
      x, grid: its emitted argument.
      y, out_grid: its emitted result; None when the chain gives integers or bools.
      unique: makes a tensor name unique.
      table, snap: as the plan has them (`tfq.plan.entries.OpPlan`).
    """
    data = make_table(root, ops, grid, out_grid, table=table, snap=snap)
    quant = out_grid.quant() if out_grid is not None else None
    values = Tensor(unique(f"{y.name}/table"), data.shape, y.dtype, data, quant)
    rows = _Rows(x, y.name, unique)
    if table == POWER:
        row = rows.of_power()
    elif table == HALF:
        row = rows.binary("MAXIMUM", rows.cast(), 0, "MaximumMinimumOptions")
    else:
        row = rows.binary("ADD", rows.cast(), -LIMITS[grid.dtype][0], "AddOptions")
    gather = options_type("GatherOptions")()
    gather.axis = 0
    return [*rows.ops, Op("GATHER", [values, row], [y], gather)]


class _Rows:
    """Builds the integer ops that turn an argument into row numbers."""

    def __init__(self, x: Tensor, name: str, unique: Unique):
        self.x, self.name, self.unique = x, name, unique
        self.ops: list[Op] = []

    def _new(self, what: str, dtype: str = "int32") -> Tensor:
        name = self.unique(f"{self.name}/{what}")
        return Tensor(name, self.x.shape, dtype, signature=self.x.signature)

    def cast(self) -> Tensor:
        out = self._new("index")
        options = options_type("CastOptions")()
        options.inDataType, options.outDataType = DTYPE_CODES[self.x.dtype], DTYPE_CODES["int32"]
        self.ops.append(Op("CAST", [self.x], [out], options))
        return out

    def binary(self, op: str, x: Tensor, value: int, options: str, dtype: str = "int32") -> Tensor:
        """`op(x, value)`."""
        const = Tensor(self.unique(f"tfq/{value}"), (), "int32", np.array(value, np.int32))
        out = self._new(op.lower(), dtype)
        self.ops.append(Op(op, [x, const], [out], options_type(options)()))
        return out

    def of_power(self) -> Tensor:
        row = self.x
        for bits in (8, 16):
            shifted = self.binary("RIGHT_SHIFT", self.x, bits, "RightShiftOptions")
            above = self.binary("ADD", shifted, bits // 8 * _PART, "AddOptions")
            below = self.binary("LESS", self.x, _PART << (bits - 8), "LessOptions", "bool")
            row_or_above = self._new("row")
            options = options_type("SelectV2Options")()
            self.ops.append(Op("SELECT_V2", [below, row, above], [row_or_above], options))
            row = row_or_above
        return row
