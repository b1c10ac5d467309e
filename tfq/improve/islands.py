"""Which ops go together when some compute in 16 bits.

An error is gone only if all that makes a tensor, and all that reads it, is wider: one op alone
rounds its result to 8 bits again for the next. So an island is made of what computes and reads the
tensors of one grid, in all steps of an unrolled loop; without the layers with weights that read
them, which cost most and whose own grids of 8 bits suffice, or with them. Where the model has a
state, an input that an output of the run before comes back as, all but the layers with weights on
the way from one to the other is an island, and both are given in 16 bits: what is rounded in a
state stays in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tfq.calibrate.statistics import Statistics
from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.optable import Kind, spec
from tfq.graph.origin import has_fixed_range, makers
from tfq.graph.quantizable import obstacle
from tfq.parts import channel_axis
from tfq.plan.entries import INTEGER, LOOKUP
from tfq.plan.layout import Layout
from tfq.quantize.candidate import Candidate
from tfq.walk.obstacles import multiplications

Inputs = Mapping[str, np.ndarray]

# A channel with fewer steps of its input's grid is starved.
_FEW_STEPS, _STEPS = 8, 255


@dataclasses.dataclass(frozen=True)
class Island:
    """Attributes:
    ops: keys of the ops that compute in 16 bits.
    tensors: whose rounding it mends.
    io: names of inputs and outputs to give in 16 bits: a state.
    """

    ops: frozenset[str]
    tensors: tuple[Tensor, ...]
    io: frozenset[str] = frozenset()

    def same(self, other: Island | None) -> bool:
        """Whether the same is wider."""
        return other is not None and (self.ops, self.io) == (other.ops, other.io)

    def joined(self, other: Island) -> Island:
        return Island(self.ops | other.ops, self.tensors + other.tensors, self.io | other.io)


def operations(op: Op) -> int:
    """Multiplications of a layer with weights, values that any other op computes."""
    s = spec(op.name)
    if s is None or s.kind in (Kind.SAME, Kind.STRUCTURAL):
        return 0
    return multiplications(op) or sum(t.size for t in op.outputs)


def find_islands(
    start: Candidate, samples: Sequence[Inputs], *, outside: bool = True
) -> list[Island]:
    """States first; then by grid, each without and with the layers that have weights.

    Args:
      start: the model.
      samples: some that show what states need.
      outside: whether inputs and outputs may be given in 16 bits.
    """
    assert start.layout is not None
    graph, layout = start.prepared.model.main, start.layout
    producers, consumers = graph.producers(), graph.consumers()
    kept = _kept(start)
    found = [i for i in _states(start, samples) if outside or not i.io]
    grids: dict[Tensor, list[Tensor]] = {}
    for t, dtype in layout.dtypes.items():
        if dtype == "int8":
            grids.setdefault(layout.groups.find(t), []).append(t)
    for members in _by_loop(grids.values()):
        writers = [producers[t] for t in members if t in producers]
        readers = [op for t in members for op, _ in consumers.get(t, [])]
        for weights in (False, True):
            wide = [
                o for o in [*writers, *readers] if o not in kept and _widens(o, layout, weights)
            ]
            ops = frozenset(o.key for o in wide)
            computed = [o for o in writers if o.key in ops and not _moves(o)]
            if computed and readers:
                found.append(Island(ops, tuple(members)))
    first: dict[tuple[frozenset[str], frozenset[str]], Island] = {}
    for island in found:
        first.setdefault((island.ops, island.io), island)
    return list(first.values())


def find_stretches(start: Candidate) -> list[Island]:
    """The first ops, so many, then more: what they round goes through all the others."""
    assert start.layout is not None
    layout, kept = start.layout, _kept(start)
    ops = [
        op for op in start.prepared.model.main.ops if op not in kept and _widens(op, layout, True)
    ]
    computing = [i for i, op in enumerate(ops) if not _moves(op)]
    return [
        Island(
            frozenset(op.key for op in ops[: i + 1]),
            tuple(t for op in ops[: i + 1] for t in op.outputs),
        )
        for i in computing
    ]


def _by_loop(grids: Iterable[list[Tensor]]) -> list[list[Tensor]]:
    """The same with what steps of one unrolled loop do alike put together."""
    found: dict[Tensor | str, list[Tensor]] = {}
    for members in grids:
        step = next((t.step for t in members if t.step is not None), None)
        found.setdefault(members[0] if step is None else step.tensor, []).extend(members)
    return list(found.values())


def _widens(op: Op, layout: Layout, weights: bool) -> bool:
    """Whether an op computes in 8 bits and may in 16."""
    s, choice = spec(op.name), layout.choices[op]
    if choice.activations != "int8" or (s is not None and s.kind is Kind.WEIGHTED and not weights):
        return False
    return choice.mode == LOOKUP or (choice.mode == INTEGER and not obstacle(op, "int16"))


def _kept(start: Candidate) -> set[Op]:
    """Ops whose result of fixed range is an output of 8 bits.

    Kernels of 16 bits give a sigmoid or a softmax on a signed grid around 0, of which 8 bits have
    half the steps of their own.
    """
    graph = start.prepared.model.main
    producers = graph.producers()
    fixed = [
        t
        for t in graph.outputs
        if start.config.output_type_of(t.name) in (None, "int8", "uint8")
        and has_fixed_range(t, producers)
    ]
    return {op for t in fixed for op in makers(t, producers) if op is not None}


def _moves(op: Op) -> bool:
    s = spec(op.name)
    return s is not None and s.kind is Kind.SAME


def _states(start: Candidate, samples: Sequence[Inputs]) -> list[Island]:
    assert start.layout is not None
    graph, layout, config = start.prepared.model.main, start.layout, start.config
    if sum(t.dtype == "float32" for t in graph.inputs) < 2:
        return []
    found = []
    left = list(graph.outputs)
    for t in graph.inputs:
        if config.input_type_of(t.name) not in (None, "float32"):
            continue
        if t.dtype != "float32" or layout.dtypes.get(t) != "int8":
            continue
        if not _is_starved(t, [s[t.name] for s in samples]):
            continue
        behind = _reached(graph.ops, t)
        after = next((o for o in left if _is_next(t, o, behind, start.statistics)), None)
        if after is None or config.output_type_of(after.name) not in (None, "float32"):
            continue
        left.remove(after)
        before = _needed(graph, after)
        loop = [o for o in graph.ops if o in before and any(out in behind for out in o.outputs)]
        ops = frozenset(o.key for o in _with_arguments(graph, loop) if _widens(o, layout, False))
        types = (config.input_type_of(t.name), config.output_type_of(after.name))
        io = {n for n, given in zip((t.name, after.name), types, strict=True) if given is None}
        found.append(Island(ops, (t, after), frozenset(io)))
    return found


def _is_starved(t: Tensor, values: Sequence[np.ndarray]) -> bool:
    """Whether a channel of an input spans but a few steps of an 8-bit grid for all of it."""
    axis = channel_axis(t.shape)
    if axis is None or not values:
        return False
    others = tuple(i for i in range(len(t.shape)) if i != axis)
    low = np.min([v.min(axis=others) for v in values], axis=0)
    high = np.max([v.max(axis=others) for v in values], axis=0)
    step = (max(high.max(), 0.0) - min(low.min(), 0.0)) / _STEPS
    live = (high - low)[high > low]
    return bool(live.size and live.min() < _FEW_STEPS * step)


def _is_next(
    t: Tensor, output: Tensor, behind: Iterable[Tensor], statistics: Statistics | None
) -> bool:
    """Whether an output may be the state that comes back as input `t`: alike, and made of it."""
    if output not in behind or output.shape != t.shape or output.dtype != t.dtype:
        return False
    seen = [None if statistics is None else statistics.get(n) for n in (t.name, output.name)]
    if seen[0] is None or seen[1] is None:
        return True
    sizes = [max(-s.min, s.max) for s in seen if s is not None]
    return max(sizes) <= 2 * min(sizes)


def _reached(ops: Iterable[Op], t: Tensor) -> set[Tensor]:
    """Everything that depends on `t`."""
    found = {t}
    for op in ops:
        if any(i in found for i in op.inputs if i is not None):
            found.update(op.outputs)
    return found


def _needed(graph: Graph, t: Tensor) -> set[Op]:
    """The ops that `t` is computed by."""
    tensors, found = {t}, set()
    for op in reversed(graph.ops):
        if any(o in tensors for o in op.outputs):
            found.add(op)
            tensors.update(i for i in op.inputs if i is not None)
    return found


def _with_arguments(graph: Graph, ops: Sequence[Op]) -> list[Op]:
    """The ops, and what their other arguments are computed by, as far as no layer has weights."""
    wanted = {t for op in ops if not multiplications(op) for t in op.inputs if t is not None}
    found = set(ops)
    for op in reversed(graph.ops):
        if multiplications(op):
            continue
        if op in found or any(t in wanted for t in op.outputs):
            found.add(op)
            wanted.update(t for t in op.inputs if t is not None)
    return [op for op in graph.ops if op in found]
