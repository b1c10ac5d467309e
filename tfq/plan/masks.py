"""Attention masks: -1e9 stands for minus infinity and must not become part of a range.

A mask reaches a softmax as `x + m` with m = 0 or -1e9, as `x - 1e9 m`, or as `select(c, x, -1e9)`,
and m itself may be a sum, a choice or a clip of masks. A grid that spans 1e9 has no step left for
x. All the softmax needs (and a sigmoid) is that masked places come out as zero, and they do when
they lie a margin below every x: exp(-8) < 1/512, half a step of its int8 output. So, where o(t)
are the values of t that do not mask,

    out of add:     floor = min o(x) + min o(m) - margin
    select:         floor = min o(x) - margin, where the constant saturates
    m of an add:    floor of the sum - max o(x)
    x of c * x:     what c * x must hold, by c

The largest of masked values needs the same without a margin, where the mask is -1e6 or lower. So
has a sum that holds what stands for infinity (`numerics.INFINITE`: the lowest float, say), whatever
reads it: nothing else could be done with it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping

from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.numerics import INFINITE
from tfq.graph.optable import Kind, op_names, spec
from tfq.plan.entries import INTEGER
from tfq.plan.layout import Layout

# exp(-margin) is below half a step of the softmax output; a logarithm of one shows 16.
_MARGIN = {
    "SOFTMAX": {"int8": 8.0, "int16": 12.0},
    "LOG_SOFTMAX": {"int8": 16.0},
    "LOGISTIC": {"int8": 8.0, "int16": 12.0},
}

# What takes the largest value needs no margin: masked places lose, or tie with the lowest.
_LARGEST = ("REDUCE_MAX", "ARG_MAX", "TOPK_V2")
_FAR = -1e6

# No trained logit is this low; every mask in use is (-1e4 in half precision, -1e9, -inf, FLT_MIN).
_MASK = -1000.0
# What a sigmoid reads is no logit always: a gate may see a sum that reaches far.
_GATED = -9000.0

_MOVES = op_names(lambda row: row.moves != "")
_SUMS = {"ADD", "SUB"}
_CHOICES = {"SELECT": (1, 2), "SELECT_V2": (1, 2), "MAXIMUM": (0, 1), "MINIMUM": (0, 1)}

_Range = tuple[float, float]
# The range of a tensor, and that of its values above a bound.
Observed = Callable[[Tensor], _Range | None]
Opened = Callable[[Tensor, float, int], _Range | None]


@dataclasses.dataclass(frozen=True)
class Masks:
    """Attributes:
    floors: tensor -> the real range that replaces its observed one.
    consts: (op, input index) of a mask constant -> the real range of its grid.
    """

    floors: Mapping[Tensor, _Range]
    consts: Mapping[tuple[Op, int], _Range]


def find_masks(graph: Graph, layout: Layout, observed: Observed, opened: Opened) -> Masks:
    """Finds masks above every softmax and sigmoid, and infinite ones above every sum.

    Args:
      graph: the main graph.
      layout: the plan's `Layout`.
      observed: the real range of a tensor, or None when there are no statistics of it.
      opened: (tensor, bound, sign) -> the range, with zero, of the values of sign * tensor above
        the bound.
    """
    search = _Search(graph, observed, opened)
    for op in graph.ops:
        choice = layout.choices[op]
        margin = _MARGIN.get(op.name, {}).get(choice.activations)
        if margin is not None and choice.mode == INTEGER:
            if op.name != "LOGISTIC":
                search.visit(op.input(0), _Wanted(margin, _MASK))
            elif search.is_read_once(op.input(0)):
                search.visit(op.input(0), _Wanted(margin, _GATED))
        elif op.name in _LARGEST and choice.mode == INTEGER:
            search.visit(op.input(0), _Wanted(0.0, _FAR))
    for op in graph.ops:
        if op.name not in _SUMS or layout.choices[op].mode != INTEGER:
            continue
        out = op.outputs[0]
        found = search.full(out, 1)
        if found is not None and found[0] <= -INFINITE and out not in search.floors:
            search.visit(out, _Wanted(0.0, -INFINITE))
    return Masks(search.floors, search.consts)


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What a tensor must still hold.

    Attributes:
      margin: how far below all that is open a masked place has to lie.
      below: at most this is masked.
      low: where everything below may be cut off; None to find that from what is open.
      sign: -1 where the negated tensor masks.
    """

    margin: float
    below: float
    low: float | None = None
    sign: int = 1


class _Search:
    def __init__(self, graph: Graph, observed: Observed, opened: Opened):
        self.producers = graph.producers()
        self._reads = Counter(t for op in graph.ops for t in op.inputs if t is not None)
        self._reads.update(graph.outputs)
        self.observed, self._opened = observed, opened
        self.floors: dict[Tensor, _Range] = {}
        self.consts: dict[tuple[Op, int], _Range] = {}

    def is_read_once(self, t: Tensor) -> bool:
        """Whether nothing but one op sees what is cut off of `t`; x * sigmoid(x) sees it twice."""
        return self._reads[t] == 1

    def full(self, t: Tensor, sign: int) -> _Range | None:
        return _flipped(self._through(t, self.observed), sign)

    def opened(self, t: Tensor, wanted: _Wanted) -> _Range:
        found = self._through(t, lambda u: self._opened(u, wanted.below, wanted.sign))
        return found or (0.0, 0.0)

    def _through(self, t: Tensor, look: Observed) -> _Range | None:
        """What `look` says of `t`, or of what its values were moved or picked from."""
        found = look(t)
        op = self.producers.get(t)
        s = spec(op.name) if op is not None else None
        if found is not None or op is None or s is None or s.kind is not Kind.SAME:
            return found
        indices = range(len(op.inputs)) if s.data is None else s.data
        parts = [self._through(op.input(i), look) for i in indices if i < len(op.inputs)]
        known = [p for p in parts if p is not None]
        if not known or len(known) < len(parts):
            return None
        return min(p[0] for p in known), max(p[1] for p in known)

    def visit(self, t: Tensor, wanted: _Wanted) -> None:
        """Finds the masks that are part of `t`, and cuts them off."""
        op = self.producers.get(t)
        if op is not None and op.name in _MOVES:
            self._cut(t, wanted)
            self.visit(op.input(0), wanted)
        elif op is not None and op.name in _SUMS:
            self._sum(op, wanted)
        elif op is not None and op.name in _CHOICES:
            self._choice(op, wanted)
        elif op is not None and (found := _factor(op)) is not None:
            self._scaled(op, *found, wanted)
        else:
            self._cut(t, wanted)

    def _scaled(self, op: Op, i: int, by: float, wanted: _Wanted) -> None:
        """A product with a positive constant: what masks behind it masks before it."""
        self._cut(op.outputs[0], wanted)
        x = op.input(i)
        if not self.is_read_once(x):
            return
        low = None if wanted.low is None else wanted.low / by
        self.visit(x, _Wanted(wanted.margin / by, wanted.below / by, low, wanted.sign))
        if wanted.low is None and x in self.floors:
            ends = _flipped(self.floors[x], wanted.sign)
            assert ends is not None
            self._floor(op.outputs[0], ends[0] * by, ends[1] * by, wanted.sign)

    def _cut(self, t: Tensor, wanted: _Wanted) -> None:
        if wanted.low is not None:
            self._floor(t, wanted.low, self.opened(t, wanted)[1], wanted.sign)

    def _floor(self, t: Tensor, low: float, high: float, sign: int) -> None:
        floor = _flipped((min(low, 0.0), max(high, 0.0)), sign)
        assert floor is not None
        old = self.floors.get(t, floor)
        self.floors[t] = min(old[0], floor[0]), max(old[1], floor[1])

    def _sides(self, op: Op, at: tuple[int, int], wanted: tuple[_Wanted, _Wanted]) -> list[bool]:
        """Which inputs mask; none where one is unknown."""
        full = [self.full(op.input(i), w.sign) for i, w in zip(at, wanted, strict=True)]
        if None in full:
            return [False, False]
        return [f is not None and f[0] <= w.below for f, w in zip(full, wanted, strict=True)]

    def _sum(self, op: Op, wanted: _Wanted) -> None:
        other = -wanted.sign if op.name == "SUB" else wanted.sign
        sides = (wanted, dataclasses.replace(wanted, sign=other))
        masks = self._sides(op, (0, 1), sides)
        if not any(masks):
            self._cut(op.outputs[0], wanted)
            return
        opened = [self.opened(op.input(i), w) for i, w in enumerate(sides)]
        low, high = opened[0][0] + opened[1][0], opened[0][1] + opened[1][1]
        floor = low - wanted.margin if wanted.low is None else wanted.low
        self._floor(op.outputs[0], floor, high, wanted.sign)
        for i, w in enumerate(sides):
            if masks[i]:
                self._mask(op, i, floor - opened[1 - i][1], w)

    def _choice(self, op: Op, wanted: _Wanted) -> None:
        at = _CHOICES[op.name]
        masks = self._sides(op, at, (wanted, wanted))
        opened = [self.opened(op.input(i), wanted) for i in at]
        if not any(masks):
            self._cut(op.outputs[0], wanted)
            return
        floor = wanted.low
        if floor is None and op.name in ("SELECT", "SELECT_V2"):
            floor = min(o[0] for o in opened) - wanted.margin
        if floor is not None:
            self._floor(op.outputs[0], floor, max(o[1] for o in opened), wanted.sign)
        for i, masked in zip(at, masks, strict=True):
            if masked:
                self._mask(op, i, floor, wanted)

    def _mask(self, op: Op, i: int, low: float | None, wanted: _Wanted) -> None:
        t = op.input(i)
        if not t.is_const:
            self.visit(t, dataclasses.replace(wanted, low=low))
            return
        ends = _flipped((min(low or 0.0, 0.0), max(self.opened(t, wanted)[1], 0.0)), wanted.sign)
        assert ends is not None
        self.consts[op, i] = ends


def _factor(op: Op) -> tuple[int, float] | None:
    """Which input a product scales, and by which positive number; None where it is another one.

    Numbers that differ from place to place change which of two values is lower.
    """
    for i in {"MUL": (0, 1), "DIV": (0,)}.get(op.name, ()):
        by = op.input(1 - i)
        if by.is_const and by.size and not op.input(i).is_const:
            low, high = float(by.values().min()), float(by.values().max())
            if 0 < low == high < INFINITE:
                return i, 1 / low if op.name == "DIV" else low
    return None


def _flipped(found: _Range | None, sign: int) -> _Range | None:
    return found if found is None or sign > 0 else (-found[1], -found[0])
