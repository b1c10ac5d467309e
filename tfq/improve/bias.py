"""Bias correction as an improvement: `tfq.walk` solves the biases, the judge says which are kept.

Each layer's bias is solved behind the corrected layers before it, so that what can be kept is a
stretch from the input on. It is tried as a whole, then shorter. Layers that only one output (or a
few of several) depends on are a head: the heads of outputs that lose are left out.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from tfq.graph.model import Graph, Tensor
from tfq.improve.cost import Cost
from tfq.improve.trials import (
    TOO_FEW,
    Context,
    Inputs,
    NothingToDoError,
    Proposal,
    Proposals,
    evenly,
)
from tfq.quantize.candidate import Candidate
from tfq.quantize.emit import emit
from tfq.walk import correct_biases

# How far along the network, in parts of its layers.
_REACHES = (1.0, 0.875, 0.75, 0.5, 0.25)

# Of a large model's samples, enough to tell a shift from chance.
_SAMPLES = 100


@dataclasses.dataclass(frozen=True)
class CorrectBiases:
    """Corrects the biases of layers, as far along the network as it helps."""

    name: str = "bias_correction"

    def cost(self, start: Candidate, context: Context) -> Cost:
        # Each stretch as it is, and without the heads of what loses. A walk runs both models and
        # the accumulators of all layers once.
        return Cost(trials=2 * len(_REACHES), runs=3 * len(samples_to_solve(context)))

    def propose(self, start: Candidate, context: Context) -> Proposals:
        if not context.check:
            raise NothingToDoError(TOO_FEW)
        emitted = emit(start.prepared.model, start.plan, spare_biases=True)
        if not emitted.biases:
            raise NothingToDoError("no layer has an integer bias")
        solved = correct_biases(
            start.prepared.model,
            emitted,
            samples_to_solve(context),
            progress=lambda done, total: context.progress("Correcting biases", done, total),
        )
        if "" in solved.declined:
            raise NothingToDoError(solved.declined[""])
        biases = solved.biases
        if not biases:
            raise NothingToDoError("no layer's mean output is off")
        reached = _outputs_reached(start.prepared.model.main, list(biases))
        everywhere = len(start.prepared.model.main.outputs)
        left_out: frozenset[str] = frozenset()
        tried = set()
        for reach in _REACHES:
            stretch = list(biases)[: max(round(len(biases) * reach), 1)]
            for _ in range(2):
                names = tuple(
                    n
                    for n in stretch
                    if len(reached[n]) == everywhere or not reached[n] <= left_out
                )
                if not names or names in tried:
                    break
                tried.add(names)
                count = f"{len(names)} of {len(biases)} layers"
                chosen = {n: biases[n] for n in names}
                answer = yield Proposal(count, functools.partial(_with, start, chosen))
                if answer.best or not answer.losers:
                    break
                left_out |= answer.losers
            if not answer.gains or (answer.best and not answer.losers):
                return


def samples_to_solve(context: Context) -> Sequence[Inputs]:
    """Those that biases are solved from."""
    return evenly(context.fit, _SAMPLES)


def solved_anew(candidate: Candidate, samples: Sequence[Inputs]) -> Candidate:
    """The same with the biases that were corrected solved again, from those of the float model.

    A corrected bias makes up for what all layers before it shift. Where those compute on other
    grids, it is off by as much.
    """
    names = frozenset(candidate.plan.biases)
    if not names:
        return candidate
    plain = dataclasses.replace(candidate.plan, biases={})
    model = candidate.prepared.model
    emitted = emit(model, plain, spare_biases=True)
    solved = correct_biases(model, emitted, samples, layers=names)
    return candidate.replanned(dataclasses.replace(plain, biases=solved.biases))


def _with(start: Candidate, biases: Mapping[str, np.ndarray]) -> Candidate:
    biases = {**start.plan.biases, **biases}
    return start.replanned(dataclasses.replace(start.plan, biases=biases))


def _outputs_reached(graph: Graph, layers: Sequence[str]) -> dict[str, frozenset[str]]:
    """Names of the outputs that depend on each layer's output."""
    reached: dict[Tensor, frozenset[str]] = {t: frozenset([t.name]) for t in graph.outputs}
    for op in reversed(graph.ops):
        found = frozenset[str]().union(*(reached.get(t, frozenset()) for t in op.outputs))
        for t in op.inputs:
            if t is not None and not t.is_const:
                reached[t] = reached.get(t, frozenset()) | found
    named = {t.name: reached.get(t, frozenset()) for t in graph.tensors()}
    return {n: named[n] for n in layers}
