"""Scales of weights as an improvement: by the error of weights, and by that of layers' outputs.

At 8 bits min/max loses little. With fewer it is the worst there is: a single large weight makes the
steps of all others coarse. `mse` reads the weights alone; `output_mse` weighs their errors with
what the layer reads (`tfq.walk.weight_scales`), and counts on biases that are corrected afterwards.
"""

from __future__ import annotations

import dataclasses
import math

from tfq.errors import TfqError, UsageError
from tfq.graph.model import Op
from tfq.graph.optable import Kind, spec
from tfq.improve.cost import Cost
from tfq.improve.trials import TOO_FEW, Context, NothingToDoError, Proposal, Proposals, evenly
from tfq.quantize.candidate import Candidate
from tfq.walk import obstacle_to_walk, solve_weight_scales
from tfq.walk.gram import MOST_VALUES, POSITIONS, row_length
from tfq.walk.output_mse import FRACTIONS
from tfq.walk.patches import PATCHED, groups_of

OUTPUT_MSE = "output_mse"

# Of a large model's samples, enough to tell which inputs are correlated.
_SAMPLES = 100

# How many times the budget of judging may be spent on solving scales.
_SOLVING = 4


@dataclasses.dataclass(frozen=True)
class ChooseWeightScales:
    """Tries other scales of weights.

    Attributes:
      asked: output-MSE scales are kept whatever the judge says, and nothing else is tried.
    """

    asked: bool = False
    name: str = "weight_scales"

    def cost(self, start: Candidate, context: Context) -> Cost:
        bits = integer_weights(start)
        solving = solving_cost(start, bits)
        affordable = self._affords(solving, context)
        return Cost(
            trials=1 if self.asked else 2,
            runs=2 * min(len(context.fit), _SAMPLES) if affordable else 0,
            multiplications=solving if affordable else 0.0,
        )

    def _affords(self, solving: float, context: Context) -> bool:
        return self.asked or solving <= _SOLVING * context.budget

    def propose(self, start: Candidate, context: Context) -> Proposals:
        bits = integer_weights(start)
        if not bits:
            raise NothingToDoError("no layer has integer weights")
        if not self.asked and not context.check:
            raise NothingToDoError(TOO_FEW)
        mse = dataclasses.replace(start.config, weights="mse")
        if not self.asked and start.config.weights != "mse":
            yield Proposal("mse", lambda: start.reconfigured(mse, start.layout))
        left = sum(1 for op in start.prepared.model.main.ops if op.key in bits and not _solved(op))
        what = OUTPUT_MSE + (f" ({left} of {len(bits)} layers: mse)" if left else "")

        def solved() -> Candidate:
            cost = solving_cost(start, bits)
            if not self._affords(cost, context):
                raise TfqError(
                    f"{OUTPUT_MSE} scales were not tried: they take {cost:.1g} multiplications "
                    f"(--weights={OUTPUT_MSE} solves them)"
                )
            first = start.reconfigured(mse, start.layout)
            return with_output_mse(first, bits, context)

        yield Proposal(what, solved, self.asked)


def integer_weights(candidate: Candidate) -> dict[str, int]:
    """Bits of the integer weights of layers, by the name of a layer's output."""
    found = {}
    for op in candidate.prepared.model.main.ops:
        row = spec(op.name)
        if row is None or row.kind is not Kind.WEIGHTED or row.weights is None:
            continue
        grid = candidate.plan.ops[op.key].edges.get(row.weights)
        if grid is not None and grid.is_integer and op.input(row.weights).is_const:
            found[op.key] = candidate.config.weight_bits_of(op.key)
    return found


def with_output_mse(start: Candidate, bits: dict[str, int], context: Context) -> Candidate:
    """The candidate with the scales that have the least error at the outputs of layers.

    Raises:
      UsageError: the model cannot be walked, or there are too few samples.
    """
    reason = obstacle_to_walk(start.emitted.model)
    if not reason and len(context.fit) < 2:
        reason = "it takes at least 2 samples"
    if reason:
        raise UsageError(f"There are no {OUTPUT_MSE} scales: {reason}. Use --weights=mse.")
    scales = {
        name: tuple(float(s) for s in found)
        for name, found, _ in solve_weight_scales(
            start.prepared.model,
            start.emitted,
            evenly(context.fit, _SAMPLES),
            bits,
            progress=lambda done, total: context.progress("Solving scales of weights", done, total),
        )
        if found is not None
    }
    config = dataclasses.replace(start.config, weight_scales=scales)
    return start.reconfigured(config, start.layout)


def solving_cost(candidate: Candidate, bits: dict[str, int]) -> float:
    """Multiplications that Gram matrices and searches on them take."""
    total = 0.0
    for op in candidate.prepared.model.main.ops:
        if op.key not in bits or not _solved(op):
            continue
        groups, channels = groups_of(op), op.outputs[0].shape[-1]
        row = math.prod(op.input(1).shape) / channels
        positions = min(op.outputs[0].size // channels * _SAMPLES, POSITIONS)
        total += row * row * (positions * groups + len(FRACTIONS) * channels)
    return total


def _solved(op: Op) -> bool:
    return op.name in PATCHED and row_length(op) <= MOST_VALUES
