"""Cross-layer equalization as an improvement; `tfq.equalize` chooses the scales."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from tfq.equalize import (
    find_groups,
    imbalances,
    never_capped,
    relax_prepared,
    rescale_prepared,
    shown_tensors,
)
from tfq.improve.cost import Cost
from tfq.improve.trials import TOO_FEW, Context, NothingToDoError, Proposal, Proposals
from tfq.plan.layout import Layout
from tfq.plan.scheme import Config
from tfq.quantize.candidate import Candidate, build, lay_out
from tfq.rewrite.prepare import Prepared


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

    def cost(self, start: Candidate, context: Context) -> Cost:
        # As it is and through caps; each is measured, and calibrated if it is proposed.
        return Cost(trials=2, calibrations=2, runs=2 * len(context.fit))

    def propose(self, start: Candidate, context: Context) -> Proposals:
        if not self.fresh:
            raise NothingToDoError("not tried: the statistics given are of the model as it is")
        if not context.check and not self.always:
            raise NothingToDoError(TOO_FEW)
        config = start.config
        if scales := self._scales(start.prepared, start.layout, config, context):
            yield Proposal(
                _channels(scales),
                lambda: _rescaled(start, start.prepared, scales, context),
                self.always,
            )
        yield from self._through_caps(start, context)

    def _through_caps(self, start: Candidate, context: Context) -> Proposals:
        """Groups that there are only without the caps of RELU6, where samples never reach these."""
        seen = start.statistics
        assert seen is not None
        free = never_capped(
            start.prepared.model.main, lambda name: seen[name].max if name in seen else None
        )
        if not free:
            return
        config = start.config
        relaxed = relax_prepared(start.prepared, free)
        scales = self._scales(relaxed, lay_out(relaxed, config), config, context)
        scaled = _scaled(relaxed, scales)
        names = [n for n in free if n in scaled]
        if not names:
            return
        count = len(names)
        yield Proposal(
            f"{_channels(scales)}, through {count} RELU6 that no sample reached",
            lambda: _rescaled(start, relax_prepared(start.prepared, names), scales, context),
        )

    def _scales(
        self, prepared: Prepared, layout: Layout | None, config: Config, context: Context
    ) -> dict[str, tuple[float, ...]]:
        assert layout is not None
        return imbalances(
            prepared,
            context.fit,
            dtypes=layout.dtypes,
            per_tensor=lambda op: config.granularity_of(op.name, op.key) == "per_tensor",
            weight_bits=lambda op: config.weight_bits_of(op.key),
            every=self.always,
            progress=lambda done, total: context.progress("Measuring channels", done, total),
        )


def _rescaled(
    start: Candidate, prepared: Prepared, scales: Mapping[str, tuple[float, ...]], context: Context
) -> Candidate:
    assert start.statistics is not None
    other = rescale_prepared(prepared, scales)
    statistics = context.recalibrate(start.statistics, other, _scaled(prepared, scales))
    return build(other, lay_out(other, start.config), statistics, start.config)


def _scaled(prepared: Prepared, scales: Collection[str]) -> set[str]:
    """Names of the tensors of some groups."""
    groups = find_groups(prepared.model.main, shown_tensors(prepared.model))
    return {t.name for g in groups if g.name in scales for t in g.tensors}


def _channels(scales: Mapping[str, Sequence[float]]) -> str:
    return f"channels of {len(scales)} layer{'s' * (len(scales) != 1)}"
