"""Which scales per channel are best, from what the channels' values and weights are.

A layer y_o = sum_c w_oc x_c that reads channels x_c scaled by t_c (and weights divided by it) gets
two kinds of rounding noise, each of a uniform error with variance step^2 / 12:

    of x        (R / levels)^2 / 12  sum_c w_oc^2 / t_c^2        R: range of all t_c x_c together
    of weights  (max_c |w_oc| / t_c / top)^2 / 12  sum_c t_c^2 E[x_c^2]     top: 127 for 8 bits

The first wants every channel to span the whole grid, t_c = 1 / max |x_c|; the second wants columns
of like size, t_c = max_o |w_oc|. As in SmoothQuant (Xiao et al. 2023) the candidates lie between,

    t_c = (max |x_c|)^-a  (max_o |w_oc|)^b  (max |w_c| of the layer before)^-(1 - a - b),

and the one is taken that has the least noise relative to the outputs' power sum_c w_oc^2 E[x_c^2].
Weights with a scale for each output channel take any t_c in the layer before for nothing: there
a + b = 1. With one scale per tensor its rows matter too, which gives the classic equalization
(Nagel et al. 2019: a = 0, b = 1/2), and the groups depend on each other, so they take turns.

Scales are powers of two, with which the float model computes the same to the last bit.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfq.equalize.channel_statistics import Inputs, measure
from tfq.equalize.channels import ChannelGroup, find_groups
from tfq.equalize.noise import LEVELS, Factors, Layer, Reader, Writer
from tfq.equalize.rescale import shown_tensors
from tfq.graph.model import Graph, Op, Tensor
from tfq.observe.channels import ChannelStatistics
from tfq.rewrite.prepare import Prepared

# A channel that was all but silent on these samples may speak up on others.
_LIMIT = 12  # a power of two

# Equalized where a layer's predicted noise is divided by this. Models whose channels nothing has
# pulled apart stay far below.
_WORTH = 10.0
_LOOK = 4
_MEASURE = 64

# A channel with less than this part of the average channel's noise is scaled more than it needs.
_PART = 0.25

# Outputs of a layer that are looked at: a dense layer may have 100 million weights.
_ROWS = 64

# Exponents a and b are multiples of one over this.
_STEPS = 4

# Turns until groups that depend on each other have settled: no group gains this much any more.
_SWEEPS = 20
_SETTLED = 1.01


@dataclasses.dataclass(frozen=True)
class Choice:
    """The best scales of one group.

    Attributes:
      scales: a power of two for each channel; the largest range stays about what it is.
      gain: by what factor the predicted noise of the layers around the group falls (of the typical
        output: a geometric mean).
    """

    scales: tuple[float, ...]
    gain: float


def choose_scales(
    graph: Graph,
    model: bytes,
    groups: Sequence[ChannelGroup],
    samples: Sequence[Inputs],
    *,
    dtypes: Mapping[Tensor, str],
    per_tensor: Callable[[Op], bool],
    weight_bits: Callable[[Op], int],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Choice]:
    """Measures the channels on samples and chooses scales for each group.

    Args:
      graph, model: the prepared float model's main graph, and the model's bytes, which are run.
      groups: of `graph`.
      samples: input tensor name -> float values.
      dtypes: what each tensor will be held in.
      per_tensor: whether the weights of an op will have one scale.
      weight_bits: how many bits they will have.
      progress: called with (samples run, samples in all).

    Returns:
      Choices by group name. Groups that gain nothing are left out, as are those that are not read
      in 8 or 16 bits.
    """
    groups = [g for g in groups if all(dtypes.get(u.data) in LEVELS for u in g.readers)]
    if not groups or not samples:
        return {}
    seen = measure(model, groups, samples, progress)
    problems = _problems(groups, seen, dtypes, per_tensor, weight_bits)
    alone = not any(per_tensor(u.op) for g in groups for u in (*g.writers, *g.readers))
    for _ in range(1 if alone else _SWEEPS):
        if max(p.improve() for p in problems) < _SETTLED:
            break
    return {
        p.group.name: Choice(tuple(float(v) for v in p.factors.t), gain)
        for p in problems
        if (gain := p.gain()) > 1.0
    }


def imbalances(
    prepared: Prepared,
    samples: Sequence[Inputs],
    *,
    dtypes: Mapping[Tensor, str],
    per_tensor: Callable[[Op], bool],
    weight_bits: Callable[[Op], int],
    every: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, tuple[float, ...]]:
    """Scales of the groups of a prepared model whose channels are so unlike that it is worth it.

    A few samples tell whether there is any such group; where there is none, that is all it costs.

    Args:
      every: all groups that would gain, however little.
      The others: as of `choose_scales`.
    """
    graph = prepared.model.main
    groups = find_groups(graph, shown_tensors(prepared.model))
    chosen: dict[str, tuple[float, ...]] = {}
    for count in (_LOOK, _MEASURE):
        choices = choose_scales(
            graph,
            prepared.bytes,
            groups,
            samples[:count],
            dtypes=dtypes,
            per_tensor=per_tensor,
            weight_bits=weight_bits,
            progress=progress,
        )
        least = 1.0 if every else _WORTH
        chosen = {name: c.scales for name, c in choices.items() if c.gain >= least}
        if not chosen or len(samples) <= count:
            break
    return chosen


@dataclasses.dataclass(eq=False)
class _Problem:
    """One group: its factors are looked for, beside what the others have now."""

    group: ChannelGroup
    readers: list[Reader]
    writers: list[Writer]  # those whose weights have one scale; the others do not mind
    factors: Factors

    def noise(self, t: np.ndarray) -> float:
        """The level of the noise of the layers around the group."""
        levels = [r.noise(t) for r in self.readers] + [w.noise(t) for w in self.writers]
        return float(np.mean(levels))

    def gain(self) -> float:
        return math.exp(self.noise(np.ones(self.group.size)) - self.noise(self.factors.t))

    def improve(self) -> float:
        """Takes the best candidate if it is better than what is; by what factor it is."""
        before = self.noise(self.factors.t)
        best, least = self.factors.t, before
        for t in self._candidates():
            noise = self.noise(t)
            if noise < least:
                best, least = t, noise
        self.factors.t = best
        return math.exp(before - least)

    def _candidates(self) -> list[np.ndarray]:
        values = np.max([np.maximum(r.seen.high, -r.seen.low) for r in self.readers], axis=0)
        columns = np.zeros(self.group.size)
        for r in self.readers:
            # Relative to the row's own size, unless the rows share a scale.
            whole = r.layer.squares.sum(axis=1)
            size = 1 / r.row_scales() if r.layer.per_tensor else np.sqrt(whole)
            part = r.layer.largest / np.where(size > 0, size, np.inf)[:, None]
            part = part[:, 0] if r.layer.depthwise else part.max(axis=0)
            np.maximum.at(columns, r.channels, part)
        rows = np.zeros(self.group.size)
        for w in self.writers:
            rows = np.maximum(rows, w.largest())
        alive = (values > 0) & (columns > 0) & ((rows > 0) | (not self.writers))
        if not alive.any():
            return []
        found = []
        for a, b, c in _exponents(bool(self.writers)):
            t = np.ones(self.group.size)
            t[alive] = values[alive] ** -a * columns[alive] ** b
            if c:
                t[alive] *= rows[alive] ** -c
            # The largest channel keeps its range, and silent ones keep theirs.
            t[alive] *= values.max() / (values * t)[alive].max()
            # Rounded down, so that a channel has room for more than these samples showed.
            found.append(2.0 ** np.clip(np.floor(np.log2(t) + 1e-9), -_LIMIT, _LIMIT))
        sensitivity = np.sum([r.sensitivity() for r in self.readers], axis=0)
        return [self._at_ease(t, sensitivity) for t in found]

    @staticmethod
    def _at_ease(t: np.ndarray, sensitivity: np.ndarray) -> np.ndarray:
        """Less for channels that need not so much.

        One that is seldom active hardly adds noise, and may one day be far larger than these
        samples showed. It is scaled up until its noise is a part of the average channel's.
        """
        allowed = _PART * np.mean(sensitivity / (t * t))
        enough = np.sqrt(sensitivity / max(allowed, 1e-300))
        return np.minimum(t, 2.0 ** np.ceil(np.log2(np.maximum(enough, 1.0))))


def _exponents(rows: bool) -> list[tuple[float, float, float]]:
    found = [
        (a / _STEPS, b / _STEPS, (_STEPS - a - b) / _STEPS)
        for a, b in itertools.product(range(_STEPS + 1), repeat=2)
        if a + b <= _STEPS
    ]
    return [e for e in found if rows or not e[2]]


def _problems(
    groups: Sequence[ChannelGroup],
    seen: Mapping[Tensor, ChannelStatistics],
    dtypes: Mapping[Tensor, str],
    per_tensor: Callable[[Op], bool],
    weight_bits: Callable[[Op], int],
) -> list[_Problem]:
    problems = []
    readers: dict[Op, tuple[Reader, Factors]] = {}
    writers: dict[Op, Factors] = {}
    for g in groups:
        problem = _Problem(g, [], [], Factors(np.ones(g.size)))
        problems.append(problem)
        for use in g.readers:
            x = use.data
            layer = Layer(use, per_tensor(use.op), weight_bits(use.op), _ROWS)
            reader = Reader(layer, use.channels, seen[x], LEVELS[dtypes[x]])
            readers[use.op] = (reader, problem.factors)
            problem.readers.append(reader)
        for use in g.writers:
            writers[use.op] = problem.factors
            if per_tensor(use.op):
                problem.writers.append(
                    Writer(Layer(use, True, weight_bits(use.op)), readers.get(use.op))
                )
    for op, (reader, _) in readers.items():
        reader.after = writers.get(op)
    return problems
