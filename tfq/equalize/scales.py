"""Which scales per channel are best, from what the channels' values and weights are.

A layer y_o = sum_c w_oc x_c that reads channels x_c scaled by t_c (and weights divided by it) gets
two kinds of rounding noise, each of a uniform error with variance step^2 / 12:

    of x        (R / levels)^2 / 12  sum_c w_oc^2 / t_c^2        R: range of all t_c x_c together
    of weights  (max_c |w_oc| / t_c / 127)^2 / 12  sum_c t_c^2 E[x_c^2]

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

from tfq.equalize.channels import ChannelGroup, Use, find_groups
from tfq.equalize.rescale import shown_tensors
from tfq.graph.model import Graph, Op, Tensor
from tfq.rewrite.match import WEIGHTED
from tfq.rewrite.prepare import Prepared
from tfq.runtime import Runner

Inputs = Mapping[str, np.ndarray]

_LEVELS = {"int8": 255.0, "int16": 65535.0}
_WEIGHT_LEVELS = 127.0

# A channel that was all but silent on these samples may speak up on others.
_LIMIT = 12  # a power of two

# Equalized where a layer's predicted noise is divided by this. Models whose channels nothing has
# pulled apart stay far below.
_WORTH = 10.0
_LOOK = 4
_MEASURE = 64

# A channel with less than this part of the average channel's noise is scaled more than it needs.
_PART = 0.25

# Relative to the signal: 120 dB below.
_NO_NOISE = 1e-12

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
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Choice]:
    """Measures the channels on samples and chooses scales for each group.

    Args:
      graph, model: the prepared float model's main graph, and the model's bytes, which are run.
      groups: of `graph`.
      samples: input tensor name -> float values.
      dtypes: what each tensor will be held in.
      per_tensor: whether the weights of an op will have one scale.
      progress: called with (samples run, samples in all).

    Returns:
      Choices by group name. Groups that gain nothing are left out, as are those that are not read
      in 8 or 16 bits.
    """
    groups = [g for g in groups if all(dtypes.get(_data(u.op)) in _LEVELS for u in g.readers)]
    if not groups or not samples:
        return {}
    seen = _measure(graph, model, groups, samples, progress)
    problems = _problems(groups, seen, dtypes, per_tensor)
    alone = not any(per_tensor(u.op) for g in groups for u in (*g.writers, *g.readers))
    for _ in range(1 if alone else _SWEEPS):
        if max(p.improve() for p in problems) < _SETTLED:
            break
    return {
        p.group.name: Choice(tuple(float(v) for v in p.t), gain)
        for p in problems
        if (gain := p.gain()) > 1.0
    }


def imbalances(
    prepared: Prepared,
    samples: Sequence[Inputs],
    *,
    dtypes: Mapping[Tensor, str],
    per_tensor: Callable[[Op], bool],
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
            progress=progress,
        )
        least = 1.0 if every else _WORTH
        chosen = {name: c.scales for name, c in choices.items() if c.gain >= least}
        if not chosen or len(samples) <= count:
            break
    return chosen


def _data(op: Op) -> Tensor:
    """The tensor whose channels a weighted op reads."""
    return op.input(WEIGHTED[op.name][0])


@dataclasses.dataclass
class _Seen:
    """What the channels of one tensor were; float64 [channels of its group]."""

    low: np.ndarray
    high: np.ndarray
    square: np.ndarray  # the mean of x^2
    active: np.ndarray  # the share of values other than 0, which is the only one never rounded


def _measure(
    graph: Graph,
    model: bytes,
    groups: Sequence[ChannelGroup],
    samples: Sequence[Inputs],
    progress: Callable[[int, int], None] | None,
) -> dict[Tensor, _Seen]:
    runner = Runner(model, keep_intermediates=True)
    index = {t: i for i, t in enumerate(graph.tensors())}
    where = {t: (g, g.tensors[t]) for g in groups for t in (_data(u.op) for u in g.readers)}
    seen = {
        t: _Seen(*(np.zeros(g.size) for _ in dataclasses.fields(_Seen)))
        for t, (g, _) in where.items()
    }
    for n, sample in enumerate(samples):
        runner.reset_state()
        runner.set_inputs(sample)
        runner.invoke()
        for t, (group, channels) in where.items():
            rows = runner.view(index[t]).reshape(-1, channels.size)
            s = seen[t]
            np.minimum.at(s.low, channels, rows.min(axis=0))
            np.maximum.at(s.high, channels, rows.max(axis=0))
            repeats = channels.size / group.size * len(samples)
            np.add.at(s.square, channels, np.mean(rows * rows, axis=0, dtype=np.float64) / repeats)
            np.add.at(s.active, channels, np.mean(rows != 0, axis=0) / repeats)
            del rows
        if progress is not None:
            progress(n + 1, len(samples))
    return seen


class _Layer:
    """A weighted op as the noise model sees it.

    Rows are output channels. Columns are input channels, of which a depthwise row has one.

    Args:
      use: the op.
      per_tensor: whether its weights will have one scale.
      most: rows to look at, spread evenly; noise is an average over them.
    """

    def __init__(self, use: Use, per_tensor: bool, most: int | None = None):
        op, w = use.op, use.weights
        self.depthwise = op.name == "DEPTHWISE_CONV_2D"
        self.per_tensor = per_tensor
        count = w.shape[WEIGHTED[op.name][3]]
        few = most is not None and not self.depthwise
        self.rows = np.arange(0, count, -(-count // most) if few and most else 1)
        if self.depthwise:
            rows = np.moveaxis(w, 3, 0)[:, None]
        elif op.name == "FULLY_CONNECTED":
            rows = w[self.rows][..., None]
        else:
            rows = np.moveaxis(w[self.rows], 3, 1)
        rows = rows.reshape(*rows.shape[:2], -1).astype(np.float64)
        self.taps = rows.shape[2]
        self.squares = np.einsum("ock,ock->oc", rows, rows)
        self.largest = np.abs(rows).max(axis=2, initial=0.0)

    def columns(self, values: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """Values of channels, laid out to be combined with rows and columns."""
        return values[channels][:, None] if self.depthwise else values[channels][None]

    def weight_noise(self, t: np.ndarray, square: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Noise that rounding weights adds to each output, relative to the output's power.

        Args:
          t: scale of each column; square: its mean square before; v: scale of each row.
        """
        largest = (self.largest * v[:, None] / t).max(axis=1)
        steps = (largest.max(initial=0.0) if self.per_tensor else largest) / _WEIGHT_LEVELS
        power = np.sum(np.broadcast_to(t * t * square, self.squares.shape), axis=1) * self.taps
        return _ratio(steps**2 / 12 * power, v * v * self.power(square))

    def input_noise(
        self, t: np.ndarray, square: np.ndarray, active: np.ndarray, step: float
    ) -> np.ndarray:
        """The same of rounding the scaled input, where it is active, to a grid with this step."""
        noise = step**2 / 12 * np.sum(self.squares * active / (t * t), axis=1)
        return _ratio(noise, self.power(square))

    def power(self, square: np.ndarray) -> np.ndarray:
        return np.sum(self.squares * square, axis=1)


def _ratio(noise: np.ndarray, power: np.ndarray) -> np.ndarray:
    return np.divide(noise, power, out=np.zeros(power.shape), where=power > 0)


def _level(relative: np.ndarray) -> float:
    """One figure for a layer, from the noise of each output relative to its power.

    The mean logarithm: what most outputs gain counts, not one that is all but silent. More noise
    than signal is no worse than as much.
    """
    return float(np.mean(np.log(relative / (1 + relative) + _NO_NOISE)))


@dataclasses.dataclass
class _Reader:
    """One reader of a group: its layer, and the input it reads."""

    layer: _Layer
    channels: np.ndarray
    seen: _Seen
    levels: float
    after: _Problem | None = None  # the group that it writes

    def noise(self, t: np.ndarray) -> float:
        high, low = (t * self.seen.high).max(), (t * self.seen.low).min()
        columns = self.layer.columns(t, self.channels)
        square = self.layer.columns(self.seen.square, self.channels)
        active = self.layer.columns(self.seen.active, self.channels)
        step = float(high - low) / self.levels
        total = self.layer.input_noise(columns, square, active, step)
        total = total + self.layer.weight_noise(columns, square, self.row_scales())
        return _level(total)

    def row_scales(self) -> np.ndarray:
        """What the group that is written scales the rows by."""
        return (
            np.ones(self.layer.rows.size) if self.after is None else self.after.t[self.layer.rows]
        )

    def sensitivity(self) -> np.ndarray:
        """What rounding each unscaled channel adds to the outputs' relative noise."""
        square = self.layer.columns(self.seen.square, self.channels)
        power = self.layer.power(square)[:, None]
        parts = _ratio(self.layer.squares, np.broadcast_to(power, self.layer.squares.shape))
        parts = parts[:, 0] if self.layer.depthwise else parts.sum(axis=0)
        total = np.zeros(self.seen.active.size)
        np.add.at(total, self.channels, parts)
        return total * self.seen.active


@dataclasses.dataclass
class _Writer:
    """One writer of a group whose weights have one scale."""

    layer: _Layer
    before: tuple[_Reader, _Problem] | None = None  # what it reads, if that is a group too

    def noise(self, v: np.ndarray) -> float:
        t, square = self._input()
        return _level(self.layer.weight_noise(t, square, v))

    def largest(self) -> np.ndarray:
        """The largest weight of each row."""
        t, _ = self._input()
        return np.asarray((self.layer.largest / t).max(axis=1))

    def _input(self) -> tuple[np.ndarray, np.ndarray]:
        if self.before is None:
            return np.ones((1, 1)), np.ones((1, 1))
        reader, problem = self.before
        columns = self.layer.columns
        return columns(problem.t, reader.channels), columns(reader.seen.square, reader.channels)


@dataclasses.dataclass(eq=False)
class _Problem:
    """One group: `t` is looked for, beside what the others have now."""

    group: ChannelGroup
    readers: list[_Reader]
    writers: list[_Writer]
    t: np.ndarray

    def noise(self, t: np.ndarray) -> float:
        """The level of the noise of the layers around the group."""
        levels = [r.noise(t) for r in self.readers] + [w.noise(t) for w in self.writers]
        return float(np.mean(levels))

    def gain(self) -> float:
        return math.exp(self.noise(np.ones(self.group.size)) - self.noise(self.t))

    def improve(self) -> float:
        """Takes the best candidate if it is better than what is; by what factor it is."""
        before = self.noise(self.t)
        best, least = self.t, before
        for t in self._candidates():
            noise = self.noise(t)
            if noise < least:
                best, least = t, noise
        self.t = best
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
    seen: Mapping[Tensor, _Seen],
    dtypes: Mapping[Tensor, str],
    per_tensor: Callable[[Op], bool],
) -> list[_Problem]:
    problems = []
    readers: dict[Op, tuple[_Reader, _Problem]] = {}
    writers: dict[Op, _Problem] = {}
    for g in groups:
        problem = _Problem(g, [], [], np.ones(g.size))
        problems.append(problem)
        for use in g.readers:
            x = _data(use.op)
            layer = _Layer(use, per_tensor(use.op), _ROWS)
            reader = _Reader(layer, use.channels, seen[x], _LEVELS[dtypes[x]])
            readers[use.op] = (reader, problem)
            problem.readers.append(reader)
        for use in g.writers:
            writers[use.op] = problem
            if per_tensor(use.op):
                problem.writers.append(_Writer(_Layer(use, True), readers.get(use.op)))
    for op, (reader, _) in readers.items():
        reader.after = writers.get(op)
    return problems
