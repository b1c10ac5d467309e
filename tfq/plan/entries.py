"""What a plan says of one tensor and of one op."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tfq.graph.numerics import Grid

# How an op is emitted.
INTEGER = "integer"  # by its integer kernel
LOOKUP = "lookup"  # as a table: the end of a chain of elementwise ops of one tensor
INSIDE = "inside"  # not at all: its values are inside a later op's table
PLAIN = "plain"  # as it is: shapes, indices, booleans
KEEP_FLOAT = "float"  # by its float kernel
MODES = (INTEGER, LOOKUP, INSIDE, PLAIN, KEEP_FLOAT)

# Which integers of its argument a table has rows for.
WHOLE = "whole"  # all
HALF = "half"  # those from zero on, of 16 bits
POWER = "power"  # those of 32 bits, from zero on, the large ones together
TABLES = (WHOLE, HALF, POWER)

# How a constant may be rounded, beside to the nearest.
ROUNDINGS = ("down", "up")

# Fused activations that may stand for others.
ACTIVATIONS = ("NONE", "RELU")


@dataclasses.dataclass(frozen=True)
class TensorPlan:
    """The grid on which a computed tensor is produced, and the reason for it."""

    grid: Grid
    reason: str


@dataclasses.dataclass(frozen=True)
class OpPlan:
    """How one op is emitted.

    Attributes:
      op: its name, for readers.
      mode: one of MODES.
      edges: input index -> the grid on which this op reads that input, where it is a constant or
        differs from the grid on which the input is produced.
      root: for LOOKUP, the tensor that the table is a function of.
      reason: why, when it is not the ordinary integer kernel.
      rounding: input index -> how that constant is rounded, "down" or "up", where not to the
        nearest: thresholds.
      narrow: constant weights leave out the lowest integer of their type.
      bias: False where the bias is all zero and the kernel does without: it is not emitted, unless
        the plan gives integers for it.
      cast: the type that the quantized inputs are cast to first: "int32" or None.
      clamp: (lowest, highest) integer to keep those within then: what bounds |x| in sums of x * x.
      kernel: name of the op that is emitted in its place: clamps out of the grid's reach.
      activation: fused activation in the place of its own, one of ACTIVATIONS: the same.
      hybrid: for KEEP_FLOAT, that the kernel reads integer weights itself; otherwise a DEQUANTIZE
        does.
      table: for LOOKUP, one of TABLES.
      snap: for LOOKUP, that an argument within half a step of a whole number stands for it.
    """

    op: str
    mode: str
    edges: Mapping[int, Grid] = dataclasses.field(default_factory=dict)
    root: str | None = None
    reason: str = ""
    rounding: Mapping[int, str] = dataclasses.field(default_factory=dict)
    narrow: bool = True
    bias: bool = True
    cast: str | None = None
    clamp: tuple[int, int] | None = None
    kernel: str | None = None
    activation: str | None = None
    hybrid: bool = False
    table: str = WHOLE
    snap: bool = False
