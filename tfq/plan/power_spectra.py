"""Logarithms of power: spectrograms computed inside the model.

    p = sum(x * x);  y = log(p + eps)   (in decibels, square-rooted before, ...)

What y shows lies 60 to 100 dB apart. An int8 grid of p holds 24 dB, an int16 grid 45: below, p is
zero and its logarithm arbitrary. So p is computed as an integer of 32 bits, exactly, from the
integers of x (int16, hence 90 dB), and y is read from a table whose steps grow with p. What is
linear before it, the filters of the spectrogram, computes in int16.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.optable import MOVES, Kind, spec
from tfq.graph.quantizable import obstacle
from tfq.plan.lookup import Chain

REASON = "part of a power spectrum: its logarithm needs every bit"
_LINEAR = {"MUL", "ADD", "SUB"}
_MAX = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class PowerSpectrum:
    """Attributes:
    square: the op MUL(x, x).
    ops: the ops whose results are 32-bit integers: the square, the sum, and moves between.
    terms: how many squares one result sums.
    """

    square: Op
    ops: tuple[Op, ...]
    terms: int


def largest_square_root(terms: int) -> int:
    """The largest |x| in 16-bit integers for which a sum of `terms` squares fits 32 bits."""
    return min(32767, math.isqrt(_MAX // terms))


def find_powers(graph: Graph, chains: Iterable[Chain]) -> list[PowerSpectrum]:
    """The powers of which a logarithm is taken by one of `chains`."""
    producers = graph.producers()
    consumers = graph.consumers()
    found = []
    for chain in chains:
        if not any(op.name == "LOG" for op in chain.ops):
            continue
        power = _trace(graph, chain, producers, consumers)
        if power is not None:
            found.append(power)
    return found


def _trace(
    graph: Graph,
    chain: Chain,
    producers: dict[Tensor, Op],
    consumers: dict[Tensor, list[tuple[Op, int]]],
) -> PowerSpectrum | None:
    t, ops, terms = chain.root, [], 1
    inside = set(chain.ops)
    while (op := producers.get(t)) is not None:
        users = {u for u, _ in consumers.get(t, [])}
        if t in graph.outputs or not users <= inside:
            return None
        ops.append(op)
        inside = {op}
        if op.name == "MUL" and op.inputs[0] is op.inputs[1]:
            return PowerSpectrum(op, tuple(ops[::-1]), terms)
        if op.name == "SUM":
            terms *= max(op.input(0).size // max(op.outputs[0].size, 1), 1)
        elif op.name not in MOVES:
            return None
        t = op.input(0)
    return None


def linear_before(graph: Graph, power: PowerSpectrum) -> set[Op]:
    """The linear ops that the power's argument is computed with, back to the first other op."""
    producers = graph.producers()
    found: set[Op] = set()
    stack = [power.square.input(0)]
    while stack:
        op = producers.get(stack.pop())
        if op is None or op in found:
            continue
        s = spec(op.name)
        if s is None or obstacle(op, "int16"):
            continue
        fused = getattr(op.options, "fusedActivationFunction", 0)
        if fused or not (s.kind in (Kind.WEIGHTED, Kind.SAME) or op.name in _LINEAR):
            continue
        found.add(op)
        stack += [t for t in op.inputs if t is not None and not t.is_const]
    return found
