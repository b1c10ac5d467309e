"""The real range of every tensor: from sketches, over all tensors that share a grid."""

from __future__ import annotations

import re
from collections.abc import Callable

from tfq.calibrate.rules import RangeRule
from tfq.calibrate.sketch import Sketch
from tfq.calibrate.statistics import Statistics
from tfq.errors import TfqError
from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.numerics import Grid
from tfq.graph.optable import Kind, spec
from tfq.plan.layout import Layout, data_inputs, float_outputs
from tfq.plan.masks import find_masks
from tfq.plan.plan import INTEGER

# The names that unrolling gives, and how many steps to either side count as near.
_STEP = re.compile(r"/step_(\d+)(?!.*/step_)")
_NEAR = 3

# XNNPACK refuses multipliers of 256 and more, int16 kernels those above 1 that overflow.
_MAX_MULTIPLIER = {"int8": 128.0, "int16": 1.0}


# The reference kernel of SOFTMAX aborts at scales below about 1e-7.
_SOFTMAX_SPAN = 2.0**-4


class Ranges:
    """Ranges by tensor.

    Args:
      graph: the prepared main graph.
      layout: which tensors share a grid.
      statistics: of `layout.observed`.
      rule: reads a range from a sketch.
      weight_scale: an upper bound of the scales of an op's constant weights.

    Attributes:
      hulls: for the representative of each group without a fixed grid, the hull of the ranges of
        its members and of all that ops of the group read.
      masks: attention masks, whose constants are no part of any range.

    Raises:
      TfqError: a tensor lacks statistics, or holds integers that its cast cannot.
    """

    def __init__(
        self,
        graph: Graph,
        layout: Layout,
        statistics: Statistics | None,
        rule: RangeRule,
        weight_scale: Callable[[Op, Tensor], float],
    ):
        self.graph, self.layout, self.statistics, self.rule = graph, layout, statistics, rule
        self.weight_scale = weight_scale
        self._ranges: dict[tuple[Tensor, str], tuple[float, float]] = {}
        self.hulls: dict[Tensor, tuple[float, float]] = {}
        self._held = self._integers_held()
        self.masks = find_masks(graph, layout, self._mask_range)
        self._make_hulls()

    def observed(self, t: Tensor, dtype: str) -> tuple[float, float]:
        """The calibrated real range of one tensor."""
        key = (t, dtype)
        if key not in self._ranges:
            sketch = None if self.statistics is None else self.statistics.get(t.name)
            if sketch is None:
                raise TfqError(
                    f"Tensor {t.name!r} has no statistics. Calibrate again with the same model, "
                    f"flags and tfq version."
                )
            bits = 16 if dtype == "int16" else 8
            # Not symmetric even for int16: what reads the tensor in int8 wants both ends.
            ends = [
                self.rule(near, bits=bits, symmetric=False)
                for near in [sketch, *self._neighbours(t.name)]
            ]
            self._ranges[key] = min(e[0] for e in ends), max(e[1] for e in ends)
        return self._ranges[key]

    def _neighbours(self, name: str) -> list[Sketch]:
        """Sketches of the same tensor in nearby steps of an unrolled loop.

        A step's tensors are small, so that few samples do not reach their extremes; neighbouring
        steps of a sequence have much the same distribution.
        """
        step = _STEP.search(name)
        if step is None or self.statistics is None:
            return []
        at = int(step[1])
        names = (
            f"{name[: step.start(1)]}{n}{name[step.end(1) :]}"
            for n in range(at - _NEAR, at + _NEAR + 1)
            if n != at
        )
        return [s for n in names if (s := self.statistics.get(n)) is not None]

    def _widen(self, t: Tensor, lo: float, hi: float) -> None:
        root = self.layout.groups.find(t)
        old = self.hulls.get(root, (0.0, 0.0))
        self.hulls[root] = (min(old[0], lo), max(old[1], hi))

    def _make_hulls(self) -> None:
        groups, masked = self.layout.groups, self.masks
        for t in self.graph.tensors():
            if t in self.layout.sources:
                if groups.find(t) in groups.pinned:
                    self._check_fits(t, groups.pinned[groups.find(t)][0])
                    continue
                if t in masked.floors:
                    continue
                self._widen(t, *self.observed(t, self._dtype(t)))
        for t, floor in masked.floors.items():
            self._widen(t, *floor)
        # Constants and inputs from other grids that a shared-grid op reads must fit its grid too.
        # One pass in execution order is enough: an op's inputs are settled before its outputs.
        for op in self.graph.ops:
            s = spec(op.name)
            if s is None or s.kind is not Kind.SAME:
                continue
            if self.layout.choices[op].mode != INTEGER or not float_outputs(op):
                continue
            out = float_outputs(op)[0]
            for i in data_inputs(op, s):
                t = op.input(i)
                if t.is_const:
                    if t.size and (op, i) not in masked.consts:
                        self._widen(out, *_shown(op, t))
                elif groups.find(t) is not groups.find(out):
                    self._widen(out, *self.held(t))
        self._keep_multipliers()
        self._keep_softmax()

    def _keep_multipliers(self) -> None:
        """Widens outputs so narrow, beside their weights, that kernels refuse the multiplier."""
        groups = self.layout.groups
        for op in self.graph.ops:
            s = spec(op.name)
            choice = self.layout.choices[op]
            if choice.mode != INTEGER or s is None or s.kind is not Kind.WEIGHTED:
                continue
            out, w = op.outputs[0], op.input(s.weights or 0)
            if groups.find(out) in groups.pinned or not w.is_const or not w.size:
                continue
            x = op.input((s.data or (0,))[0])
            if x.is_const:
                continue
            same = self._dtype(x) == choice.activations
            in_lo, in_hi = self.real(x) if same else self.held(x)
            levels = 2 ** (16 if choice.activations == "int16" else 8)
            product = (in_hi - in_lo) / levels * self.weight_scale(op, w)
            span = product / _MAX_MULTIPLIER[choice.activations] * levels
            lo, hi = self.hulls.get(groups.find(out), (0.0, 0.0))
            if 0.0 < hi - lo < span:
                self._widen(out, lo, lo + span)

    def _keep_softmax(self) -> None:
        """Widens arguments of a softmax that are so alike that its kernel aborts over their scale.

        All its results are then the same but for a few per cent, whatever the grid.
        """
        groups = self.layout.groups
        for op in self.graph.ops:
            if op.name not in ("SOFTMAX", "LOG_SOFTMAX"):
                continue
            x = op.input(0)
            if self.layout.choices[op].mode != INTEGER or groups.find(x) in groups.pinned:
                continue
            lo, hi = self.hulls.get(groups.find(x), (0.0, 0.0))
            if 0.0 < hi - lo < _SOFTMAX_SPAN:
                self._widen(x, lo, lo + _SOFTMAX_SPAN)

    def _check_fits(self, t: Tensor, grid: Grid) -> None:
        lo, hi = self.observed(t, grid.dtype)
        g_lo, g_hi = grid.range()
        if lo < g_lo or hi > g_hi:
            raise TfqError(
                f"Tensor {t.name!r} is cast from integers that reach {lo:g} to {hi:g}, more than "
                f"{grid.dtype} holds. Scale them down in the model, or keep the cast float with "
                f"--allow_float={t.name}."
            )

    def _mask_range(self, t: Tensor) -> tuple[float, float] | None:
        """The observed range of a tensor near a softmax, or None when it has none of its own."""
        if t.is_const:
            return (float(t.values().min()), float(t.values().max())) if t.size else None
        pinned = self.layout.groups.pinned.get(self.layout.groups.find(t))
        if pinned is not None:
            return self.held(t)
        sketch = None if self.statistics is None else self.statistics.get(t.name)
        if sketch is None:
            return None
        return self.observed(t, self._dtype(t))

    def real(self, t: Tensor) -> tuple[float, float]:
        """The real range that the grid of `t` spans or will span."""
        root = self.layout.groups.find(t)
        pinned = self.layout.groups.pinned.get(root)
        if pinned is not None:
            return pinned[0].range()
        if root in self.hulls:
            return self.hulls[root]
        return self.observed(t, "int8")

    def held(self, t: Tensor) -> tuple[float, float]:
        """The real range that a grid of its own would have to span for `t`.

        That of the grid of `t`, but for integers as they are: those are a few of all integers.
        """
        return self._held[t] if t in self._held else self.real(t)

    def _integers_held(self) -> dict[Tensor, tuple[float, float]]:
        """What the tensors on the grid of integers hold, followed from the CAST on."""
        held: dict[Tensor, tuple[float, float]] = {}
        for op in self.graph.ops:
            outs = [t for t in op.outputs if t in self.layout.integers]
            s = spec(op.name)
            if not outs or s is None:
                continue
            if op.name == "CAST":
                ends = [self._cast_range(outs[0])]
            else:
                data = [op.input(i) for i in data_inputs(op, s)]
                ends = [(_extremes(t) if t.is_const else held[t]) for t in data]
            lo, hi = min(e[0] for e in ends), max(e[1] for e in ends)
            held.update(dict.fromkeys(outs, (lo, hi)))
        return held

    def _cast_range(self, t: Tensor) -> tuple[float, float]:
        lo, hi = self.observed(t, "int8") if t in self.layout.sources else (0.0, 1.0)
        # A mask whose samples are all zero has a one some day.
        return (lo, hi) if lo < hi else (0.0, 1.0)

    def _dtype(self, t: Tensor) -> str:
        dtype = self.layout.dtypes.get(t, "int8")
        return "int8" if dtype == "float32" else dtype


def _extremes(const: Tensor) -> tuple[float, float]:
    """The range of a constant, zero among it."""
    values = const.values()
    return float(values.min(initial=0.0)), float(values.max(initial=0.0))


def _shown(op: Op, t: Tensor) -> tuple[float, float]:
    """What of a constant can come out of an op that shares one grid.

    A bound that values do not reach (a clip at 10 of values up to 1) shows in no output, and acts
    from the end of the grid just as well.
    """
    lo, hi = float(t.values().min()), float(t.values().max())
    if op.name == "MINIMUM":
        return lo, min(lo, 0.0)
    if op.name == "MAXIMUM":
        return max(hi, 0.0), hi
    return lo, hi
