"""Cross-layer equalization as an improvement; `tfq.equalize` chooses the scales."""

from __future__ import annotations

import dataclasses

from tfq.equalize import imbalances, rescale_prepared
from tfq.improve.trials import Context, NothingToDoError, Proposal, Proposals
from tfq.quantize.candidate import Candidate, build, lay_out


@dataclasses.dataclass(frozen=True)
class Equalize:
    """Rescales channels whose ranges differ much.

    Attributes:
      always: also where little is gained, and whatever the judge says.
      fresh: whether there are samples to calibrate the rescaled model with.
    """

    always: bool = False
    fresh: bool = True
    name: str = "equalization"

    def propose(self, start: Candidate, context: Context) -> Proposals:
        if not self.fresh:
            raise NothingToDoError("not tried: the statistics given are of the model as it is")
        assert start.layout is not None
        assert start.statistics is not None
        config = start.config
        scales = imbalances(
            start.prepared,
            context.fit,
            dtypes=start.layout.dtypes,
            per_tensor=lambda op: config.granularity_of(op.name, op.key) == "per_tensor",
            weight_bits=lambda op: config.weight_bits_of(op.key),
            every=self.always,
            progress=lambda done, total: context.progress("Measuring channels", done, total),
        )
        if not scales:
            return

        def rescaled() -> Candidate:
            prepared = rescale_prepared(start.prepared, scales)
            statistics = context.recalibrate(prepared)
            return build(prepared, lay_out(prepared, config), statistics, config)

        count = len(scales)
        yield Proposal(f"channels of {count} layer{'s' * (count != 1)}", rescaled, self.always)
