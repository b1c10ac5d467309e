"""The few layers whose error dominates compute in 16 bits.

An int16 kernel rounds 256 times finer, and takes some 70 times as long as an int8 one on x86. So
only a share of the operations may be wider. What goes together is an island
(`tfq.improve.islands`). Islands are ranked by a cheap measure: how large rounding its tensors to
their 8-bit grids is beside their own variation,

    max over tensors of  mean((x - q(x))^2) / var(x)      on a few samples of the float model.

What the first layers round goes through all the others: stretches of the network from its input on
are tried first. Then the first islands are tried alone; then, beginning with the one that lowers
the error at the outputs most, each next is tried together with what was kept, until the share or
the trials are used up. Where many tensors are equally coarse, one of them hardly shows: at last as
many as the share allows are tried at once.

Biases that were corrected make up for what 8 bits shift. They are solved anew for each trial:
carried over, they would shift what no longer is.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence

import numpy as np

from tfq.graph.model import Op, Tensor
from tfq.graph.numerics import Grid, dequantize, quantize
from tfq.improve.bias import samples_to_solve, solved_anew
from tfq.improve.cost import Cost
from tfq.improve.islands import Inputs, Island, find_islands, find_stretches, operations
from tfq.improve.trials import (
    TOO_FEW,
    Context,
    NothingToDoError,
    Proposal,
    Proposals,
    evenly,
    multiplications,
)
from tfq.observe.loop import observe
from tfq.observe.observer import Observer, Read
from tfq.plan.scheme import LayerRule
from tfq.quantize.candidate import Candidate

# How many times as long a share of the operations takes in int16 as the same share of an int8 model
# on average: on x86, where XNNPACK computes 8 bits with AVX-512 VNNI. Depthwise convolutions are
# slower for each of their few multiplications, and the types change around them. Measured on
# MobileNet v1 (0.25, 224), one thread: 0.32 ms in int8, 22 ms in int16x8; with nine depthwise
# convolutions in 16 bits 8.4 ms, with the first two layers 4.4 ms.
_SLOWER, _DEPTHWISE = 70.0, 300.0

# Enough to rank by.
_SAMPLES = 16

_MOST_ALONE = 16
_MOST_STRETCHES = 6

# Multiplications that judging may take at least, whatever the quality: who asks for 16 bits waits.
_BUDGET = 2e11


@dataclasses.dataclass(frozen=True)
class WidenLayers:
    """Lets islands compute in int16.

    Attributes:
      limit: the share of the operations that may, 0 to 1.
      outside: whether inputs and outputs that are states may become int16, too. An app that feeds
        int8 would break, so only where the user asked for 16 bits.
    """

    limit: float = 0.1
    outside: bool = True
    name: str = "int16"

    def cost(self, start: Candidate, context: Context) -> Cost:
        solving = len(samples_to_solve(context))
        most = 2 * _MOST_ALONE + _MOST_STRETCHES + 1
        trials = min(max(_affordable(start, context, solving), 3), most)
        # Biases are solved anew for each, if the improvements before this one correct any.
        return Cost(trials=trials, runs=_SAMPLES + 2 * solving * trials)

    def propose(self, start: Candidate, context: Context) -> Proposals:
        if not context.check:
            raise NothingToDoError(TOO_FEW)
        cost = {op.key: operations(op) for op in start.prepared.model.main.ops}
        total = max(sum(cost.values()), 1)

        def share(island: Island) -> float:
            return sum(cost[name] for name in island.ops) / total

        slower = {op.key: _slower(op) - 1 for op in start.prepared.model.main.ops}

        def time(island: Island) -> float:
            return 1 + sum(cost[name] * slower[name] for name in island.ops) / total

        samples = evenly(context.fit, _SAMPLES)
        found = find_islands(start, samples, outside=self.outside)
        islands = [i for i in found if share(i) <= self.limit]
        if not islands:
            least = min((100 * share(i) for i in found), default=None)
            raise NothingToDoError(
                "no layer has a wider kernel"
                if least is None
                else f"{least:.3g}% of the operations at least, more than {100 * self.limit:.3g}%"
            )
        islands = _ranked(start, islands, samples)
        stretches = _spread([s for s in find_stretches(start) if share(s) <= self.limit])
        solving = samples_to_solve(context)
        left = _affordable(start, context, len(solving))
        context.progress(
            f"Trying int16, at most {self.limit:.0%} of operations; on x86 "
            f"{_SLOWER:.0f} times as slow, depthwise {_DEPTHWISE:.0f}",
            0,
            None,
        )

        def proposal(island: Island) -> Proposal:
            text = _text(island, share(island), time(island))
            return Proposal(text, functools.partial(_with, start, island, solving))

        scores: dict[int, float] = {}
        chosen: Island | None = None
        for island in stretches[: max(left // 3, 1)]:
            answer = yield proposal(island)
            left -= 1
            if answer.best:
                chosen = island
        for i, island in enumerate(islands[: min(_MOST_ALONE, max(left // 2, 1))]):
            answer = yield proposal(island)
            left -= 1
            if answer.gains:
                scores[i] = answer.score
            if answer.best:
                chosen = island
        for i in sorted(scores, key=lambda n: scores[n]):
            wider = islands[i] if chosen is None else chosen.joined(islands[i])
            if left <= 1 or wider.same(chosen) or share(wider) > self.limit:
                continue
            answer = yield proposal(wider)
            left -= 1
            if answer.best:
                chosen = wider
        most = chosen
        for island in islands:
            wider = island if most is None else most.joined(island)
            if share(wider) <= self.limit:
                most = wider
        if most is not None and not most.same(chosen):
            yield proposal(most)


def _spread(stretches: Sequence[Island]) -> list[Island]:
    """A few of the stretches, the longest first."""
    count = len(stretches)
    ends = {count - 1 - i * count // _MOST_STRETCHES for i in range(_MOST_STRETCHES)}
    return [stretches[i] for i in sorted(ends, reverse=True) if i >= 0]


def _affordable(start: Candidate, context: Context, solving: int) -> int:
    """How many candidates may be judged, with the biases of each solved from so many samples."""
    graph = start.prepared.model.main
    budget = max(context.budget, _BUDGET)
    trials = dataclasses.replace(context, budget=budget).affordable_trials(graph)
    if not start.plan.biases:
        return trials
    # The float and the integer model run once.
    solve = 2 * solving * multiplications(graph)
    return max(int(budget / (budget / trials + solve)), 1)


def _with(start: Candidate, island: Island, solving: Sequence[Inputs]) -> Candidate:
    names = "|".join(re.escape(name) for name in sorted(island.ops))
    rule = LayerRule(regex=f"^(?:{names})$", activations="int16")
    config = start.config
    io = {**config.io_types, **dict.fromkeys(sorted(island.io), "int16")}
    config = dataclasses.replace(config, rules=(*config.rules, rule), io_types=io)
    return solved_anew(start.reconfigured(config), solving)


def _slower(op: Op) -> float:
    return _DEPTHWISE if op.name == "DEPTHWISE_CONV_2D" else _SLOWER


def _text(island: Island, share: float, time: float) -> str:
    count = len(island.ops)
    state = f", {' and '.join(sorted(island.io))} INT16 OUTSIDE, TOO" if island.io else ""
    return (
        f"{count} op{'s' * (count != 1)}{state}: {share:.1%} of the operations, "
        f"some {time:.1f} times the time on x86"
    )


def _ranked(start: Candidate, islands: Sequence[Island], samples: Sequence[Inputs]) -> list[Island]:
    """The islands, those of the coarsest tensors first; states before all."""
    noise = _rounding(start, {t for i in islands for t in i.tensors}, samples)

    def coarseness(island: Island) -> float:
        return max((noise.get(t, 0.0) for t in island.tensors), default=0.0)

    return sorted(islands, key=lambda i: (not i.io, -coarseness(i), len(i.ops)))


def _rounding(
    start: Candidate, tensors: Iterable[Tensor], samples: Sequence[Inputs]
) -> dict[Tensor, float]:
    """The noise of rounding each tensor to its grid, relative to its variance."""
    assert start.layout is not None
    graph = start.prepared.model.main
    consumers, outputs = graph.consumers(), set(graph.outputs)
    read = [
        t
        for t in tensors
        if t.name in start.plan.tensors and (t in consumers or t in outputs) and t.size
    ]
    read.sort(key=lambda t: t.name)
    observers = [_RoundingObserver(t.name, start.plan.tensors[t.name].grid) for t in read]
    observe(start.prepared.bytes, samples, observers)
    return {t: o.result() for t, o in zip(read, observers, strict=True)}


class _RoundingObserver(Observer):
    """Adds up x, x^2 and (x - q(x))^2 of a tensor that has a grid."""

    def __init__(self, tensor: str, grid: Grid):
        self.tensors = (Read(tensor),)
        self._grid = grid
        self._sums = np.zeros(4)

    def update(self, number: int, values: Sequence[np.ndarray]) -> None:
        x = values[0].astype(np.float64)
        off = x - dequantize(quantize(x, self._grid), self._grid)
        self._sums += [x.size, x.sum(), np.sum(x * x), np.sum(off * off)]

    def result(self) -> float:
        count, total, squares, off = self._sums
        variance = squares / max(count, 1) - (total / max(count, 1)) ** 2
        return float(off / max(count, 1) / max(variance, 1e-30))
