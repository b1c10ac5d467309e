"""Gives tensors grids of their own where sharing one with what they are joined with costs too much.

The parts of a concatenation share its grid, so that no integer has to be computed anew. One that
spans little of it is then coarse for everything else that reads it, too: of 255 steps a tensor in
[-1, 1] has one or two left beside a tensor in [-200, 200]. On a grid of its own it is requantized
where it is joined, which costs a pass over its values.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.optable import Kind, spec
from tfq.improve.cost import Cost
from tfq.improve.trials import TOO_FEW, Context, NothingToDoError, Proposal, Proposals
from tfq.plan.entries import INTEGER
from tfq.plan.layout import Layout, joined_tensors, unmoved
from tfq.plan.planner import NARROW, make_plan
from tfq.quantize.candidate import Candidate, lay_out


@dataclasses.dataclass(frozen=True)
class OwnGrids:
    """Sets apart what spans less than one part in eight of a grid that it shares."""

    name: str = "own_grids"

    def cost(self, start: Candidate, context: Context) -> Cost:
        assert start.layout is not None
        graph = start.prepared.model.main
        joined = len(joined_tensors(graph, start.layout))
        most = 1 + joined if joined > 1 else joined
        return Cost(trials=min(most, context.affordable_trials(graph)))

    def propose(self, start: Candidate, context: Context) -> Proposals:
        names = _narrow(start)
        if not names:
            return
        if not context.check:
            raise NothingToDoError(TOO_FEW)
        count = len(names)
        everything = f"{count} tensor{'s' * (count != 1)}"
        answer = yield Proposal(everything, functools.partial(_with, start, names))
        if count == 1 or answer.best:
            return
        chosen: list[str] = []
        for name in names[: context.affordable_trials(start.prepared.model.main) - 1]:
            tried = [*chosen, name]
            text = f"{len(tried)} of {everything}"
            answer = yield Proposal(text, functools.partial(_with, start, tried))
            if answer.best:
                chosen = tried


def _with(start: Candidate, names: Sequence[str]) -> Candidate:
    own = (*start.config.own_grids, *names)
    return start.reconfigured(dataclasses.replace(start.config, own_grids=own))


def _narrow(start: Candidate) -> list[str]:
    """Tensors that would have much finer grids of their own, the finest first."""
    assert start.layout is not None
    assert start.statistics is not None
    graph = start.prepared.model.main
    producers = graph.producers()
    joined = joined_tensors(graph, start.layout)
    if not joined:
        return []
    config = dataclasses.replace(
        start.config, own_grids=(*start.config.own_grids, *(t.name for t in joined))
    )
    layout, trained = lay_out(start.prepared, config), start.prepared.trained.grids
    free = make_plan(graph, layout, start.statistics, config, trained, model_sha256="")
    finer = {}
    for t in joined:
        shared, own = start.plan.tensors[t.name].grid, free.tensors[t.name].grid
        seen = start.statistics.get(t.name) or start.statistics.get(unmoved(t, producers).name)
        # What was zero on every sample says nothing of its range.
        if shared.dtype != own.dtype or (seen is not None and seen.min == seen.max == 0.0):
            continue
        ratio = shared.scale[0] / own.scale[0]
        if ratio > NARROW and _is_read(graph, layout, t):
            finer[t.name] = ratio
    return sorted(finer, key=lambda n: -finer[n])


def _is_read(graph: Graph, free: Layout, t: Tensor) -> bool:
    """Whether anything but what joins `t` sees the finer grid."""
    groups, consumers, outputs = free.groups, graph.consumers(), set(graph.outputs)
    group = [other for other in free.dtypes if groups.find(other) is groups.find(t)]
    return any(
        other in outputs or any(not _passes_on(free, op) for op, _ in consumers.get(other, []))
        for other in group
    )


def _passes_on(free: Layout, op: Op) -> bool:
    s = spec(op.name)
    return free.choices[op].mode == INTEGER and s is not None and s.kind is Kind.SAME
