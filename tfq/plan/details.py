"""What a plan says of an integer op beside its grids, so that emission has nothing to decide."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from tfq.graph.model import Op, Tensor
from tfq.graph.numerics import LIMITS, Grid, quantize
from tfq.graph.optable import Kind, OpSpec, spec
from tfq.plan.entries import OpPlan
from tfq.plan.far_bounds import far_bound
from tfq.plan.weight_grids import weights_are_narrow

# How a constant side of a comparison is rounded so that no value of the grid changes sides:
# q > c is q > floor(c), q < c is q < ceil(c).
_THRESHOLDS = {
    ("GREATER", 1): "down",
    ("LESS_EQUAL", 1): "down",
    ("LESS", 1): "up",
    ("GREATER_EQUAL", 1): "up",
    ("LESS", 0): "down",
    ("GREATER_EQUAL", 0): "down",
    ("GREATER", 0): "up",
    ("LESS_EQUAL", 0): "up",
}


def with_details(op: Op, plan: OpPlan, grid_of: Callable[[Tensor], Grid]) -> OpPlan:
    """The plan of an op that has an integer kernel, complete.

    Args:
      op: of the float graph.
      plan: with its grids.
      grid_of: gives the grid on which a computed float tensor is produced.
    """
    s = spec(op.name)
    rounding = {
        i: _THRESHOLDS[op.name, i]
        for i, t in enumerate(op.inputs)
        if t is not None and t.is_const and t.dtype == "float32" and (op.name, i) in _THRESHOLDS
    }
    cast = plan.cast
    if s is not None and not _comparable(op, s, plan, grid_of):
        cast = "int32"
    kernel, activation = None, None
    if op.outputs[0].dtype == "float32":
        out = grid_of(op.outputs[0])
        # Integers of 32 bits have no grid in the file, and no clamp on one.
        if out.dtype in LIMITS and out.dtype != "int32":
            instead = far_bound(op, out.scale[0])
            kernel, activation = instead.kernel, instead.activation
    return dataclasses.replace(
        plan,
        rounding=rounding,
        narrow=weights_are_narrow(op),
        bias=not is_idle_bias(op, plan.edges),
        cast=cast,
        kernel=kernel,
        activation=activation,
    )


def is_idle_bias(op: Op, edges: Mapping[int, Grid]) -> bool:
    """Whether the bias of an op is all zero, as it is stored, and its kernel does without.

    Ops without a bias are given one of zeros so that it can be corrected. A bias with a scale and a
    zero point for each of 1,000 channels is 16 KB.
    """
    s = spec(op.name)
    if s is None or s.kind is not Kind.WEIGHTED or s.bias is None or s.needs_bias:
        return False
    bias = op.inputs[s.bias] if s.bias < len(op.inputs) else None
    if bias is None or not bias.is_const:
        return False
    grid = edges.get(s.bias)
    values = bias.values() if grid is None else quantize(bias.values(), grid)
    return not values.any()


def _comparable(op: Op, s: OpSpec, plan: OpPlan, grid_of: Callable[[Tensor], Grid]) -> bool:
    """Whether the kernel of a comparison takes the scales of its sides; True for other ops."""
    grids = [
        plan.edges.get(i) or grid_of(t)
        for i, t in enumerate(op.inputs)
        if s.input_scale and t is not None and t.dtype == "float32"
    ]
    if not grids or grids[0].dtype not in s.input_scale:
        return True
    low, high = s.input_scale[grids[0].dtype]
    return all(low <= grid.scale[0] < high for grid in grids)
