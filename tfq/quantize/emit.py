"""The float model and a plan in, the quantized model out. Nothing is decided here.

Where a plan that a person changed contradicts itself or the model, that is an error.

Ops are emitted in the order of the float graph. A tensor is produced on the grid that the plan
gives it; an op whose plan names another grid for an input reads it through a QUANTIZE or
DEQUANTIZE, made once per tensor and grid. Names are kept: the emitted tensor has the name of the
float tensor it stands for.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping

import numpy as np

from tfq.equalize import write_changes
from tfq.errors import TfqError, UsageError
from tfq.graph.model import (
    DTYPE_CODES,
    Graph,
    Model,
    Op,
    Signature,
    Tensor,
    options_type,
)
from tfq.graph.numerics import LIMITS, Grid, quantize
from tfq.graph.optable import (
    Kind,
    activation_dtype,
    min_runtime_version,
    op_version,
    spec,
)
from tfq.graph.quantizable import obstacle
from tfq.plan.config_record import write_config
from tfq.plan.entries import INSIDE, INTEGER, KEEP_FLOAT, LOOKUP, PLAIN, OpPlan
from tfq.plan.evidence import write_evidence
from tfq.plan.far_bounds import Unbounded, far_bound, without_far_bound
from tfq.plan.plan import Plan
from tfq.quantize.constants import Constants
from tfq.quantize.table import lookup_ops, misfit


@dataclasses.dataclass(frozen=True)
class Emitted:
    """A quantized model, and where each float tensor went.

    Attributes:
      model: ready for `to_bytes`.
      tensors: name of a float tensor -> the emitted tensor on its own grid.
      biases: name of the output of a weighted op -> its emitted bias constant, which no other op
        reads.
    """

    model: Model
    tensors: Mapping[str, Tensor]
    biases: Mapping[str, Tensor]


def emit(model: Model, plan: Plan, *, spare_biases: bool = False) -> Emitted:
    """Emits `model` as `plan` says.

    Args:
      model: the prepared float model that the plan was made for; it is not changed.
      plan: complete for the main graph.
      spare_biases: gives ops a bias of zeros too where the plan says that they have none, so that
        there is one to correct. It changes no value that the model computes. A bias that the plan
        gives is emitted either way: correct this model's biases, put what changed into
        `plan.biases`, and emit that.

    Raises:
      TfqError: the plan does not fit the model (UsageError: a bias or weights of it do not).
    """
    return _Emitter(model, plan, spare_biases).run()


class _Emitter:
    def __init__(self, model: Model, plan: Plan, spare_biases: bool):
        self.source = model
        self.plan = plan
        self.spare_biases = spare_biases
        self.ops: list[Op] = []
        self.tensors: dict[Tensor, Tensor] = {}
        self.grids: dict[Tensor, Grid] = {}
        self.on_grid: dict[tuple[Tensor, Grid], Tensor] = {}
        self.widened: dict[Tensor, Tensor] = {}
        self.biases: dict[str, Tensor] = {}
        self.taken = {t.name for t in model.main.tensors()}
        self.constants = Constants(plan, self._unique)

    def run(self) -> Emitted:
        graph = self.source.main
        inputs = [self._input(t) for t in graph.inputs]
        chains = _chains(graph, self.plan)
        for op in graph.ops:
            plan = self._plan_of(op)
            if plan.mode == INSIDE:
                continue
            if plan.mode == LOOKUP:
                self._lookup(op, plan, chains[op])
            elif plan.mode == INTEGER:
                self._integer(op, plan)
            elif plan.mode == KEEP_FLOAT:
                self._float(op, plan)
            elif plan.mode == PLAIN:
                self._plain(op)
            else:
                raise TfqError(f"The plan gives {op.key!r} the mode {plan.mode!r}.")
        self.constants.check_all_taken()
        outputs = [self._output(t) for t in graph.outputs]
        emitted = Graph(graph.name, self.ops, inputs, outputs)
        ins = dict(zip(graph.inputs, inputs, strict=True))
        outs = dict(zip(graph.outputs, outputs, strict=True))
        result = Model(
            [emitted, *self.source.graphs[1:]],
            [
                Signature(
                    s.key,
                    {n: ins.get(t, t) for n, t in s.inputs.items()},
                    {n: outs.get(t, t) for n, t in s.outputs.items()},
                    s.graph,
                )
                if s.graph == 0
                else s
                for s in self.source.signatures
            ],
            dict(self.source.metadata),
            "Quantized by tfq",
            dict(self.source.files),
        )
        for g in result.graphs:
            for op in g.ops:
                op.version = op_version(op)
        write_config(result, self.plan.config)
        write_changes(result, self.plan)
        write_evidence(result, self.plan.improvements)
        version = min_runtime_version(result)
        result.metadata["min_runtime_version"] = version.encode().ljust(16, b"\0")
        named = {t.name: e for t, e in self.tensors.items() if not t.is_const}
        return Emitted(result, named, self.biases)

    def _plan_of(self, op: Op) -> OpPlan:
        name = op.key
        if name not in self.plan.ops:
            raise TfqError(f"The plan says nothing of {op.label} at {name!r}.")
        return self.plan.ops[name]

    # --- tensors --------------------------------------------------------------------------------

    def _unique(self, name: str) -> str:
        candidate, n = name, 1
        while candidate in self.taken:
            n += 1
            candidate = f"{name}_{n}"
        self.taken.add(candidate)
        return candidate

    def _tensor(self, like: Tensor, grid: Grid, name: str) -> Tensor:
        return Tensor(
            name,
            like.shape,
            grid.dtype,
            # Sums of squares are plain integers to their kernels.
            quant=None if grid.dtype == "int32" else grid.quant(),
            is_variable=like.is_variable,
            signature=like.signature,
            has_rank=like.has_rank,
        )

    def _grid_of(self, t: Tensor) -> Grid:
        try:
            return self.plan.tensors[t.name].grid
        except KeyError:
            raise TfqError(f"The plan says nothing of tensor {t.name!r}.") from None

    def _input(self, t: Tensor) -> Tensor:
        if t.dtype != "float32":
            self.tensors[t] = t
            return t
        boundary, own = self.plan.inputs[t.name], self._grid_of(t)
        given = self._tensor(t, boundary, t.name)
        inner = given
        if boundary != own:
            inner = self._tensor(t, own, self._unique(f"{t.name}/{own.dtype}"))
            self._convert(given, inner)
        self.tensors[t], self.grids[t] = inner, own
        return given

    def _output(self, t: Tensor) -> Tensor:
        if t.dtype != "float32":
            return self.tensors.get(t, t)
        boundary = self.plan.outputs[t.name]
        if t.is_const:
            return self.constants.output(t, boundary)
        inner = self.tensors[t]
        if boundary == self.grids[t]:
            return inner
        if t in self.source.main.inputs:
            given = self._tensor(t, boundary, self._unique(f"{t.name}/{boundary.dtype}"))
        else:
            # The name belongs to what the user reads.
            given = self._tensor(t, boundary, t.name)
            inner.name = self._unique(f"{t.name}/{self.grids[t].dtype}")
        detour = self.plan.detours.get(t.name)
        if detour is not None:
            between = self._tensor(t, detour, self._unique(f"{given.name}/{detour.dtype}"))
            self._convert(inner, between)
            inner = between
        self._convert(inner, given)
        return given

    def _produce(self, t: Tensor, grid: Grid) -> Tensor:
        out = self._tensor(t, grid, t.name)
        self.tensors[t], self.grids[t] = out, grid
        return out

    def _convert(self, source: Tensor, target: Tensor) -> None:
        if target.dtype.startswith("float"):
            op = Op("DEQUANTIZE", [source], [target], options_type("DequantizeOptions")())
        else:
            op = Op("QUANTIZE", [source], [target], options_type("QuantizeOptions")())
        self.ops.append(op)

    def _read(self, t: Tensor, grid: Grid | None) -> Tensor:
        """Computed tensor `t` on `grid`, or on its own."""
        if t not in self.tensors:
            return t
        own = self.grids.get(t)
        if grid is None or own is None or grid == own:
            return self.tensors[t]
        key = (t, grid)
        if key not in self.on_grid:
            inner = self._tensor(t, grid, self._unique(f"{t.name}/{grid.dtype}"))
            self._convert(self.tensors[t], inner)
            self.on_grid[key] = inner
        return self.on_grid[key]

    # --- operators ------------------------------------------------------------------------------

    def _plain(self, op: Op) -> None:
        inputs = [None if t is None else self.tensors.get(t, t) for t in op.inputs]
        outputs = []
        for t in op.outputs:
            self.tensors[t] = dataclasses.replace(t)
            outputs.append(self.tensors[t])
        self.ops.append(dataclasses.replace(op, inputs=inputs, outputs=outputs))

    def _integer(self, op: Op, plan: OpPlan) -> None:
        s = spec(op.name)
        inputs: list[Tensor | None] = []
        for i, t in enumerate(op.inputs):
            grid = plan.edges.get(i)
            if t is None:
                inputs.append(None)
            elif t.is_const and t.dtype == "float32":
                if grid is None:
                    raise TfqError(
                        f"The plan gives constant {t.name!r} of {op.label} at "
                        f"{op.outputs[0].name!r} no grid."
                    )
                if self._has_no_bias(op, plan, i, t, grid):
                    inputs.append(None)
                else:
                    inputs.append(self.constants.read(op, plan, i, t, grid))
            else:
                inputs.append(self._read(t, grid))
        if s is not None and s.kind is Kind.WEIGHTED and s.bias is not None:
            self._own_bias(op, s.bias, inputs)
        if plan.cast is not None:
            inputs = self._cast_inputs(inputs, plan.clamp)
        outputs = []
        for t in op.outputs:
            if t.dtype == "float32":
                outputs.append(self._produce(t, self._grid_of(t)))
            else:
                self.tensors[t] = dataclasses.replace(t)
                outputs.append(self.tensors[t])
        emitted = dataclasses.replace(
            op, inputs=inputs, outputs=outputs, options=_integer_options(op.options)
        )
        emitted = self._bounded(emitted, plan)
        self._check(op, emitted)
        self.ops.append(emitted)

    @staticmethod
    def _check(op: Op, emitted: Op) -> None:
        """Raises UsageError where the plan asks for what no kernel computes rightly."""
        dtype = activation_dtype(emitted)
        why = obstacle(emitted, dtype) if dtype in ("int8", "int16") else ""
        if why:
            raise UsageError(
                f"The plan computes {op.label} at {op.key!r} in {dtype}: {why}. Give it another "
                "type there, or make a new plan."
            )
        row = spec(op.name)
        if row is None:
            return
        # LiteRT's own message names no tensor.
        bound = emitted.inputs if row.data is None else [emitted.input(i) for i in row.data]
        if row.kind is Kind.SAME:
            produced = range(len(op.outputs)) if row.outputs is None else row.outputs
            bound = [*bound, *(emitted.outputs[i] for i in produced)]
        elif dtype not in row.same_inputs:
            return
        grids = {t.name: Grid.of(t.dtype, t.quant) for t in bound if t is not None and t.quant}
        (first, grid), *others = grids.items() if grids else [("", None)]
        for name, other in others:
            if other != grid:
                raise UsageError(
                    f"The plan gives {first!r} and {name!r} different grids, but {op.label} at "
                    f"{op.key!r} needs them on one. Give both the same type, scale and zero point."
                )

    def _has_no_bias(self, op: Op, plan: OpPlan, i: int, t: Tensor, grid: Grid | None) -> bool:
        """Whether constant `t`, input `i`, is a bias that is not emitted."""
        s = spec(op.name)
        if s is None or s.kind is not Kind.WEIGHTED or i != s.bias or plan.bias:
            return False
        if plan.mode == INTEGER and (self.spare_biases or op.key in self.plan.biases):
            return False
        if (t.values() if grid is None else quantize(t.values(), grid)).any():
            raise UsageError(
                f"The plan says that {op.label} at {op.key!r} has no bias, but the model's is not "
                "zero. Take that out of the plan, or make a new one."
            )
        return True

    def _bounded(self, op: Op, plan: OpPlan) -> Op:
        """The op with its clamp, or without one that is out of reach."""
        out, told = op.outputs[0], Unbounded(plan.kernel, plan.activation)
        on_grid = out.quant is not None and out.dtype in LIMITS
        right = far_bound(op, float(out.quant.scale[0])) if on_grid and out.quant else Unbounded()
        if told != right:
            raise UsageError(
                f"The plan emits {op.label} at {op.key!r} with kernel={told.kernel}, "
                f"activation={told.activation}, where its grid asks for kernel={right.kernel}, "
                f"activation={right.activation}. Undo the last edit, or make a new plan."
            )
        return without_far_bound(op, told)

    def _cast_inputs(
        self, inputs: list[Tensor | None], clamp: tuple[int, int] | None
    ) -> list[Tensor | None]:
        """The quantized inputs as int32, kept within `clamp`."""
        wide: dict[Tensor, Tensor] = {}
        for t in inputs:
            if t is not None and t.quant is not None and t not in wide:
                wide[t] = self._as_int32(t)
                if clamp is not None:
                    wide[t] = self._clamped(t, wide[t], clamp)
        return [t if t is None else wide.get(t, t) for t in inputs]

    def _clamped(self, x: Tensor, y: Tensor, clamp: tuple[int, int]) -> Tensor:
        """`y`, the integers of `x` as int32, between two integers."""
        low, high = LIMITS[x.dtype]
        # A sum of squares must not overflow.
        for name, bound in (("MAXIMUM", clamp[0]), ("MINIMUM", clamp[1])):
            if low >= bound if name == "MAXIMUM" else bound >= high:
                continue
            limit = np.array(bound, np.int32)
            out = Tensor(self._unique(f"{x.name}/{name.lower()}"), x.shape, "int32")
            const = Tensor(self._unique(f"tfq/{name.lower()}"), (), "int32", limit)
            options = options_type("MaximumMinimumOptions")()
            self.ops.append(Op(name, [y, const], [out], options))
            y = out
        return y

    def _as_int32(self, t: Tensor) -> Tensor:
        wide = Tensor(self._unique(f"{t.name}/int32"), t.shape, "int32")
        if t.is_const:
            wide.data = t.values().astype(np.int32)
            return wide
        options = options_type("CastOptions")()
        options.inDataType, options.outDataType = DTYPE_CODES[t.dtype], DTYPE_CODES["int32"]
        self.ops.append(Op("CAST", [t], [wide], options))
        return wide

    def _own_bias(self, op: Op, i: int, inputs: list[Tensor | None]) -> None:
        """Gives the op a bias tensor that no other op reads, so that it can be corrected."""
        bias = inputs[i] if i < len(inputs) else None
        if bias is None or not bias.is_const:
            return
        if any(b is bias for b in self.biases.values()):
            bias = dataclasses.replace(bias, name=self._unique(bias.name))
            inputs[i] = bias
        self.biases[op.outputs[0].name] = bias

    def _float(self, op: Op, plan: OpPlan) -> None:
        inputs: list[Tensor | None] = []
        for i, t in enumerate(op.inputs):
            grid = plan.edges.get(i)
            if t is None or (t.is_const and self._has_no_bias(op, plan, i, t, grid)):
                inputs.append(None)
            elif t.is_const and grid is not None:
                inputs.append(self._stored(op, plan, i, t, grid))
            else:
                inputs.append(self._read(t, grid))
        outputs = []
        for t in op.outputs:
            if t.dtype == "float32" and t.name in self.plan.tensors:
                outputs.append(self._produce(t, self._grid_of(t)))
            else:
                self.tensors[t] = dataclasses.replace(t)
                outputs.append(self.tensors[t])
        self.ops.append(dataclasses.replace(op, inputs=inputs, outputs=outputs))

    def _stored(self, op: Op, plan: OpPlan, i: int, t: Tensor, grid: Grid) -> Tensor:
        """A constant stored small; hybrid kernels read it directly, others through DEQUANTIZE."""
        const = self.constants.read(op, plan, i, t, grid)
        if plan.hybrid:
            return const
        if const not in self.widened:
            wide = Tensor(self._unique(f"{t.name}/float32"), t.shape, "float32")
            self._convert(const, wide)
            self.widened[const] = wide
        return self.widened[const]

    def _lookup(self, op: Op, plan: OpPlan, ops: list[Op]) -> None:
        root = next(t for o in ops for t in o.inputs if t is not None and t.name == plan.root)
        x = self._read(root, plan.edges.get(0))
        in_grid = plan.edges.get(0) or self.grids[root]
        out = op.outputs[0]
        if out.dtype == "float32":
            out_grid: Grid | None = self._grid_of(out)
            assert out_grid is not None
            y = self._produce(out, out_grid)
        else:
            out_grid = None
            y = self.tensors[out] = dataclasses.replace(out)
        if wrong := misfit(in_grid, plan.table):
            raise UsageError(
                f"The table of the plan at {op.key!r} has {wrong}. Undo the last edit, or make a "
                "new plan."
            )
        self.ops += lookup_ops(
            root, ops, x, in_grid, y, out_grid, self._unique, table=plan.table, snap=plan.snap
        )


def _chains(graph: Graph, plan: Plan) -> dict[Op, list[Op]]:
    """For each table, the float ops it is made of, in order."""
    producers = graph.producers()
    chains: dict[Op, list[Op]] = {}
    for op in graph.ops:
        entry = plan.ops.get(op.key)
        if entry is None or entry.mode != LOOKUP:
            continue
        members: set[Op] = set()
        stack = [op]
        while stack:
            current = stack.pop()
            if current in members:
                continue
            members.add(current)
            for t in current.inputs:
                if t is None or t.is_const or t.name == entry.root:
                    continue
                if t not in producers:
                    raise TfqError(
                        f"The plan says that {op.outputs[0].name!r} is a table over "
                        f"{entry.root!r}, but it also depends on {t.name!r}."
                    )
                stack.append(producers[t])
        chains[op] = [o for o in graph.ops if o in members]
    return chains


def _integer_options(options: object) -> object:
    """The options as integer kernels want them."""
    if hasattr(options, "potScaleInt16"):
        # The converter's default asks int16 kernels for power-of-two scales.
        options = copy.copy(options)
        options.potScaleInt16 = False
    return options
