"""What the op table says of an op: the columns.

Ops fall into seven kinds:

  WEIGHTED     constant weights of 8 bits or fewer, a bias on the grid of input times weights; the
               kernel requantizes the accumulator.      CONV_2D, FULLY_CONNECTED, ...
  OWN          every tensor has its own grid; the kernel requantizes or uses a lookup table.
                                                        ADD, MUL, MEAN, GELU, BATCH_MATMUL, ...
  SAME         integers are moved or selected, not rescaled: the inputs named in `data` and every
               quantized output share one grid.         RESHAPE, CONCATENATION, MAX_POOL_2D, ...
  FIXED        the kernel fixes the output's grid; the input has its own.
                                                        SOFTMAX, LOGISTIC, TANH, ...
  INTEGER_OUT  quantized in, integers or bools out.     ARG_MAX, LESS, ...
  STRUCTURAL   shapes, bools and control flow; no quantized tensor of its own (the bodies of WHILE
               and IF are graphs of their own, joined to it by position).
  FLOAT_ONLY   no integer kernel that is right; the note says what can be done.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping


class Kind(enum.Enum):
    """How an op's grids are bound to each other."""

    WEIGHTED = "weighted"
    OWN = "own"
    SAME = "same"
    FIXED = "fixed"
    INTEGER_OUT = "integer_out"
    STRUCTURAL = "structural"
    FLOAT_ONLY = "float_only"


@dataclasses.dataclass(frozen=True)
class Effects:
    """What an op does beside computing its outputs from its inputs.

    Attributes:
      state: what it reads or changes that outlives it: "variable", "table", "random" (a generator
        of random numbers), "unknown", or "" for nothing.
      writes: it makes or changes that, so that it stays though nothing reads its outputs.
      calls: it runs other graphs of the model, which may do any of this.
    """

    state: str = ""
    writes: bool = False
    calls: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether the op gives the same for the same inputs, wherever and how often it is run."""
        return not self.state and not self.calls


_PURE = Effects()


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpSpec:
    """One row of the table.

    Attributes:
      kind: see the module's docstring.
      data: indices of the inputs that carry quantized data (without weights and bias); None for
        all of them.
      outputs: indices of the outputs that carry quantized data; None for all of them.
      weights: input index of the weights, of WEIGHTED ops.
      bias: input index of the bias.
      weight_types: type of the activations -> types of constant weights whose kernel is right, the
        narrowest first; "float32" for kernels that quantize their input as they run.
      no_reference: those of the weight types that the reference kernels lack.
      needs_bias: the integer kernel refuses a missing bias; write zeros.
      axis: the weights' dimension that may have a scale each; None when only one scale is allowed.
      versions: for "float32" and each activation type, the lowest op version whose kernel does it.
      fixed: for FIXED ops, activation type -> (scale, zero point) of the output.
      same_inputs: activation types for which the inputs in `data` must share one grid, of ops whose
        outputs carry none (comparisons).
      input_scale: activation type -> [low, high) for the scale of the inputs, outside of which the
        kernel is wrong or ends the process: CAST the inputs to int32 and compare those.
      max_multiplier: activation type -> how many times the output's scale the scale of what the op
        computes may be (`tfq.plan.multipliers` says of which ops that is what). Above, kernels
        refuse, end the process or overflow.
      reference: False when the reference kernels lack the op or get it wrong.
      lsb: activation type -> distance from the truth, in LSB, where the kernel is coarser than 1.
      fused_activation: the integer kernel does the `fusedActivationFunction` of the options.
      min_input_scale: activation type -> the least scale of the first input whose kernel is right;
        below, it is wrong or ends the process. Widen the input's range until it is above.
      elementwise: every output value depends on one value of each (broadcast) input, and on
        nothing else; lets the op into lookup tables.
      steep: an elementwise function whose slope has no bound, or that grows beyond any: what is
        rounded before or behind it in 8 bits costs most.
      squashes: saturates: what is cut off an argument's ends hardly shows in the result.
      jumps: not continuous: the last bit of an input may change the result by as much as it likes.
      clamp: y = min(max(x, low), high): (low, high).
      moves: the values go through unchanged, all of them: "reshapes" in the same order,
        "permutes" with the dimensions in another order, "repeats" once or more.
      learned: of ops that are not WEIGHTED, the index of the input that may hold learned constants,
        which the kernel reads as it does activations.
      quantizer: it goes from one grid to another, or carries one that training wrote.
      effects: what it does beside computing outputs from inputs.
      note: what else a user or the emitter must know.
    """

    kind: Kind
    data: tuple[int, ...] | None = (0,)
    outputs: tuple[int, ...] | None = None
    weights: int | None = None
    bias: int | None = None
    weight_types: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    no_reference: frozenset[str] = frozenset()
    needs_bias: bool = False
    axis: int | None = None
    versions: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"float32": 1})
    fixed: Mapping[str, tuple[float, int]] = dataclasses.field(default_factory=dict)
    same_inputs: frozenset[str] = frozenset()
    input_scale: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    max_multiplier: Mapping[str, float] = dataclasses.field(default_factory=dict)
    reference: bool = True
    lsb: Mapping[str, int] = dataclasses.field(default_factory=dict)
    fused_activation: bool = False
    min_input_scale: Mapping[str, float] = dataclasses.field(default_factory=dict)
    elementwise: bool = False
    steep: bool = False
    squashes: bool = False
    jumps: bool = False
    clamp: tuple[float, float] | None = None
    moves: str = ""
    learned: int | None = None
    quantizer: bool = False
    effects: Effects = _PURE
    note: str = ""

    @property
    def dtypes(self) -> frozenset[str]:
        """The activation types for which the integer kernel exists and is right."""
        return frozenset(self.versions) - {"float32"}

    @property
    def compares(self) -> bool:
        """Whether it compares its two inputs, value by value."""
        return self.kind is Kind.INTEGER_OUT and self.elementwise
