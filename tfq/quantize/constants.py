"""Constants of the float model on the grids of a plan, or as the integers that a plan gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfq.errors import UsageError
from tfq.graph.model import Op, Tensor, numpy_dtype
from tfq.graph.numerics import Grid, quantize, storage_type
from tfq.graph.optable import Kind, spec
from tfq.plan.entries import OpPlan
from tfq.plan.plan import Plan
from tfq.plan.weight_grids import weights_input


class Constants:
    """Emits constants. Equal ones share a buffer when the file is written.

    Args:
      plan: where it has integers for an op's weights or bias, those are emitted.
      unique: makes a tensor's name that nothing else has.
    """

    def __init__(self, plan: Plan, unique: Callable[[str], str]):
        self._plan = plan
        self._unique = unique
        self._made: dict[tuple[Tensor, Grid, str], Tensor] = {}
        self._taken: set[tuple[str, str]] = set()  # What ops took of the plan's own integers.

    def read(self, op: Op, plan: OpPlan, i: int, t: Tensor, grid: Grid) -> Tensor:
        """Constant `t` on `grid` as input `i` of `op` reads it.

        Raises:
          UsageError: the plan's own integers for it do not fit.
        """
        narrow = plan.narrow and i == weights_input(op)
        given = self._given(op, i)
        if given is not None:
            # Another op that reads the same constant keeps its own integers.
            values = _checked(*given, op, t, grid, narrow)
            return self._add(t, grid, f"given to {op.key}", values)
        rounding = plan.rounding.get(i, "nearest")
        how = f"{rounding}, narrow" if narrow else rounding
        if (t, grid, how) in self._made:
            return self._made[t, grid, how]
        if grid.is_integer:
            values = quantize(t.values(), grid, narrow=narrow, rounding=rounding)
        else:
            values = t.values().astype(numpy_dtype(grid.dtype))
        return self._add(t, grid, how, values)

    def output(self, t: Tensor, boundary: Grid) -> Tensor:
        """A constant that is an output: it keeps its name, whatever else reads it."""
        if not boundary.is_integer:
            return t
        key = (t, boundary, "output")
        if key not in self._made:
            for other in self._made.values():
                if other.name == t.name:
                    other.name = self._unique(t.name)
            data = quantize(t.values(), boundary)
            self._made[key] = Tensor(t.name, t.shape, boundary.dtype, data, boundary.quant())
        return self._made[key]

    def check_all_taken(self) -> None:
        """Raises UsageError for biases and weights in the plan that no op took."""
        for what, arrays in (("biases", self._plan.biases), ("weights", self._plan.weights)):
            for name in arrays:
                if (what, name) not in self._taken:
                    raise UsageError(
                        f"The plan has {what} for {name!r}, where the model has no op with "
                        f"integer constants as {what}. Take them out of it, or make a new plan."
                    )

    def _add(self, t: Tensor, grid: Grid, how: str, values: np.ndarray) -> Tensor:
        name = t.name
        if any(other is t for other, *_ in self._made):
            name = self._unique(t.name)
        made = Tensor(name, t.shape, grid.dtype, values, grid.quant())
        self._made[t, grid, how] = made
        return made

    def _given(self, op: Op, i: int) -> tuple[str, np.ndarray] | None:
        """What the plan gives for constant input `i` of `op`."""
        s = spec(op.name)
        weighted = s is not None and s.kind is Kind.WEIGHTED
        if weighted and s is not None and i == s.bias and op.key in self._plan.biases:
            what, values = "biases", self._plan.biases[op.key]
        elif i == weights_input(op) and op.key in self._plan.weights:
            what, values = "weights", self._plan.weights[op.key]
        else:
            return None
        self._taken.add((what, op.key))
        return what, values


def _checked(
    what: str, values: np.ndarray, op: Op, t: Tensor, grid: Grid, narrow: bool
) -> np.ndarray:
    """The plan's own integers for `t`, as they are stored."""
    low, high = grid.limits if grid.is_integer else (0, 0)
    stored = np.dtype(storage_type(grid.dtype)) if grid.is_integer else None
    wrong = ""
    if stored is None:
        wrong = f"but it is {grid.dtype} there"
    elif values.dtype.kind != "i" or values.shape != t.shape:
        wrong = f"of {values.dtype}{list(values.shape)}, not of {stored}{list(t.shape)}"
    elif values.size and (values.min() < low + narrow or values.max() > high):
        wrong = f"of {values.min()} to {values.max()}, outside of {low + narrow} to {high}"
    if wrong:
        raise UsageError(
            f"The plan has {what} of {op.label} at {op.key!r} {wrong}. Take them out of the "
            "plan, or make a new one."
        )
    return values.astype(stored)
