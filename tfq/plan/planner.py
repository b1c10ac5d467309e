"""Layout and statistics in, plan out: every grid, and the reason for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from tfq.calibrate.statistics import Statistics
from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.numerics import FLOAT, Grid, activation_grid, symmetric_grid, weight_grid
from tfq.graph.optable import Kind, OpSpec, spec
from tfq.plan.details import is_idle_bias, with_details
from tfq.plan.entries import (
    HALF,
    INSIDE,
    INTEGER,
    KEEP_FLOAT,
    LOOKUP,
    PLAIN,
    POWER,
    WHOLE,
    OpPlan,
    TensorPlan,
)
from tfq.plan.layout import (
    Choice,
    Layout,
    data_inputs,
    float_outputs,
    joined_tensors,
    set_apart,
)
from tfq.plan.lookup import is_mask, never_negative
from tfq.plan.plan import Plan
from tfq.plan.power_spectra import largest_square_root
from tfq.plan.ranges import Ranges, finite_extremes
from tfq.plan.scheme import Config
from tfq.plan.weight_grids import (
    WEIGHT_WIDTHS,
    KernelContext,
    check_weight_scales,
    largest_scale,
    plan_weights,
)

# An output whose values span less of a shared grid than one in so many gets its own.
NARROW = 8.0


def make_plan(
    graph: Graph,
    layout: Layout,
    statistics: Statistics | None,
    config: Config,
    trained: Mapping[str, Grid],
    *,
    model_sha256: str,
) -> Plan:
    """Chooses the grid of every tensor.

    Args:
      graph: the prepared main graph.
      layout: from `make_layout` with the same graph and config.
      statistics: of `layout.observed`; None only for schemes that need no data.
      config: the user's choices.
      trained: grids from training, by tensor name; those of constants are used as they are.
      model_sha256: identifies the prepared model in the plan.

    Raises:
      TfqError: a tensor lacks statistics.
    """
    check_weight_scales(graph, config)
    maker = _PlanMaker(graph, layout, statistics, config, trained)
    if joined := [t for t in joined_tensors(graph, layout) if t in graph.outputs]:
        free = set_apart(layout, graph, config, trained, joined)
        own = _PlanMaker(graph, free, statistics, config, trained)
        narrow = [t for t in joined if NARROW * own.span(t) < maker.span(t) and not own.is_zero(t)]
        if narrow:
            free = set_apart(layout, graph, config, trained, narrow)
            maker = _PlanMaker(graph, free, statistics, config, trained)
    tensors = maker.tensors()
    ops = {op.key: maker.op(op) for op in graph.ops}
    return Plan(
        model_sha256,
        config.as_dict(),
        tensors,
        ops,
        {t.name: maker.boundary(t, config.input_type_of(t.name)) for t in graph.inputs},
        {t.name: maker.boundary(t, config.output_type_of(t.name)) for t in graph.outputs},
        detours=maker.detours(),
    )


@dataclasses.dataclass
class _PlanMaker:
    graph: Graph
    layout: Layout
    statistics: Statistics | None
    config: Config
    trained: Mapping[str, Grid]

    def __post_init__(self) -> None:
        self._grids: dict[Tensor, TensorPlan] = {}
        self._producers = self.graph.producers()
        self._ranges = Ranges(
            self.graph,
            self.layout,
            self.statistics,
            self.config.range_rule,
            lambda op, w: largest_scale(op, w, self.config, self.trained),
            self.trained,
        )

    # --- grids ----------------------------------------------------------------------------------

    def tensors(self) -> dict[str, TensorPlan]:
        """Plans of all computed float tensors."""
        plans = {}
        for t in self.graph.tensors():
            if t.dtype == "float32" and t in self.layout.dtypes:
                if self._is_inside(t):
                    continue
                plans[t.name] = self.tensor(t)
        return plans

    def is_zero(self, t: Tensor) -> bool:
        """Whether all that shares the grid of `t` was zero on every sample."""
        return self._ranges.is_zero(t)

    def span(self, t: Tensor) -> float:
        """How much the grid of `t` spans, in real units."""
        low, high = self.tensor(t).grid.range()
        return high - low

    def _is_inside(self, t: Tensor) -> bool:
        op = self._producers.get(t)
        return op is not None and self.layout.choices[op].mode == INSIDE

    def tensor(self, t: Tensor) -> TensorPlan:
        """The grid on which `t` is produced."""
        if t not in self._grids:
            dtype = self.layout.dtypes[t]
            if dtype == "float32":
                op = self._producers.get(t)
                reason = self.layout.choices[op].reason if op is not None else "scheme"
                self._grids[t] = TensorPlan(FLOAT, reason or f"scheme {self.config.scheme.name}")
            else:
                self._grids[t] = self._integer_grid(t, dtype)
        return self._grids[t]

    def _integer_grid(self, t: Tensor, dtype: str) -> TensorPlan:
        if dtype == "int32":
            return self._power_grid(t)
        root = self.layout.groups.find(t)
        pinned = self.layout.groups.pinned.get(root)
        if pinned is not None and pinned[0].dtype == dtype:
            return TensorPlan(*pinned)
        if pinned is not None:
            return TensorPlan(activation_grid(*pinned[0].range(), dtype), pinned[1])
        lo, hi = self._ranges.spanned(t, dtype)
        grid = activation_grid(lo, hi, dtype)
        why = f"; {self._ranges.widened[root]}" if root in self._ranges.widened else ""
        if self._ranges.is_zero(t):
            return TensorPlan(grid, f"always zero on the samples{why}")
        name = self.config.range_rule(t.name).name
        shared = "" if root is t and t in self.layout.sources else ", shared"
        return TensorPlan(grid, f"{name} [{lo:.6g}, {hi:.6g}]{shared}{why}")

    def _power_grid(self, t: Tensor) -> TensorPlan:
        """The grid of a sum of squares: the square of its argument's."""
        op = self._producers[t]
        if op.name != "MUL":
            return self.tensor(op.input(0))
        scale = self._square_argument(op).scale[0]
        grid = Grid("int32", (float(np.float32(scale * scale)),), (0,))
        return TensorPlan(grid, self.layout.choices[op].reason)

    def _square_argument(self, op: Op) -> Grid:
        """The int16 grid on which x * x reads x, coarse enough for the sum to fit 32 bits."""
        own = self._as(op.input(0), "int16")
        largest = largest_square_root(self.layout.choices[op].terms)
        if largest == 32767:
            return own
        return symmetric_grid(own.range()[1] * 32767 / largest, "int16")

    def _as(self, t: Tensor, dtype: str) -> Grid:
        """The grid on which an op that computes in `dtype` reads the computed tensor `t`."""
        own = self.tensor(t).grid
        if own.dtype == dtype:
            return own
        if dtype == "float32":
            return FLOAT
        if t in self.layout.integers and t.name in self.trained:
            trained = self.trained[t.name]
            if trained.dtype == dtype:
                return trained
        narrower = own.dtype == "int16" and dtype == "int8"
        ends = self._ranges.alone(t) if narrower else self._ranges.held(t)
        return activation_grid(*ends, dtype)

    def boundary(self, t: Tensor, wanted: str | None) -> Grid:
        """The grid of a graph input or output as the user sees it."""
        if t.dtype != "float32":
            return Grid(t.dtype)
        scheme = self.config.scheme
        dtype = wanted or (scheme.activations if scheme.compute == "integer" else "float32")
        if dtype == "float32":
            return FLOAT
        if t.is_const:
            return self._const_grid(t, dtype)
        own = self.tensor(t).grid
        base = own if own.dtype in ("int8", "int16") else self._as(t, scheme.activations)
        if dtype == base.dtype:
            return base
        if dtype == "uint8" and base.dtype == "int8":
            return Grid("uint8", base.scale, (base.zero_point[0] + 128,))
        return activation_grid(*self._ranges.held(t), dtype)

    def detours(self) -> dict[str, Grid]:
        """Grids between an output's own and the boundary's: no kernel goes from int16 to uint8."""
        found = {}
        for t in self.graph.outputs:
            if t.dtype != "float32" or t.is_const or self.tensor(t).grid.dtype != "int16":
                continue
            given = self.boundary(t, self.config.output_type_of(t.name))
            if given.dtype == "uint8":
                # The same 256 values.
                found[t.name] = Grid("int8", given.scale, (given.zero_point[0] - 128,))
        return found

    # --- operators ------------------------------------------------------------------------------

    def op(self, op: Op) -> OpPlan:
        choice = self.layout.choices[op]
        if choice.mode in (PLAIN, INSIDE):
            return OpPlan(op.label, choice.mode, reason=choice.reason)
        if choice.mode == KEEP_FLOAT:
            edges = self._float_edges(op)
            bias = not is_idle_bias(op, edges)
            return OpPlan(op.label, KEEP_FLOAT, edges, reason=choice.reason, bias=bias)
        if choice.mode == LOOKUP:
            assert choice.chain is not None
            root = choice.chain.root
            edges = {}
            # A table takes the argument in the width it has.
            if not self.tensor(root).grid.is_integer:
                edges[0] = self._as(root, choice.activations)
            return OpPlan(
                op.label,
                LOOKUP,
                edges,
                root.name,
                choice.reason,
                table=self._table(root, edges.get(0) or self.tensor(root).grid),
                snap=any(is_mask(o) for o in choice.chain.ops),
            )
        s = spec(op.name)
        assert s is not None
        if choice.activations == "int32":
            squares = op.name == "MUL" and self.tensor(op.input(0)).grid != (
                argument := self._square_argument(op)
            )
            edges = {0: argument, 1: argument} if squares else {}
            plan = OpPlan(op.label, INTEGER, edges, reason=choice.reason)
            if op.name == "MUL":
                most = largest_square_root(choice.terms)
                clamp = None if choice.terms == 1 else (-most, most)
                plan = dataclasses.replace(plan, cast="int32", clamp=clamp)
            return with_details(op, plan, self._grid)
        if s.kind is Kind.WEIGHTED:
            edges, reason = self._weighted_edges(op, s, choice)
        else:
            edges, reason = self._data_edges(op, s, choice), self._as_wide_as_others(op)
        reasons = filter(None, (choice.reason, reason))
        plan = OpPlan(op.label, INTEGER, edges, reason="; ".join(reasons))
        return with_details(op, plan, self._grid)

    def _grid(self, t: Tensor) -> Grid:
        return self.tensor(t).grid

    def _table(self, root: Tensor, grid: Grid) -> str:
        """Which integers of its argument a table needs rows for."""
        if grid.dtype == "int32":
            return POWER
        half = grid.dtype == "int16" and grid.zero_point == (0,)
        return HALF if half and never_negative(root, self._producers) else WHOLE

    def _float_edges(self, op: Op) -> dict[int, Grid]:
        edges = {}
        for i, t in enumerate(op.inputs):
            # What a float op keeps from run to run is its own, and float.
            if t is None or t.dtype != "float32" or t.is_const or t.is_variable:
                continue
            if self.tensor(t).grid.is_integer:
                edges[i] = FLOAT
        return edges

    def _as_wide_as_others(self, op: Op) -> str:
        """Why the constant of an op keeps the width of its activations though less was asked."""
        bits = self.config.weight_bits_of(op.key)
        s = spec(op.name)
        i = None if s is None else s.learned
        if bits == 8 or i is None or i >= len(op.inputs) or not op.input(i).is_const:
            return ""
        if op.input(i).name in self.trained:
            return ""
        return f"its constant is not of {bits} bits: {op.name} reads it as it does activations"

    def _data_edges(self, op: Op, s: OpSpec, choice: Choice) -> dict[int, Grid]:
        edges = {}
        outs = float_outputs(op)
        shared = self.tensor(outs[0]).grid if s.kind is Kind.SAME and outs else None
        if choice.activations in s.same_inputs:
            shared = self._hull_grid(op, data_inputs(op, s), choice.activations)
        for i in data_inputs(op, s):
            t = op.input(i)
            if t.is_const:
                edges[i] = shared or self._const_grid(t, choice.activations, (op, i))
                continue
            needed = shared or self._as(t, choice.activations)
            if needed != self.tensor(t).grid:
                edges[i] = needed
        return edges

    def _hull_grid(self, op: Op, inputs: list[int], dtype: str) -> Grid:
        """One grid for all data inputs of an op that compares their integers as they are."""
        lo = hi = 0.0
        for i in inputs:
            t = op.input(i)
            if t.is_const:
                ends = finite_extremes(t)
            else:
                ends = self._as(t, dtype).range()
            lo, hi = min(lo, ends[0]), max(hi, ends[1])
        return activation_grid(lo, hi, dtype)

    def _const_grid(self, t: Tensor, dtype: str, use: tuple[Op, int] | None = None) -> Grid:
        if use is not None and use in self._ranges.masks.consts:
            return activation_grid(*self._ranges.masks.consts[use], dtype)
        if t.name in self.trained:
            grid = self.trained[t.name]
            if grid.dtype == dtype:
                return grid
            if grid.dtype in ("int2", "int4") and dtype in ("int8", "int16"):
                # The same integers in the type that the kernel reads.
                bits = WEIGHT_WIDTHS[grid.dtype]
                return dataclasses.replace(grid, dtype=dtype, bits=bits)
        return activation_grid(*finite_extremes(t), dtype)

    def _weighted_edges(self, op: Op, s: OpSpec, choice: Choice) -> tuple[dict[int, Grid], str]:
        edges: dict[int, Grid] = {}
        reason = ""
        assert s.weights is not None
        for i in data_inputs(op, s):
            if i in (s.weights, s.bias):
                continue
            t = op.input(i)
            if t.is_const:
                edges[i] = self._const_grid(t, choice.activations)
            elif (needed := self._as(t, choice.activations)) != self.tensor(t).grid:
                edges[i] = needed
        data = next(i for i in s.data or (0,) if i not in (s.weights, s.bias))
        x = op.input(data)
        in_grid = edges.get(data) or self.tensor(x).grid
        w = op.input(s.weights)
        if w.is_const:
            bias = op.inputs[s.bias] if s.bias is not None and s.bias < len(op.inputs) else None
            out_scale = self.tensor(op.outputs[0]).grid.scale[0]
            context = KernelContext(choice.activations, in_grid.scale[0], out_scale, bias)
            grid, reason = plan_weights(op, s, w, context, self.config, self.trained)
        else:
            # Computed weights: the kernel wants them symmetric.
            own = self.tensor(w).grid
            lo, hi = own.range() if own.dtype == "int8" else self._ranges.alone(w)
            grid = symmetric_grid(max(-lo, hi), "int8")
        if w.is_const or grid != self.tensor(w).grid:
            edges[s.weights] = grid
        if s.bias is not None and s.bias < len(op.inputs) and op.inputs[s.bias] is not None:
            scales = np.float32(in_grid.scale[0]) * np.array(grid.scale, np.float32)
            dtype = "int64" if choice.activations == "int16" else "int32"
            edges[s.bias] = weight_grid(scales, dtype, 0)
        return edges, reason
