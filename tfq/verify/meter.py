"""How far one output is from the float model's: as a whole, by part, and whether it collapsed.

**Collapse** means that the output no longer follows the float model's from sample to sample. With
y the float output and e = y_q - y its error, each less its mean over the samples, position by
position,

    variation_db = 10 log10( sum (y - mean y)^2 / sum (e - mean e)^2 )

so that a large offset, which any grid keeps, does not hide a small signal. An output collapsed if

 1. its variation is lost: variation_db < 3, though the float output moves by a step or more
    somewhere, or by more than four of the steps that its own range needs, where what shares the
    grid makes it coarser (what moves by less, no grid can carry, and nothing is lost); or
 2. it is elsewhere: sqnr_db < 3 with a mean error of more than a step; or
 3. its answers are lost. An answer is the largest value along the last axis; it is clear where it
    leads by two steps and by the median lead. Of at least three clear answers fewer than half are
    the same, and variation_db of the values less their mean along that axis is below 10; or
 4. it is of integers (class numbers, flags), and fewer than half of the values are the same, or, of
    three values or more that are not the commonest, so few that the commonest alone would do as
    well; or
 5. nothing of it is left: sqnr_db < 3, and of answers that vary fewer than half are the same (a
    softmax of a thousand even classes that is zero everywhere); or
 6. masks hide its other values: see `tfq.verify.magnitudes`.

Where 1 holds and yet the answers vary and agree (Cohen's kappa against the commonest answer of at
least 0.5), the output has not collapsed. One sample has no variation: 2 is judged alone.

**A part starves** (see `tfq.parts`) if its values span less than eight steps of a grid that larger
parts make so coarse, and less than 20 dB of their spread is left. It need not vary between samples.
Rules 1 and 2 are asked of parts, too. Where kernels fix the range (softmax, sigmoid), there are no
parts: what is small there is meant to be small.

Memory: three float32 arrays of an output's size, and sums by channel.
"""

from __future__ import annotations

import collections
import dataclasses
import math

import numpy as np

from tfq.graph.numerics import INFINITE, Grid, activation_grid
from tfq.parts import Channels, ChannelSums, PartFigures, decibel
from tfq.verify.magnitudes import Magnitudes

COLLAPSED_DB = 3.0
# Fewer steps are a part's cue to be looked at, and fewer dB of its spread to be told of.
FEW_STEPS, FEW_DB = 8.0, 20.0

_CENTERED_DB = 10.0
_AGREES = 0.5
_FEW_ANSWERS = 3
_CLEAR_STEPS = 2.0
# A grid is another tensor's where its step is so many times what the output's own range needs.
_COARSE = 4.0
# A float output that moves by less than this share of its size does not move.
_ROUNDING = 1e-4
# Leads are counted by their binary order of magnitude.
_ORDERS = 128
_MOST_NUMBERS = 4096


def is_starved(steps: float | None, spread_db: float) -> bool:
    """Whether a part of an output has too little of a grid, where it has one."""
    return steps is not None and steps < FEW_STEPS and spread_db < FEW_DB


@dataclasses.dataclass(frozen=True)
class PartResult:
    """How far one part of an output is from the float model's.

    Attributes:
      part: "[..., 4:10]".
      low, high: of the float values.
      steps: how many steps of the grid they span; None for float outputs.
      sqnr_db: over all values of the part.
      spread_db: the same of the signal less its channels' means.
      starved: whether the shared grid leaves too little of it.
      collapsed: whether it no longer follows the float model.
    """

    part: str
    low: float
    high: float
    steps: float | None
    sqnr_db: float
    spread_db: float
    starved: bool
    collapsed: bool


@dataclasses.dataclass(frozen=True)
class OutputError:
    """How far one output is from the float model's.

    Attributes:
      name: the output tensor.
      max_lsb, mean_lsb: distance in steps of the output's grid; None for float outputs.
      sqnr_db: signal to quantization noise, 10 log10(sum y^2 / sum (y - y_q)^2).
      max_abs: largest distance in real units.
      agreement: share of positions with the same argmax along the last axis, where that has more
        than one value; of integer and boolean outputs (class numbers, flags) the share of equal
        values; None otherwise.
      variation_db: the same ratio of what changes between samples; None for one sample and for
        integers.
      constant: whether the float output moves by less than a step between samples.
      parts: at least two where the output has parts that differ in range.
      hidden: bounds of the values that masks hide (`tfq.verify.magnitudes`).
    """

    name: str
    max_lsb: float | None
    mean_lsb: float | None
    sqnr_db: float
    max_abs: float
    agreement: float | None
    variation_db: float | None = None
    constant: bool = False
    parts: tuple[PartResult, ...] = ()
    hidden: tuple[float, float] | None = None


class Meter:
    """Accumulates the error of one output, a sample at a time.

    Args:
      name: of the output tensor.
      shape: of the output.
      scale: of its own grid; None for float outputs.
      grid: that its values were on last; None if they never were.
      counts: whether its values are integers that stand for no real numbers.
      has_parts: False where kernels fix the range of all values.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        scale: float | None,
        *,
        grid: Grid | None = None,
        counts: bool = False,
        has_parts: bool = True,
    ):
        self.name, self.scale, self.grid, self.counts = name, scale, grid, counts
        self.step = grid.scale[0] if grid is not None else 0.0
        self.has_parts = has_parts
        self.samples = self.count = 0
        self.absolute = self.max = 0.0
        self.sums = ChannelSums(shape)
        self.variation = _Variation()
        self.answers = _Answers()
        self.magnitudes = Magnitudes()
        self.numbers = _Numbers()

    def add(self, expected: np.ndarray, real: np.ndarray) -> None:
        """Adds a sample: real values of the output's shape, of the float and the integer model."""
        e, r = _open(expected.astype(np.float64), real.astype(np.float64), self.grid)
        off = np.abs(e - r)
        self.samples += 1
        self.count += off.size
        self.absolute += float(off.sum())
        self.max = max(self.max, float(off.max(initial=0.0)))
        self.sums.add(e, r)
        if self.counts:
            self.numbers.add(e, r)
            return
        self.variation.add(e, r, self.sums)
        if self.has_parts:
            self.magnitudes.add(e, r)
        if e.ndim and e.shape[-1] > 1:
            self.answers.add(e, r)

    @property
    def collapsed(self) -> bool:
        """Whether the output no longer follows the float model; see above."""
        if not self.count:
            return False
        if self.counts:
            return self.numbers.lost
        every = slice(None)
        if self._elsewhere(every):
            return True
        if self._variation_lost(every):
            return not self.answers.agree
        if self.samples > 1 and (self._nothing_left or self.hidden is not None):
            return True
        return self.samples > 1 and (
            self.answers.lost(self.step) and self.variation.centered_db < _CENTERED_DB
        )

    @property
    def _nothing_left(self) -> bool:
        """Rule 5."""
        db = decibel(float(self.sums.power.sum()), float(self.sums.error.sum()))
        return db < COLLAPSED_DB and self.answers.other

    @property
    def hidden(self) -> tuple[float, float] | None:
        """Rule 6: bounds of the values that masks hide; parts tell of their own."""
        if self.counts or any(p.starved for p in self._parts()):
            return None
        places = self.answers.agreement[0]
        return self.magnitudes.hidden(self.sums, other=self.answers.other if places else None)

    def _elsewhere(self, at: Channels) -> bool:
        """Rule 2."""
        error, power = float(self.sums.error[at].sum()), float(self.sums.power[at].sum())
        if not power or decibel(power, error) >= COLLAPSED_DB:
            return False
        values = self.sums.count * self.sums.error[at].size
        # The root of the mean square for the mean, which is not kept by channel.
        return math.sqrt(error / values) > self.step

    def _variation_lost(self, at: Channels) -> bool:
        """Rule 1."""
        if self.samples < 2 or self._still(at):
            return False
        return self.variation.db(at, self.sums) < COLLAPSED_DB

    def _still(self, at: Channels) -> bool:
        """Whether the float values move by less than a step between samples."""
        size = np.maximum(np.abs(self.sums.low[at]), np.abs(self.sums.high[at]))
        least = np.maximum(self._excused, _ROUNDING * size)
        return bool(np.all(self.variation.reach(at) < least))

    @property
    def _excused(self) -> float:
        """Movements below this are not expected of a grid: its step, or four of those that the
        output's own range needs."""
        if self.grid is None or not self.has_parts:
            return self.step
        low, high = float(self.sums.low.min()), float(self.sums.high.max())
        own = activation_grid(low, high, "int16" if self.grid.dtype == "int16" else "int8")
        return min(self.step, _COARSE * own.scale[0])

    def result(self) -> OutputError:
        n = max(self.count, 1)
        places, same = (self.numbers if self.counts else self.answers).agreement
        varies = not self.counts and self.samples > 1 and self.count > 0
        return OutputError(
            self.name,
            None if self.scale is None else self.max / self.scale,
            None if self.scale is None else self.absolute / n / self.scale,
            decibel(float(self.sums.power.sum()), float(self.sums.error.sum())),
            self.max,
            same / places if places else None,
            self.variation.db(slice(None), self.sums) if varies else None,
            varies and self._still(slice(None)),
            self._parts(),
            self.hidden if self.samples > 1 else None,
        )

    def _parts(self) -> tuple[PartResult, ...]:
        if self.counts or not self.has_parts:
            return ()
        return tuple(self._part(p) for p in self.sums.parts())

    def _part(self, p: PartFigures) -> PartResult:
        at = p.part.channels
        steps = (p.high - p.low) / self.step if self.step else None
        starved = is_starved(steps, p.spread_db)
        collapsed = self._elsewhere(at) or self._variation_lost(at)
        return PartResult(
            str(p.part), p.low, p.high, steps, p.sqnr_db, p.spread_db, starved, collapsed
        )


def _open(e: np.ndarray, r: np.ndarray, grid: Grid | None) -> tuple[np.ndarray, np.ndarray]:
    """Both models' values, where what stands for infinity in the float model's is an end of the
    grid, which is all that a masked place can be."""
    infinite = np.abs(e) >= INFINITE
    if not infinite.any():
        return e, r
    if grid is not None:
        low, high = grid.range()
        return np.where(infinite, np.where(e < 0, low, high), e), r
    same = infinite & (np.abs(r) >= INFINITE) & (np.sign(e) == np.sign(r))
    return np.where(same, 0.0, e), np.where(same, 0.0, r)


class _Variation:
    """What changes between samples: sums of y and e less those of the first sample."""

    def __init__(self) -> None:
        self.samples = 0
        self.first: list[np.ndarray] = []
        self.totals: list[np.ndarray] = []  # By position.
        self.squares: list[np.ndarray] = []  # By channel.
        self.centered = [0.0, 0.0]
        self.moved = np.zeros(0)

    def add(self, e: np.ndarray, r: np.ndarray, sums: ChannelSums) -> None:
        now = [e, r - e]
        self.samples += 1
        if not self.first:
            self.first = [v.astype(np.float32) for v in now]
            self.totals = [np.zeros(v.shape, np.float32) for v in now]
            self.squares = [np.zeros(sums.low.size) for _ in now]
            self.moved = np.zeros(sums.low.size)
        for k, values in enumerate(now):
            d = values - self.first[k]
            self.totals[k] += d.astype(np.float32)
            by_channel = sums.by_channel(d)
            self.squares[k] += np.einsum("acb,acb->c", by_channel, by_channel)
            if d.ndim and d.shape[-1] > 1:
                c = d - d.mean(axis=-1, keepdims=True)
                self.centered[k] += float(np.vdot(c, c))
            if k == 0:
                np.maximum(self.moved, np.abs(by_channel).max(axis=(0, 2)), out=self.moved)

    def reach(self, at: Channels) -> np.ndarray:
        """How far the float values get from those of the first sample, by channel."""
        return self.moved[at]

    def db(self, at: Channels, sums: ChannelSums) -> float:
        """Of the channels `at`."""
        found = []
        for squares, total in zip(self.squares, self.totals, strict=True):
            t = sums.by_channel(total.astype(np.float64))
            means = np.einsum("acb,acb->c", t, t) / self.samples
            # Below the rounding of float32 sums there is nothing.
            left = squares[at].sum() - means[at].sum()
            found.append(left if left > 1e-9 * squares[at].sum() else 0.0)
        return decibel(found[0], found[1])

    @property
    def centered_db(self) -> float:
        """Of the values less their mean along the last axis."""
        found = []
        for squares, total in zip(self.centered, self.totals, strict=True):
            t = total.astype(np.float64)
            t -= t.mean(axis=-1, keepdims=True)
            found.append(max(squares - float(np.vdot(t, t)) / self.samples, 0.0))
        return decibel(found[0], found[1])


class _Answers:
    """The largest value along the last axis, in both models."""

    def __init__(self) -> None:
        self.counts = np.zeros(0, np.int64)  # By answer of the float model.
        self.leads = np.zeros((2, _ORDERS), np.int64)  # Different and same answers, by lead.

    def add(self, e: np.ndarray, r: np.ndarray) -> None:
        answer = e.argmax(axis=-1)
        same = (answer == r.argmax(axis=-1)).reshape(-1)
        top = np.partition(e, -2, axis=-1)[..., -2:].reshape(-1, 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            order = np.floor(np.log2(top[:, 1] - top[:, 0])) + _ORDERS // 2
        order = np.clip(np.nan_to_num(order, neginf=0), 0, _ORDERS - 1).astype(np.int64)
        if not self.counts.size:
            self.counts = np.zeros(e.shape[-1], np.int64)
        self.counts += np.bincount(answer.reshape(-1), minlength=e.shape[-1])
        for k in (0, 1):
            self.leads[k] += np.bincount(order[same == k], minlength=_ORDERS)

    @property
    def agreement(self) -> tuple[int, int]:
        """Places, and those with the same answer."""
        return int(self.leads.sum()), int(self.leads[1].sum())

    @property
    def agree(self) -> bool:
        """Whether answers vary, and are the same much more often than the commonest would be."""
        return _kappa(*self.agreement, int(self.counts.max(initial=0))) >= _AGREES

    @property
    def other(self) -> bool:
        """Whether answers vary, and most are others."""
        places, same = self.agreement
        commonest = int(self.counts.max(initial=0))
        return places - commonest >= _FEW_ANSWERS and same < places / 2

    def lost(self, step: float) -> bool:
        """Whether most of the clear answers are others."""
        places = self.leads.sum(axis=0)
        median = int(np.searchsorted(np.cumsum(places), (places.sum() + 1) // 2))
        least = math.ceil(math.log2(_CLEAR_STEPS * step)) + _ORDERS // 2 if step else 0
        clear = self.leads[:, max(median, least) :].sum(axis=1)
        return bool(clear.sum() >= _FEW_ANSWERS and clear[1] < clear[0])


class _Numbers:
    """Values of an output of integers."""

    def __init__(self) -> None:
        self.places = self.same = 0
        self.seen: collections.Counter[float] = collections.Counter()

    def add(self, e: np.ndarray, r: np.ndarray) -> None:
        self.places += e.size
        self.same += int(np.sum(e == r))
        if len(self.seen) <= _MOST_NUMBERS:
            values, counts = np.unique(e, return_counts=True)
            self.seen.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    @property
    def agreement(self) -> tuple[int, int]:
        return self.places, self.same

    @property
    def lost(self) -> bool:
        if self.same < self.places / 2:
            return True
        if len(self.seen) > _MOST_NUMBERS:
            return False
        commonest = max(self.seen.values(), default=0)
        return self.places - commonest >= _FEW_ANSWERS and self.same <= commonest


def _kappa(places: int, same: int, commonest: int) -> float:
    """Agreement beyond that of always giving the commonest answer, 1 at best; -inf where answers
    hardly vary."""
    if places - commonest < _FEW_ANSWERS:
        return -math.inf
    return (same - commonest) / (places - commonest)
