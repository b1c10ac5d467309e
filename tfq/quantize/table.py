"""A chain of elementwise float ops as a table over the integers of its input.

For an int16 x that cannot be negative (a variance) the table starts at zero and MAXIMUM takes the
place of ADD, which halves its 128 KB.

The table is computed by the float kernels themselves: the chain is run once, in the interpreter,
on the real value of every integer that the input can take. At run time CAST turns the integer into
an index, ADD makes it start at zero, and GATHER reads the table:

    y = table[int32(x) - min]

so the result is within half a step of the float function of the quantized input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tfq.graph.model import DTYPE_CODES, Graph, Model, Op, Tensor, numpy_dtype, options_type
from tfq.graph.numerics import LIMITS, Grid, dequantize, quantize
from tfq.runtime import Runner


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
        inputs = [None if t is None else mapped.get(t, t) for t in op.inputs]
        outputs = []
        for k, t in enumerate(op.outputs):
            mapped[t] = Tensor(f"t{n}_{k}", shape, t.dtype)
            outputs.append(mapped[t])
        copies.append(dataclasses.replace(op, inputs=inputs, outputs=outputs))
    result = mapped[ops[-1].outputs[0]]
    model = Model([Graph("chain", copies, [argument], [result])])
    # The built-in kernels: XNNPACK approximates EXP and its family a little more coarsely.
    return Runner(model.to_bytes(), kernels="builtin").run({"x": x})[result.name]


def make_table(
    root: Tensor, ops: list[Op], grid: Grid, out_grid: Grid | None, lowest: int
) -> np.ndarray:
    """The chain's results for every integer of `grid`, from `lowest`.

    Where the float function is undefined (the logarithm of a negative number) the entry is the
    nearest defined one, since such an input is only reached by rounding.

    Returns:
      shape [entries], of `out_grid`'s dtype, or of the chain's own when `out_grid` is None.
    """
    q = np.arange(lowest, LIMITS[grid.dtype][1] + 1, dtype=np.int32)
    y = chain_values(root, ops, dequantize(q, grid))
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
    unique: Callable[[str], str],
    *,
    positive: bool = False,
) -> list[Op]:
    """The emitted ops that compute `y` from the integer tensor `x` through a table.

    Args:
      root, ops: the float chain.
      x, grid: its emitted argument.
      y, out_grid: its emitted result; None when the chain gives integers or bools.
      unique: makes a tensor name unique.
      positive: `x` stands for values that are never negative.
    """
    half = positive and grid.dtype == "int16" and grid.zero_point == (0,)
    lowest = 0 if half else LIMITS[grid.dtype][0]
    table = make_table(root, ops, grid, out_grid, lowest)
    quant = out_grid.quant() if out_grid is not None else None
    values = Tensor(unique(f"{y.name}/table"), table.shape, y.dtype, table, quant)
    index = Tensor(unique(f"{y.name}/index"), x.shape, "int32", signature=x.signature)
    shifted = Tensor(unique(f"{y.name}/row"), x.shape, "int32", signature=x.signature)
    offset = np.array(-lowest, numpy_dtype("int32"))
    name = "tfq/zero" if half else f"tfq/table_offset_{grid.dtype}"
    options = options_type("MaximumMinimumOptions" if half else "AddOptions")()
    cast = options_type("CastOptions")()
    cast.inDataType, cast.outDataType = DTYPE_CODES[x.dtype], DTYPE_CODES["int32"]
    gather = options_type("GatherOptions")()
    gather.axis = 0
    return [
        Op("CAST", [x], [index], cast),
        Op(
            "MAXIMUM" if half else "ADD",
            [index, Tensor(unique(name), (), "int32", offset)],
            [shifted],
            options,
        ),
        Op("GATHER", [values, shifted], [y], gather),
    ]
