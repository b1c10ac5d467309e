"""Layout and statistics in, plan out: every grid, and the reason for it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping

import numpy as np

from tfq.calibrate.statistics import Statistics
from tfq.calibrate.weights import weight_scales
from tfq.errors import TfqError
from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.numerics import FLOAT, Grid, activation_grid, symmetric_grid, weight_grid
from tfq.graph.optable import Kind, OpSpec, spec
from tfq.plan.layout import Choice, Layout, data_inputs, float_outputs
from tfq.plan.masks import find_masks
from tfq.plan.plan import INSIDE, INTEGER, KEEP_FLOAT, LOOKUP, PLAIN, OpPlan, Plan, TensorPlan
from tfq.plan.power import largest_square_root
from tfq.plan.scheme import Config

# A multiplier input * weight / output below this contributes nothing to the result, and below
# 2^-32 kernels refuse it; weights of all-zero channels would otherwise produce one.
_MIN_MULTIPLIER = 2.0**-20

# XNNPACK refuses multipliers of 256 and more, int16 kernels those above 1 that overflow.
_MAX_MULTIPLIER = {"int8": 128.0, "int16": 1.0}

# Biases stay this far inside int32 so that the accumulator on top of them does not overflow.
_MAX_BIAS = 2.0**30


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
    maker = _PlanMaker(graph, layout, statistics, config, trained)
    tensors = maker.tensors()
    ops = {op.outputs[0].name: maker.op(op) for op in graph.ops}
    return Plan(
        model_sha256,
        config.as_dict(),
        tensors,
        ops,
        {t.name: maker.boundary(t, config.input_type) for t in graph.inputs},
        {t.name: maker.boundary(t, config.output_type) for t in graph.outputs},
    )


@dataclasses.dataclass
class _PlanMaker:
    graph: Graph
    layout: Layout
    statistics: Statistics | None
    config: Config
    trained: Mapping[str, Grid]

    def __post_init__(self) -> None:
        self._ranges: dict[tuple[Tensor, str], tuple[float, float]] = {}
        self._grids: dict[Tensor, TensorPlan] = {}
        self._hulls = self._group_ranges()

    # --- ranges ---------------------------------------------------------------------------------

    def _range(self, t: Tensor, dtype: str) -> tuple[float, float]:
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
            self._ranges[key] = self.config.calibration(
                sketch, bits=bits, symmetric=dtype == "int16"
            )
        return self._ranges[key]

    def _group_ranges(self) -> dict[Tensor, tuple[float, float]]:
        """For each group without a fixed grid, the hull of its members' ranges."""
        groups = self.layout.groups
        hulls: dict[Tensor, tuple[float, float]] = {}
        masked = find_masks(self.graph, self.layout, self._mask_range)
        self._masked = masked

        def widen(t: Tensor, lo: float, hi: float) -> None:
            root = groups.find(t)
            old = hulls.get(root, (0.0, 0.0))
            hulls[root] = (min(old[0], lo), max(old[1], hi))

        for t in self.graph.tensors():
            if t in self.layout.sources:
                if groups.find(t) in groups.pinned:
                    self._check_fits(t, groups.pinned[groups.find(t)][0])
                    continue
                if t in masked.floors:
                    continue
                dtype = self.layout.dtypes.get(t, "int8")
                widen(t, *self._range(t, self._integer(dtype)))
        for t, floor in masked.floors.items():
            widen(t, *floor)
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
                        widen(out, float(t.values().min()), float(t.values().max()))
                elif groups.find(t) is not groups.find(out):
                    widen(out, *self._real_range(t, hulls))
        self._keep_multipliers(hulls, widen)
        return hulls

    def _keep_multipliers(
        self,
        hulls: Mapping[Tensor, tuple[float, float]],
        widen: Callable[[Tensor, float, float], None],
    ) -> None:
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
            in_lo, in_hi = self._real_range(x, hulls)
            levels = 2 ** (16 if choice.activations == "int16" else 8)
            product = (in_hi - in_lo) / levels * float(np.abs(w.values()).max()) / 127
            span = product / _MAX_MULTIPLIER[choice.activations] * levels
            lo, hi = hulls.get(groups.find(out), (0.0, 0.0))
            if 0.0 < hi - lo < span:
                widen(out, lo, lo + span)

    def _check_fits(self, t: Tensor, grid: Grid) -> None:
        lo, hi = self._range(t, grid.dtype)
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
        sketch = None if self.statistics is None else self.statistics.get(t.name)
        if sketch is None:
            return None
        return self._range(t, self._integer(self.layout.dtypes.get(t, "int8")))

    def _real_range(
        self, t: Tensor, hulls: Mapping[Tensor, tuple[float, float]]
    ) -> tuple[float, float]:
        root = self.layout.groups.find(t)
        pinned = self.layout.groups.pinned.get(root)
        if pinned is not None:
            return pinned[0].range()
        if root in hulls:
            return hulls[root]
        return self._range(t, "int8")

    @staticmethod
    def _integer(dtype: str) -> str:
        return "int8" if dtype == "float32" else dtype

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

    def _is_inside(self, t: Tensor) -> bool:
        op = self._producers.get(t)
        return op is not None and self.layout.choices[op].mode == INSIDE

    @property
    def _producers(self) -> dict[Tensor, Op]:
        if not hasattr(self, "_producer_cache"):
            self._producer_cache = self.graph.producers()
        return self._producer_cache

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
        lo, hi = self._hulls.get(root, (0.0, 0.0))
        if lo == hi:
            return TensorPlan(activation_grid(0.0, 1.0, dtype), "always zero on the samples")
        name = self.config.calibration.name
        shared = "" if root is t and t in self.layout.sources else ", shared"
        return TensorPlan(activation_grid(lo, hi, dtype), f"{name} [{lo:.6g}, {hi:.6g}]{shared}")

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
        if own.is_integer:
            return activation_grid(*own.range(), dtype)
        lo, hi = self._real_range(t, self._hulls)
        return activation_grid(lo, hi, dtype)

    def boundary(self, t: Tensor, wanted: str | None) -> Grid:
        """The grid of a graph input or output as the user sees it."""
        if t.dtype != "float32":
            return Grid(t.dtype)
        if t.is_const:
            return FLOAT
        own = self.tensor(t).grid
        scheme = self.config.scheme
        dtype = wanted or (scheme.activations if scheme.compute == "integer" else "float32")
        if dtype == "float32":
            return FLOAT
        base = own if own.dtype in ("int8", "int16") else self._as(t, scheme.activations)
        if dtype == base.dtype:
            return base
        if dtype == "uint8" and base.dtype == "int8":
            return Grid("uint8", base.scale, (base.zero_point[0] + 128,))
        return activation_grid(*base.range(), dtype)

    # --- operators ------------------------------------------------------------------------------

    def op(self, op: Op) -> OpPlan:
        choice = self.layout.choices[op]
        if choice.mode in (PLAIN, INSIDE):
            return OpPlan(op.label, choice.mode, reason=choice.reason)
        if choice.mode == KEEP_FLOAT:
            return OpPlan(op.label, KEEP_FLOAT, self._float_edges(op), reason=choice.reason)
        if choice.mode == LOOKUP:
            assert choice.chain is not None
            root = choice.chain.root
            edges: dict[int, Grid] = {}
            # A table takes the argument in the width it has.
            if not self.tensor(root).grid.is_integer:
                edges[0] = self._as(root, choice.activations)
            return OpPlan(op.label, LOOKUP, edges, root.name, choice.reason)
        s = spec(op.name)
        assert s is not None
        if choice.activations == "int32":
            squares = op.name == "MUL" and self.tensor(op.input(0)).grid != (
                argument := self._square_argument(op)
            )
            edges = {0: argument, 1: argument} if squares else {}
            return OpPlan(op.label, INTEGER, edges, reason=choice.reason, terms=choice.terms)
        if s.kind is Kind.WEIGHTED:
            edges = self._weighted_edges(op, s, choice)
        else:
            edges = self._data_edges(op, s, choice)
        return OpPlan(op.label, INTEGER, edges, reason=choice.reason)

    def _float_edges(self, op: Op) -> dict[int, Grid]:
        edges = {}
        for i, t in enumerate(op.inputs):
            if t is None or t.dtype != "float32" or t.is_const:
                continue
            if self.tensor(t).grid.is_integer:
                edges[i] = FLOAT
        return edges

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
                ends = float(t.values().min()), float(t.values().max())
            else:
                ends = self._as(t, dtype).range()
            lo, hi = min(lo, ends[0]), max(hi, ends[1])
        return activation_grid(lo, hi, dtype)

    def _const_grid(self, t: Tensor, dtype: str, use: tuple[Op, int] | None = None) -> Grid:
        if use is not None and use in self._masked.consts:
            return activation_grid(*self._masked.consts[use], dtype)
        if t.name in self.trained:
            grid = self.trained[t.name]
            if grid.dtype == dtype:
                return grid
        values = t.values()
        lo, hi = (float(values.min()), float(values.max())) if t.size else (0.0, 0.0)
        return activation_grid(lo, hi, dtype)

    def _weighted_edges(self, op: Op, s: OpSpec, choice: Choice) -> dict[int, Grid]:
        edges: dict[int, Grid] = {}
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
            grid = self._weights(op, s, w, bias, in_grid.scale[0], out_scale)
        else:
            # Computed weights: the kernel wants them symmetric.
            own = self.tensor(w).grid
            lo, hi = own.range() if own.is_integer else self._real_range(w, self._hulls)
            grid = symmetric_grid(max(-lo, hi), "int8")
        if w.is_const or grid != self.tensor(w).grid:
            edges[s.weights] = grid
        if s.bias is not None and s.bias < len(op.inputs) and op.inputs[s.bias] is not None:
            scales = np.float32(in_grid.scale[0]) * np.array(grid.scale, np.float32)
            dtype = "int64" if choice.activations == "int16" else "int32"
            edges[s.bias] = weight_grid(scales, dtype, 0)
        return edges

    def _weights(
        self, op: Op, s: OpSpec, w: Tensor, bias: Tensor | None, in_scale: float, out_scale: float
    ) -> Grid:
        if w.name in self.trained:
            return self.trained[w.name]
        dense = op.name == "FULLY_CONNECTED"
        granularity = self.config.dense_granularity if dense else self.config.granularity
        rule = self.config.rule_for(op.outputs[0].name)
        granularity = (rule.granularity if rule else None) or granularity
        axis = s.axis if granularity == "per_channel" else None
        scales = weight_scales(w.values(), axis=axis, bits=8, rule=self.config.weights)
        floor = np.full(scales.shape, _MIN_MULTIPLIER * out_scale / in_scale, np.float64)
        if bias is not None and bias.is_const:
            needed = np.abs(bias.values().astype(np.float64)) / (in_scale * _MAX_BIAS)
            if axis is None or scales.size == 1:
                needed = needed.max(initial=0.0)
            floor = np.maximum(floor, needed)
        return weight_grid(np.maximum(scales, floor).astype(np.float32), "int8", axis)


def plan_float(graph: Graph, config: Config, *, model_sha256: str) -> Plan:
    """The plan of the schemes that compute in float: only weights change.

    dynamic keeps int8 weights at the kernels that quantize their input at run time; weight_only
    and float16 put a DEQUANTIZE before every use.
    """
    scheme = config.scheme
    ops: dict[str, OpPlan] = {}
    for op in graph.ops:
        name = op.outputs[0].name
        rule = config.rule_for(name)
        edges: dict[int, Grid] = {}
        reason = f"scheme {scheme.name}"
        if rule is not None and rule.activations == "float32":
            reason = f"excluded by {rule.regex!r}"
        elif scheme.weights == "float16":
            for i, t in enumerate(op.inputs):
                if t is not None and t.is_const and t.dtype == "float32" and t.size >= _MIN_STORED:
                    edges[i] = Grid("float16")
        elif scheme.weights == "int8":
            edges = _stored_weight_edges(op, config)
        ops[name] = OpPlan(op.label, KEEP_FLOAT, edges, reason=reason)
    return Plan(
        model_sha256,
        config.as_dict(),
        {
            t.name: TensorPlan(FLOAT, f"scheme {scheme.name}")
            for t in graph.tensors()
            if t.dtype == "float32" and not t.is_const
        },
        ops,
        {t.name: Grid(t.dtype) for t in graph.inputs},
        {t.name: Grid(t.dtype) for t in graph.outputs},
    )


# Smaller constants gain nothing and cost an op each.
_MIN_STORED = 64

# Kernels with float activations and int8 weights ("hybrid"), whose result is right.
HYBRID_OPS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "EMBEDDING_LOOKUP"})


def _stored_weight_edges(op: Op, config: Config) -> dict[int, Grid]:
    s = spec(op.name)
    if s is None or op.name in ("QUANTIZE", "DEQUANTIZE"):
        return {}
    dynamic = config.scheme.compute == "dynamic"
    if s.kind is Kind.WEIGHTED and s.weights is not None:
        i, axis = s.weights, s.axis
    elif op.name in ("EMBEDDING_LOOKUP", "GATHER", "BATCH_MATMUL") and not dynamic:
        i, axis = (1 if op.name != "GATHER" else 0), None
    else:
        return {}
    if dynamic and op.name not in HYBRID_OPS:
        return {}
    w = op.inputs[i] if i < len(op.inputs) else None
    if w is None or not w.is_const or w.dtype != "float32" or w.size < _MIN_STORED:
        return {}
    dense = op.name == "FULLY_CONNECTED"
    granularity = config.dense_granularity if dense else config.granularity
    axis = axis if granularity == "per_channel" else None
    scales = weight_scales(w.values(), axis=axis, bits=8, rule=config.weights)
    return {i: weight_grid(scales, "int8", axis)}


def exclude_rules(patterns: tuple[str, ...]) -> tuple:
    """`--exclude` regexes as layer rules that keep their layers float."""
    from tfq.plan.scheme import LayerRule

    return tuple(LayerRule(regex=p, activations="float32") for p in patterns)


def count_modes(plan: Plan) -> dict[str, int]:
    """How many ops each mode has."""
    counts: dict[str, int] = {}
    for op in plan.ops.values():
        counts[op.mode] = counts.get(op.mode, 0) + 1
    return counts


def matches_any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(re.search(p, name) for p in patterns)
