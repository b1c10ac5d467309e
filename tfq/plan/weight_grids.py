"""The grids of weights, and the types that hold them.

Asked for b bits, the integers of a layer's weights are those of the b-bit grid, always:
-(2^(b-1) - 1) to 2^(b-1) - 1. They are stored in the narrowest type of at least b bits that the
op's kernel reads rightly (`OpSpec.weight_types`): 2-bit weights of CONV_2D in int4, those of
TRANSPOSE_CONV in int8. A wider type costs bytes, and changes no result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfq.calibrate.weight_rules import SCALE_FLOOR, weight_scales
from tfq.errors import UsageError
from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.numerics import LIMITS, Grid, weight_grid
from tfq.graph.optable import Kind, OpSpec, spec
from tfq.plan.scheme import Config

# The types that hold weights, the narrowest first, and how many bits they have.
WEIGHT_WIDTHS = {"int2": 2, "int4": 4, "int8": 8}

# How the reason begins that a type is wider than the grid.
WIDER_WEIGHTS = ("2-bit weights in", "4-bit weights in")


def weights_input(op: Op) -> int | None:
    """At which input an op may have a constant of weights."""
    row = spec(op.name)
    if row is None:
        return None
    return row.weights if row.kind is Kind.WEIGHTED else row.learned


def weights_are_narrow(op: Op) -> bool:
    """False for an op whose constant weights are read as activations are: by all integers."""
    row, i = spec(op.name), weights_input(op)
    if row is None or row.kind is Kind.WEIGHTED or i is None or i >= len(op.inputs):
        return True
    t = op.inputs[i]
    return t is None or not t.is_const or t.dtype != "float32"


# A multiplier input * weight / output below this contributes nothing to the result, and below
# 2^-32 kernels refuse it; weights of all-zero channels would otherwise produce one.
_MIN_MULTIPLIER = 2.0**-20

# Biases stay this far inside int32 so that the accumulator on top of them does not overflow.
# XNNPACK's kernel of FULLY_CONNECTED for int4 weights sums sixteenths.
_MAX_BIAS = 2.0**30
_MAX_BIAS_NARROW = 2.0**26


def stored_type(
    op: str, types: Sequence[str], activations: str, bits: int, reach: int = 0
) -> tuple[str, str]:
    """Which type holds the weights of an op, and the reason if it is wider than asked.

    Args:
      op: its name.
      types: what its kernel reads, the narrowest first.
      activations: the type that the kernel computes in.
      bits: of the grid.
      reach: the largest magnitude among the integers, where that is known.
    """
    right = [t for t in types if WEIGHT_WIDTHS[t] >= bits]
    dtype = next((t for t in right if reach <= LIMITS[t][1]), right[-1])
    if WEIGHT_WIDTHS[dtype] == bits:
        return dtype, ""
    if f"int{bits}" in right:
        return dtype, f"{bits}-bit weights in {dtype}: they reach -{reach}"
    kernel = f"no int{bits} kernel of {op} is right for {activations} activations"
    return dtype, f"{bits}-bit weights in {dtype}: {kernel}"


@dataclasses.dataclass(frozen=True)
class KernelContext:
    """What an integer kernel combines the weights of an op with.

    Attributes:
      activations: the type it computes in.
      in_scale, out_scale: of its input and output.
      bias: a constant, or None.
    """

    activations: str
    in_scale: float
    out_scale: float
    bias: Tensor | None

    @property
    def largest_needed(self) -> float:
        """A scale that is large enough for all of the bias."""
        return float(self.smallest_scales(_MAX_BIAS, False))

    def smallest_scales(self, most: float, per_channel: bool) -> np.ndarray | float:
        """Below which a bias is more than `most` steps of input times weight."""
        if self.bias is None or not self.bias.is_const:
            return 0.0
        needed = np.abs(self.bias.values().astype(np.float64)) / (self.in_scale * most)
        return needed if per_channel else float(needed.max(initial=0.0))

    def floor(self, dtype: str, per_channel: bool) -> np.ndarray | float:
        """Below which a scale of weights in `dtype` is of no use, or a bias too large."""
        useless = _MIN_MULTIPLIER * self.out_scale / self.in_scale
        most = _MAX_BIAS if dtype == "int8" else _MAX_BIAS_NARROW
        return np.maximum(self.smallest_scales(most, per_channel), useless)


def plan_weights(
    op: Op,
    row: OpSpec,
    w: Tensor,
    context: KernelContext,
    config: Config,
    trained: Mapping[str, Grid],
) -> tuple[Grid, str]:
    """The grid of the constant weights of an integer op, and what is unusual about it."""
    types = row.weight_types[context.activations]
    reason = ""
    given = op.key in config.weight_scales
    if w.name in trained and not given:
        if not any(trained[w.name].zero_point):
            return _trained(op, types, w, context, trained[w.name])
        reason = "training's weights have a zero point, which no kernel takes: rounded anew"
    granularity = config.granularity_of(op.name, op.key)
    axis = row.axis if granularity == "per_channel" else None
    bits = config.weight_bits_of(op.key)
    dtype, wider = stored_type(op.name, types, context.activations, bits)
    scales = scales_of(op, w, axis, bits, config)
    wanted, scales = scales, np.maximum(scales, context.floor(dtype, scales.size > 1))
    raised = int(np.sum(scales > wanted))
    if given and raised:
        reason = f"{raised} given scale(s) widened: finer ones are more than the kernel holds"
    return weight_grid(scales, dtype, axis, bits), "; ".join(filter(None, (wider, reason)))


def scales_of(op: Op, w: Tensor, axis: int | None, bits: int, config: Config) -> np.ndarray:
    """Scales of the constant weights `w` of an op, float32 [channels] or [1]: given ones, or those
    of the rule.

    Raises:
      UsageError: another number of scales is given.
    """
    given = config.weight_scales.get(op.key)
    if given is None:
        return weight_scales(w.values(), axis=axis, bits=bits, rule=config.weights)
    count = 1 if axis is None else w.shape[axis]
    if len(given) != count:
        raise UsageError(
            f"The weights of {op.name} at {op.key!r} have {count} scale(s). "
            f"Received: {len(given)} in weight_scales."
        )
    return np.array(given, np.float32)


def check_weight_scales(graph: Graph, config: Config) -> None:
    """Raises UsageError for scales of weights that are not there."""
    keys = set(config.weight_scales)
    integer = config.scheme.compute == "integer"
    for op in graph.ops if keys else ():
        i = weights_input(op)
        if integer and not weights_are_narrow(op):
            continue  # Read on the grid of its activations.
        w = op.inputs[i] if i is not None and i < len(op.inputs) else None
        if w is not None and w.is_const and w.dtype == "float32":
            keys.discard(op.key)
    if keys:
        raise UsageError(
            f"weight_scales: the model has no op with constant weights at {min(keys)!r}. "
            "Ops are named after their first output, as in the plan (--plan_out)."
        )


def _trained(
    op: Op, types: Sequence[str], w: Tensor, context: KernelContext, grid: Grid
) -> tuple[Grid, str]:
    """Training's grid with its integers as they are, in a type that the kernel reads.

    Scales change where no integer does, in channels that are all zero, and where the bias would
    not fit the kernel's accumulator.
    """
    scales = np.array(grid.scale, np.float64)
    per_channel = scales.size > 1 and grid.axis is not None
    rows = np.moveaxis(w.values(), grid.axis or 0, 0) if per_channel else w.values()[None]
    q = np.rint(rows.reshape(scales.size, -1).astype(np.float64) / scales[:, None])
    reach = int(np.abs(q).max(initial=0.0))
    bits = grid.bits or WEIGHT_WIDTHS[grid.dtype]
    dtype, reason = stored_type(op.name, types, context.activations, bits, reach)
    if reach > LIMITS[f"int{bits}"][1]:
        bits = WEIGHT_WIDTHS[dtype]
    dead = ~q.any(axis=1)
    most = _MAX_BIAS_NARROW if context.activations == "int8" and dtype != "int8" else np.inf
    if bool(np.any(~dead & (scales < context.smallest_scales(most, per_channel)))):
        reason = f"{bits}-bit weights in int8: a bias is too large beside weights in {dtype}"
        dtype = "int8"
    most = 2.0**47 if context.activations == "int16" else float(LIMITS["int32"][1])
    loads = np.maximum(scales, context.smallest_scales(most, per_channel))
    fixed = np.where(dead, np.maximum(scales, context.floor(dtype, per_channel)), loads)
    changed = int(np.sum(~dead & (fixed > scales)))
    if changed:
        wider = (
            f"{changed} trained scale(s) widened: the bias is more than 32 bits of input times "
            "weight scale hold"
        )
        reason = f"{reason}; {wider}" if reason else wider
    return weight_grid(fixed.astype(np.float32), dtype, grid.axis, bits), reason


def largest_scale(op: Op, w: Tensor, config: Config, trained: Mapping[str, Grid]) -> float:
    """An upper bound of the scales that the weights of an op will have."""
    if op.key in config.weight_scales:
        return max(config.weight_scales[op.key])
    if w.name in trained:
        return max(trained[w.name].scale)
    top = LIMITS[f"int{config.weight_bits_of(op.key)}"][1]
    return max(float(np.abs(w.values()).max(initial=0.0)) / top, SCALE_FLOOR)
