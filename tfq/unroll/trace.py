"""Runs a graph symbolically: constants are computed, calls are inlined, the rest is recorded.

`Tracer` is what unrolling needs of an interpreter. Its values are `Tensor`s. An op whose inputs are
all constants becomes a constant; WHILE and IF are followed into their subgraphs as long as the
condition comes out constant; every other op is copied, with fresh tensors, to the list of recorded
ops. A copy that would read exactly the same tensors as in an earlier step is not made again, so
that loop-invariant work is done once.

Views. A loop writes its outputs into an accumulator, one row per step:

    acc' = concat(acc[:i], row, acc[i+1:])        (or DYNAMIC_UPDATE_SLICE(acc, row, i))

Recorded as it stands that would copy the whole accumulator T times. Instead a tensor may be known
as a *view*: a list of (tensor, start, stop) pieces along axis 0. Slicing and concatenating views
gives views at no cost, and only a view that something else reads becomes a CONCATENATION.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from tfq.graph.effects import is_pure
from tfq.graph.model import Graph, Model, Op, Step, Tensor, options_type
from tfq.unroll.constants import evaluate
from tfq.unroll.pieces import Piece, cut, merged


class UnrollError(Exception):
    """Why a loop or a branch stays as it is."""


class Names:
    """Tensor names of one graph, kept unique."""

    def __init__(self, taken: Iterable[str]):
        self._taken = set(taken)

    def fresh(self, name: str) -> str:
        candidate, n = name, 1
        while candidate in self._taken:
            candidate, n = f"{name}_{n}", n + 1
        self._taken.add(candidate)
        return candidate


def int32(values: object, name: str) -> Tensor:
    """A constant int32 tensor."""
    data = np.asarray(values, np.int32)
    return Tensor(name, data.shape, "int32", data)


def has_static_shape(t: Tensor) -> bool:
    return t.signature is None and t.has_rank


# What a graph that calls itself would otherwise not end at.
_MAX_DEPTH = 16

# How many inputs the ops take that views see through.
_ARITY = {"DYNAMIC_UPDATE_SLICE": 3, "GATHER": 2, "SLICE": 3}


class Tracer:
    """Records the ops of a graph with its loops and branches inlined.

    Args:
      model: where subgraphs are looked up.
      names: the names already used in the graph that is traced into.
      max_steps: trip count above which a loop is not unrolled.
      max_ops: number of recorded ops above which a loop is not unrolled.
    """

    def __init__(self, model: Model, names: Names, *, max_steps: int, max_ops: int):
        self.ops: list[Op] = []
        self._model = model
        self._names = names
        self._max_steps = max_steps
        self._max_ops = max_ops
        self._views: dict[Tensor, tuple[Piece, ...]] = {}
        self._virtual: set[Tensor] = set()
        self._following = False
        self._depth = 0
        # The loop whose body is being traced, and the step; loops are numbered.
        self._at: Step | None = None
        self._loops = 0
        self._made: dict[tuple[int, ...], list[Tensor]] = {}
        # Keeps what `_made` names by id alive.
        self._held: list[object] = []
        self._producer: dict[Tensor, Op] = {}

    # --- following -------------------------------------------------------------------------------

    def follow(self, op: Op, inputs: list[Tensor | None], suffix: str = "") -> list[Tensor]:
        """Unrolls or inlines one WHILE or IF; returns what its outputs are.

        Raises:
          UnrollError: nothing was recorded.
        """
        mark, virtual = len(self.ops), set(self._virtual)
        self._following = True
        try:
            return self._enter(op, inputs, suffix)
        except UnrollError:
            for dropped in self.ops[mark:]:
                for t in dropped.outputs:
                    self._producer.pop(t, None)
            del self.ops[mark:]
            # Views that got recorded meanwhile are to be recorded again.
            self._virtual = virtual
            self._made.clear()
            raise
        finally:
            self._following, self._at = False, None

    def _enter(self, op: Op, inputs: list[Tensor | None], suffix: str) -> list[Tensor]:
        if op.options is None or not inputs:
            raise UnrollError("it names no graphs")
        if self._depth == _MAX_DEPTH:
            raise UnrollError(f"loops and branches are nested more than {_MAX_DEPTH} deep")
        self._depth += 1
        try:
            return (self._while if op.name == "WHILE" else self._if)(op, inputs, suffix)
        finally:
            self._depth -= 1

    def _while(self, op: Op, inputs: list[Tensor | None], suffix: str) -> list[Tensor]:
        cond = self._subgraph(op.options.condSubgraphIndex)
        body = self._subgraph(op.options.bodySubgraphIndex)
        state: list[Tensor] = [self._present(t, op) for t in inputs]
        step, outer = 0, self._at
        self._loops += 1
        loop = f"loop {self._loops}"
        while True:
            self._at = None
            verdict = next(iter(self.inline(cond, state, f"{suffix}/cond_{step}")), None)
            if verdict is None or verdict.data is None:
                raise UnrollError(
                    "how often it runs depends on the input, so it has no fixed length"
                    if step == 0
                    else f"whether it goes on after step {step} depends on the input"
                )
            if not bool(np.all(verdict.values())):
                self._at = outer
                return state
            if step == self._max_steps:
                raise UnrollError(
                    f"it runs for more than {self._max_steps} steps, too many to unroll; use a "
                    "shorter sequence, or keep it float with --allow_float=WHILE"
                )
            before = [(t.dtype, len(t.shape)) for t in state]
            self._at = Step(loop, step)
            state = self.inline(body, state, f"{suffix}/step_{step}")
            if [(t.dtype, len(t.shape)) for t in state] != before:
                raise UnrollError("its body changes the type of a loop variable")
            step += 1

    def _if(self, op: Op, inputs: list[Tensor | None], suffix: str) -> list[Tensor]:
        condition = self._present(inputs[0], op)
        if condition.data is None:
            raise UnrollError("which branch it takes depends on the input")
        options = op.options
        index = (
            options.thenSubgraphIndex
            if bool(np.all(condition.values()))
            else options.elseSubgraphIndex
        )
        arguments = [self._present(t, op) for t in inputs[1:]]
        return self.inline(self._subgraph(index), arguments, suffix)

    def _subgraph(self, index: int) -> Graph:
        if not 0 <= index < len(self._model.graphs):
            raise UnrollError(f"it calls graph {index}, which does not exist")
        return self._model.graphs[index]

    @staticmethod
    def _present(t: Tensor | None, op: Op) -> Tensor:
        if t is None:
            raise UnrollError(f"{op.label} lacks an input")
        return t

    def inline(self, graph: Graph, arguments: list[Tensor], suffix: str) -> list[Tensor]:
        """Traces `graph` on `arguments`; returns its outputs."""
        if len(arguments) != len(graph.inputs):
            raise UnrollError(f"{graph.name} takes {len(graph.inputs)} values")
        env: dict[Tensor, Tensor] = dict(zip(graph.inputs, arguments, strict=True))
        for op in graph.ops:
            inputs = [None if t is None else env.get(t, t) for t in op.inputs]
            for t, value in zip(op.outputs, self._step(op, inputs, suffix), strict=True):
                env[t] = value
        return [env.get(t, t) for t in graph.outputs]

    def _step(self, op: Op, inputs: list[Tensor | None], suffix: str) -> list[Tensor]:
        if op.name in ("WHILE", "IF"):
            return self._enter(op, inputs, suffix)
        if any(t.is_variable for t in [*op.inputs, *op.outputs] if t is not None):
            raise UnrollError(f"{op.label} in it changes a variable")
        key = (id(op), *(id(t) for t in inputs))
        if key in self._made:
            return self._made[key]
        outputs = self.simplify(op, inputs, suffix)
        if outputs is None:
            outputs = [self._fresh(t, suffix) for t in op.outputs]
            self.record(op, inputs, outputs)
        if is_pure(op):
            self._made[key] = outputs
            self._held.append((op, inputs))
        return outputs

    def _fresh(self, t: Tensor, suffix: str) -> Tensor:
        name = self._names.fresh(t.name + suffix)
        return dataclasses.replace(t, name=name, data=None, step=self._step_of(t))

    def _step_of(self, t: Tensor) -> Step | None:
        """Where what stands for tensor `t` of the graph that is traced comes from."""
        return None if self._at is None else Step(f"{self._at.tensor}: {t.name}", self._at.number)

    # --- recording -------------------------------------------------------------------------------

    def record(self, op: Op, inputs: list[Tensor | None], outputs: list[Tensor]) -> None:
        """Appends a copy of `op` that reads `inputs` and computes `outputs`."""
        for t in inputs:
            if t is not None:
                self.materialize(t)
        self._append(dataclasses.replace(op, inputs=list(inputs), outputs=outputs))
        if op.name == "REVERSE_V2" and inputs[0] is not None:
            self._see_through_reversal(op, inputs[0], outputs[0])

    def _append(self, op: Op) -> None:
        if self._following and len(self.ops) >= self._max_ops:
            raise UnrollError(
                f"unrolled it would make the model larger than {self._max_ops} ops; use a "
                "shorter sequence, or keep it float with --allow_float=WHILE"
            )
        self.ops.append(op)
        for t in op.outputs:
            self._producer[t] = op

    def materialize(self, t: Tensor) -> None:
        """Records the op that computes a view, if nothing did so yet."""
        if t not in self._virtual:
            return
        self._virtual.discard(t)
        parts = [self._part(p, t.name) for p in self._views[t]]
        if len(parts) == 1:
            shape = int32(t.shape, self._names.fresh(t.name + "/shape"))
            reshape = Op("RESHAPE", [parts[0], shape], [t], options_type("ReshapeOptions")())
            reshape.options.newShape = list(t.shape)
            self._append(reshape)
            return
        options = options_type("ConcatenationOptions")()
        options.axis = 0
        self._append(Op("CONCATENATION", list(parts), [t], options))

    def _part(self, piece: Piece, name: str) -> Tensor:
        source = piece.tensor
        if piece.is_whole:
            return source
        shape = (piece.rows, *source.shape[1:])
        fresh = self._names.fresh(f"{name}/rows_{piece.start}")
        if source.data is not None:
            return Tensor(fresh, shape, source.dtype, source.data[piece.start : piece.stop])
        part = Tensor(fresh, shape, source.dtype, quant=source.quant)
        begin = int32([piece.start] + [0] * (len(shape) - 1), fresh + "/begin")
        self._append(
            Op(
                "SLICE",
                [source, begin, int32(shape, fresh + "/size")],
                [part],
                options_type("SliceOptions")(),
            )
        )
        return part

    # --- simplifying -----------------------------------------------------------------------------

    def simplify(self, op: Op, inputs: list[Tensor | None], suffix: str) -> list[Tensor] | None:
        """What `op` gives without recording it, or None."""
        values = evaluate(op, inputs)
        if values is not None:
            return [
                Tensor(self._names.fresh(t.name + suffix), v.shape, t.dtype, v)
                for t, v in zip(op.outputs, values, strict=True)
            ]
        present = [t for t in inputs if t is not None]
        if len(op.outputs) != 1 or not present:
            return None
        if len(present) != _ARITY.get(op.name, len(present)) or len(present) != len(inputs):
            return None
        result: Tensor | None = None
        if op.name in ("ADD", "SUB", "MUL") and len(present) == 2:
            result = self._with_zeros(op, present[0], present[1], suffix)
        elif op.name in ("SLICE", "GATHER", "CONCATENATION", "DYNAMIC_UPDATE_SLICE", "RESHAPE"):
            result = getattr(self, f"_{op.name.lower()}")(op, present, suffix)
        elif op.name == "STRIDED_SLICE":
            result = self._strided_slice(op, present, suffix)
        return None if result is None else [result]

    def _with_zeros(self, op: Op, a: Tensor, b: Tensor, suffix: str) -> Tensor | None:
        """x + 0, x - 0 and x * 0, which the first step is full of."""
        if op.options is not None and op.options.fusedActivationFunction:
            return None
        shape = np.broadcast_shapes(a.shape, b.shape)
        if not (has_static_shape(a) and has_static_shape(b)):
            return None
        zero_a, zero_b = (t.is_const and t.size > 0 and not np.any(t.values()) for t in (a, b))
        if op.name == "MUL" and (zero_a or zero_b):
            value = np.zeros(shape, (a if zero_a else b).values().dtype)
            return Tensor(self._names.fresh(op.outputs[0].name + suffix), shape, a.dtype, value)
        if op.name in ("ADD", "SUB") and zero_b and a.shape == shape:
            return a
        return b if op.name == "ADD" and zero_a and b.shape == shape else None

    def _pieces(self, t: Tensor) -> tuple[Piece, ...] | None:
        if t in self._views:
            return self._views[t]
        if not t.shape or not has_static_shape(t) or t.quant is not None:
            return None
        return (Piece(t, 0, t.shape[0]),)

    def _view(self, out: Tensor, pieces: Iterable[Piece], suffix: str) -> Tensor | None:
        """A tensor that is these rows; the source itself if they are all of one tensor."""
        kept = merged(pieces)
        if not kept:
            return None
        if len(kept) == 1 and kept[0].is_whole:
            return kept[0].tensor
        shape = (sum(p.rows for p in kept), *kept[0].tensor.shape[1:])
        if all(p.tensor.is_const for p in kept):
            value = np.concatenate([p.tensor.values()[p.start : p.stop] for p in kept])
            return Tensor(self._names.fresh(out.name + suffix), shape, out.dtype, value)
        name = self._names.fresh(out.name + suffix)
        view = Tensor(name, shape, out.dtype, step=self._step_of(out))
        self._views[view] = kept
        self._virtual.add(view)
        return view

    def _slice(self, op: Op, inputs: list[Tensor], suffix: str) -> Tensor | None:
        source, begin, size = inputs
        pieces = self._pieces(source)
        if pieces is None or begin.data is None or size.data is None:
            return None
        starts = [int(v) for v in begin.values().reshape(-1)]
        rest = [int(v) for v in size.values().reshape(-1)]
        sizes = [
            dim - s if n < 0 else n for dim, s, n in zip(source.shape, starts, rest, strict=True)
        ]
        if sizes[0] == 0:
            return self._empty(op.outputs[0], (0, *sizes[1:]), suffix)
        if any(starts[1:]) or tuple(sizes[1:]) != source.shape[1:]:
            return None
        return self._view(op.outputs[0], cut(pieces, starts[0], starts[0] + sizes[0]), suffix)

    def _empty(self, out: Tensor, shape: tuple[int, ...], suffix: str) -> Tensor:
        value = np.zeros(shape, np.float32 if out.dtype == "float32" else np.int32)
        return Tensor(self._names.fresh(out.name + suffix), shape, out.dtype, value)

    def _concatenation(self, op: Op, inputs: list[Tensor], suffix: str) -> Tensor | None:
        axis = int(op.options.axis)
        views = [self._pieces(t) for t in inputs]
        if op.options.fusedActivationFunction or any(v is None for v in views):
            return None
        if axis not in (0, -len(inputs[0].shape)):
            return None
        # A row count of zero makes an empty slice's other dimensions irrelevant.
        return self._view(op.outputs[0], [p for v in views for p in v or () if p.rows], suffix)

    def _dynamic_update_slice(self, op: Op, inputs: list[Tensor], suffix: str) -> Tensor | None:
        target, update, start = inputs
        old, new = self._pieces(target), self._pieces(update)
        if old is None or new is None or start.data is None:
            return None
        if update.shape[1:] != target.shape[1:]:
            return None
        # The kernel moves a start that would reach past the end back into the tensor.
        rows, n = target.shape[0], update.shape[0]
        at = min(max(int(start.values().reshape(-1)[0]), 0), rows - n)
        pieces = [*cut(old, 0, at), *new, *cut(old, at + n, rows)]
        return self._view(op.outputs[0], pieces, suffix)

    def _gather(self, op: Op, inputs: list[Tensor], suffix: str) -> Tensor | None:
        source, index = inputs
        axis, batch = int(op.options.axis), int(op.options.batchDims)
        if index.data is None or index.size != 1 or axis not in (0, -len(source.shape)) or batch:
            return None
        row = int(index.values().reshape(-1)[0])
        return self._row(op, source, row, (*index.shape, *source.shape[1:]), suffix)

    def _strided_slice(self, op: Op, inputs: list[Tensor], suffix: str) -> Tensor | None:
        """x[i] and x[i:j] along axis 0, all of the other axes."""
        source, *bounds = inputs
        if any(t.data is None for t in bounds) or len(bounds) != 3 or not source.shape:
            return None
        begin, end, strides = ([int(v) for v in t.values().reshape(-1)] for t in bounds)
        o = op.options
        if o.ellipsisMask or o.newAxisMask or o.offset or strides[0] != 1:
            return None
        for i in range(1, len(begin)):
            full = slice(
                None if o.beginMask >> i & 1 else begin[i],
                None if o.endMask >> i & 1 else end[i],
                strides[i],
            ).indices(source.shape[i])
            if o.shrinkAxisMask >> i & 1 or full != (0, source.shape[i], 1):
                return None
        if o.shrinkAxisMask & 1:
            return self._row(op, source, begin[0], source.shape[1:], suffix)
        pieces = self._pieces(source)
        first, last, _ = slice(
            None if o.beginMask & 1 else begin[0], None if o.endMask & 1 else end[0]
        ).indices(source.shape[0])
        if pieces is None or last <= first:
            return None
        return self._view(op.outputs[0], cut(pieces, first, last), suffix)

    def _row(
        self, op: Op, source: Tensor, row: int, shape: tuple[int, ...], suffix: str
    ) -> Tensor | None:
        """Row `row` of `source` as a tensor of `shape`."""
        pieces = self._pieces(source)
        row = row + source.shape[0] if row < 0 else row
        if pieces is None or not 0 <= row < source.shape[0]:
            return None
        (piece,) = cut(pieces, row, row + 1)
        name = self._names.fresh(op.outputs[0].name + suffix)
        if piece.tensor.is_const:
            value = piece.tensor.values()[piece.start : piece.stop].reshape(shape)
            return Tensor(name, shape, piece.tensor.dtype, value)
        if piece.is_whole:
            return self._reshaped(piece.tensor, shape, name, self._step_of(op.outputs[0]))
        # Kept as a GATHER of a constant row, which tidying makes part of one UNPACK.
        options = options_type("GatherOptions")()
        options.axis = 0
        out = Tensor(name, shape, source.dtype, step=self._step_of(op.outputs[0]))
        index = int32(np.reshape(piece.start, shape[: len(shape) - len(source.shape) + 1]), name)
        index.name = self._names.fresh(name + "/row")
        self._append(Op("GATHER", [piece.tensor, index], [out], options))
        return out

    def _reshape(self, op: Op, inputs: list[Tensor], suffix: str) -> Tensor | None:
        """A reshape of a reshape; the first is not read any more."""
        source, out = inputs[0], op.outputs[0]
        maker = self._producer.get(source)
        if maker is None or maker.name != "RESHAPE" or not has_static_shape(out):
            return None
        origin = maker.input(0)
        return origin if origin.shape == out.shape and has_static_shape(origin) else None

    def _reshaped(self, t: Tensor, shape: tuple[int, ...], name: str, step: Step | None) -> Tensor:
        if t.shape == shape:
            return t
        maker = self._producer.get(t)
        if maker is not None and maker.name == "RESHAPE" and maker.input(0).shape == shape:
            return maker.input(0)
        out = Tensor(name, shape, t.dtype, step=step)
        options = options_type("ReshapeOptions")()
        options.newShape = list(shape)
        self._append(Op("RESHAPE", [t, int32(shape, name + "/shape")], [out], options))
        return out

    def _see_through_reversal(self, op: Op, source: Tensor, out: Tensor) -> None:
        """Rows of a reversed tensor are rows of the tensor; the op stays for other readers."""
        axes = op.input(1).data
        if axes is None or [int(a) for a in axes.reshape(-1)] != [0]:
            return
        pieces = self._pieces(source)
        if pieces is not None and out.shape == source.shape:
            rows = [Piece(p.tensor, i, i + 1) for p in pieces for i in range(p.start, p.stop)]
            self._views[out] = tuple(reversed(rows))
