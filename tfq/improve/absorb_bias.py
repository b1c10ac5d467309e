"""High-bias absorption as an improvement; `tfq.equalize.absorb` does the algebra."""

from __future__ import annotations

import dataclasses

from tfq.equalize import absorb_prepared, find_amounts
from tfq.improve.cost import Cost
from tfq.improve.trials import TOO_FEW, Context, NothingToDoError, Proposal, Proposals
from tfq.quantize.candidate import Candidate, build, lay_out


@dataclasses.dataclass(frozen=True)
class AbsorbBiases:
    """Moves what is always there of a layer's outputs into the biases behind."""

    name: str = "bias_absorption"

    def cost(self, start: Candidate, context: Context) -> Cost:
        return Cost(trials=1, calibrations=1, runs=len(context.fit))

    def propose(self, start: Candidate, context: Context) -> Proposals:
        moved = find_amounts(start.prepared, context.fit)
        if not moved:
            return
        if not context.check:
            raise NothingToDoError(TOO_FEW)

        def absorbed() -> Candidate:
            prepared = absorb_prepared(start.prepared, moved)
            assert start.statistics is not None
            # On samples that amounts were not found on, what lies behind may change, too.
            statistics = context.recalibrate(start.statistics, prepared, set(start.statistics))
            return build(prepared, lay_out(prepared, start.config), statistics, start.config)

        count = len(moved)
        yield Proposal(f"high biases of {count} layer{'s' * (count != 1)}", absorbed)
