"""The real range of every tensor: from sketches, over all tensors that share a grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tfq.calibrate.rules import RangeRule
from tfq.calibrate.statistics import Statistics
from tfq.errors import TfqError
from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.numerics import INFINITE, LIMITS, Grid, activation_grid, symmetric_grid
from tfq.graph.optable import Kind, OpSpec, spec
from tfq.observe.sketch import Sketch
from tfq.plan.entries import INTEGER
from tfq.plan.layout import Layout, data_inputs, float_outputs, unmoved
from tfq.plan.masks import find_masks
from tfq.plan.multipliers import smallest_output_scale
from tfq.plan.weight_grids import KernelContext

# How many steps of an unrolled loop to either side count as near.
_NEAR = 3

# 16 bits have room to spare: a third of one keeps samples that reach further from being cut off.
_HEADROOM = 1.25

_ROUNDS = 20


class Ranges:
    """Ranges by tensor.

    Args:
      graph: the prepared main graph.
      layout: which tensors share a grid.
      statistics: of `layout.observed`.
      rule: of a tensor, by name: what reads its range from its sketch.
      weight_scale: an upper bound of the scales of an op's constant weights.
      trained: grids that training chose, by tensor name.

    Attributes:
      hulls: for the representative of each group without a fixed grid, the hull of the ranges of
        its members and of all that ops of the group read.
      masks: attention masks, whose constants are no part of any range.
      widened: for such a representative, why its range is wider than its values.

    Raises:
      TfqError: a tensor lacks statistics, or holds integers that its cast cannot.
    """

    def __init__(
        self,
        graph: Graph,
        layout: Layout,
        statistics: Statistics | None,
        rule: Callable[[str], RangeRule],
        weight_scale: Callable[[Op, Tensor], float],
        trained: Mapping[str, Grid],
    ):
        self.graph, self.layout, self.statistics, self.rule = graph, layout, statistics, rule
        self.weight_scale, self.trained = weight_scale, trained
        self._ranges: dict[tuple[Tensor, str], tuple[float, float]] = {}
        self._readers = graph.consumers()
        self._producers = graph.producers()
        self._sources = {t.name for t in layout.sources}
        # Of unrolled loops, tensor of the body -> step -> its name.
        self._steps: dict[str, dict[int, str]] = {}
        for t in graph.tensors():
            if t.step is not None and not t.is_const:
                self._steps.setdefault(t.step.tensor, {}).setdefault(t.step.number, t.name)
        self.hulls: dict[Tensor, tuple[float, float]] = {}
        self.widened: dict[Tensor, str] = {}
        self._held = self._integers_held()
        self.masks = find_masks(graph, layout, self._mask_range, self._mask_opened)
        self._make_hulls()

    def observed(self, t: Tensor, dtype: str) -> tuple[float, float]:
        """The calibrated real range of one tensor."""
        key = (t, dtype)
        if key not in self._ranges:
            sketch = self._sketch(t)
            if sketch is None:
                raise TfqError(
                    f"Tensor {t.name!r} has no statistics. Calibrate again with the same model, "
                    f"flags and tfq version."
                )
            bits = 16 if dtype == "int16" else 8
            # Not symmetric even for int16: what reads the tensor in int8 wants both ends.
            finite = [near.within(INFINITE) for near in [sketch, *self._neighbours(t)]]
            rule = self.rule(t.name)
            ends = [rule(f, bits=bits, symmetric=False) for f in finite if f.count]
            lo = min((e[0] for e in ends), default=0.0)
            hi = max((e[1] for e in ends), default=0.0)
            if self._only_squashed(t):
                # Where a sigmoid or softmax is flat, what is cut off is not missed; steps are.
                lo = max(lo, min([0.0, *(f.min for f in finite)]))
                hi = min(hi, max([0.0, *(f.max for f in finite)]))
            self._ranges[key] = (lo, hi)
        return self._ranges[key]

    def _sketch(self, t: Tensor) -> Sketch | None:
        if self.statistics is None:
            return None
        found = self.statistics.get(t.name)
        return found or self.statistics.get(unmoved(t, self._producers).name)

    def _only_squashed(self, t: Tensor) -> bool:
        rows = [spec(op.name) for op, _ in self._readers.get(t, [])]
        return bool(rows) and all(r is not None and r.squashes for r in rows)

    def _neighbours(self, t: Tensor) -> list[Sketch]:
        """Sketches of the same tensor in nearby steps of an unrolled loop.

        A step's tensors are small, so that few samples do not reach their extremes; neighbouring
        steps of a sequence have much the same distribution.
        """
        if t.step is None or self.statistics is None:
            return []
        same, at = self._steps.get(t.step.tensor, {}), t.step.number
        names = (same[n] for n in range(at - _NEAR, at + _NEAR + 1) if n != at and n in same)
        return [s for n in names if n in self._sources and (s := self.statistics.get(n))]

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
                    if (op, i) not in masked.consts:
                        self._widen(out, *_shown(op, t))
                elif groups.find(t) is not groups.find(out):
                    self._widen(out, *self.held(t))
        self._zeros = {
            root
            for root in map(groups.find, self.layout.dtypes)
            if self.hulls.get(root, (0.0, 0.0)) == (0.0, 0.0)
        }
        self._keep_arguments()
        # Widening one output makes coarser what others read: until none has to grow.
        for _ in range(_ROUNDS):
            if not self._keep_multipliers():
                break

    def _keep_multipliers(self) -> bool:
        """Widens outputs that are narrower beside what is read than a kernel's arithmetic allows.

        Returns:
          whether any was.
        """
        groups, grew = self.layout.groups, False
        for op in self.graph.ops:
            row, choice = spec(op.name), self.layout.choices[op]
            if choice.mode != INTEGER or row is None or row.kind is Kind.SAME:
                continue
            outs = float_outputs(op)
            dtype = choice.activations
            if dtype not in row.max_multiplier or not outs or groups.find(outs[0]) in groups.pinned:
                continue
            needed = smallest_output_scale(op.name, row, dtype, self._read_scales(op, row, dtype))
            if activation_grid(*self.spanned(outs[0], dtype), dtype).scale[0] >= needed:
                continue
            # A little more, since scales are rounded to float32.
            self._coarsen(outs[0], dtype, 1.01 * needed, f"the kernel of {op.label}")
            grew = True
        return grew

    def is_zero(self, t: Tensor) -> bool:
        """Whether all that shares the grid of `t` was zero on every sample."""
        return self.layout.groups.find(t) in self._zeros

    def _coarsen(self, t: Tensor, dtype: str, scale: float, why: str) -> None:
        """Widens the group of `t` to a scale."""
        lo, hi = self.hulls.get(self.layout.groups.find(t), (0.0, 0.0))
        if dtype == "int16":
            self._widen(t, lo, max(hi, scale * LIMITS[dtype][1] / _HEADROOM))
        else:
            self._widen(t, lo, max(hi, lo + scale * 255))
        self.widened[self.layout.groups.find(t)] = f"widened for {why}"

    def _read_scales(self, op: Op, row: OpSpec, dtype: str) -> list[float]:
        """The scales on which an op reads its data and its weights."""
        scales = []
        for i in data_inputs(op, row):
            t = op.input(i)
            if i in (row.weights, row.bias):
                continue
            if not t.is_const:
                own = self._dtype(t) == dtype
                ends = self.spanned(t, dtype) if own else self.alone(t)
            else:
                ends = self.masks.consts.get((op, i)) or _extremes(t)
            scales.append(activation_grid(*ends, dtype).scale[0])
        if row.weights is not None:
            w = op.input(row.weights)
            if w.is_const:
                bias = op.inputs[row.bias] if row.bias is not None else None
                context = KernelContext(dtype, scales[0], 1.0, bias)
                scales.append(max(self.weight_scale(op, w), context.largest_needed))
            else:
                lo, hi = self.alone(w)
                scales.append(symmetric_grid(max(-lo, hi), "int8").scale[0])
        return scales

    def spanned(self, t: Tensor, dtype: str) -> tuple[float, float]:
        """The real range that the grid of `t` is made for, when it is of `dtype`.

        One that is always zero on the samples gets a range nonetheless.
        """
        lo, hi = self.real(t)
        if self.layout.groups.find(t) in self.layout.groups.pinned:
            return lo, hi
        if lo == hi:
            return 0.0, 1.0
        return (lo * _HEADROOM, hi * _HEADROOM) if dtype == "int16" else (lo, hi)

    def _keep_arguments(self) -> None:
        """Widens arguments so alike that kernels abort over their scale, or lose them.

        The results are then the same but for a few per cent, whatever the grid.
        """
        groups = self.layout.groups
        for op in self.graph.ops:
            row, choice = spec(op.name), self.layout.choices[op]
            least = None if row is None else row.min_input_scale.get(choice.activations)
            x = op.inputs[0] if op.inputs else None
            if least is None or x is None or choice.mode != INTEGER:
                continue
            if x.is_const or groups.find(x) in groups.pinned:
                continue
            if (
                activation_grid(*self.spanned(x, choice.activations), choice.activations).scale[0]
                < least
            ):
                self._coarsen(x, choice.activations, least, f"the kernel of {op.label}")

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
        sketch = self._sketch(t) if t in self.layout.sources else None
        if sketch is None:
            return None
        lo, hi = self.observed(t, self._dtype(t))
        # What is infinite is no part of an observed range, but a mask.
        return (
            sketch.min if sketch.min < -INFINITE else lo,
            sketch.max if sketch.max > INFINITE else hi,
        )

    def _mask_opened(self, t: Tensor, bound: float, sign: int) -> tuple[float, float] | None:
        """The range of what of sign * t does not mask: is above a bound."""
        if t.is_const:
            values = sign * t.values()[sign * t.values() > bound]
            return float(values.min(initial=0.0)), float(values.max(initial=0.0))
        full = self._mask_range(t)
        if full is None:
            return None
        lo, hi = full if sign > 0 else (-full[1], -full[0])
        if lo > bound:
            return min(lo, 0.0), max(hi, 0.0)
        sketch = self._sketch(t)
        lo = 0.0
        if sketch is not None and sketch.mode == "full":
            bins = sketch.bins()
            near = sign * bins.centers[sign * bins.centers > bound]
            lo, hi = float(near.min(initial=0.0)), min(hi, float(near.max(initial=0.0)))
        return min(lo, 0.0), max(hi, 0.0)

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

    def alone(self, t: Tensor) -> tuple[float, float]:
        """As `held`, without what of a 16-bit grid only others that share it need.

        16 bits have room for tensors of different sizes; what then reads one of them in 8 bits has
        a grid for that one.
        """
        lo, hi = self.held(t)
        root = self.layout.groups.find(t)
        if t in self._held or root in self.layout.groups.pinned or root in self.widened:
            return lo, hi
        if self._dtype(t) != "int16" or self._sketch(t) is None:
            return lo, hi
        own = self.observed(t, "int8")
        return (max(lo, own[0]), min(hi, own[1])) if own[0] < own[1] else (lo, hi)

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
        if t.name in self.trained:
            return self.trained[t.name].range()
        lo, hi = self.observed(t, "int8") if t in self.layout.sources else (0.0, 1.0)
        # A mask whose samples are all zero has a one some day.
        return (lo, hi) if lo < hi else (0.0, 1.0)

    def _dtype(self, t: Tensor) -> str:
        dtype = self.layout.dtypes.get(t, "int8")
        return "int8" if dtype == "float32" else dtype


def _extremes(const: Tensor) -> tuple[float, float]:
    """The range of a constant, zero among it."""
    lo, hi = finite_extremes(const)
    return min(lo, 0.0), max(hi, 0.0)


def finite_extremes(const: Tensor) -> tuple[float, float]:
    """The range of a constant without what stands for infinity."""
    values = const.values()
    values = values[np.abs(values) <= INFINITE]
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _shown(op: Op, t: Tensor) -> tuple[float, float]:
    """What of a constant can come out of an op that shares one grid.

    A bound that values do not reach (a clip at 10 of values up to 1) shows in no output, and acts
    from the end of the grid just as well.
    """
    lo, hi = finite_extremes(t)
    if op.name == "MINIMUM":
        return lo, min(lo, 0.0)
    if op.name == "MAXIMUM":
        return max(hi, 0.0), hi
    return lo, hi
