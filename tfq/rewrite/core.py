"""What a rewrite is, and the view of a graph through which it matches and edits.

A rewrite is a `Rule`: `check` looks at one op and answers with what it bound, or with a `No` that
says why not; `apply` edits the graph. The op that completes a rewrite writes the tensor object its
root wrote, so names, graph outputs and signatures never change.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import numpy as np

from tfq.graph.effects import has_side_effects
from tfq.graph.model import Graph, Model, Op, Step, Tensor, options_type

M = TypeVar("M")


class No(str):
    """The reason why a rule does not apply."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Applied:
    """One rewrite that took place.

    Attributes:
      rewrite: the rule's name.
      where: the name of the tensor that the rewritten op writes.
      op: the op that was rewritten, as it was called before.
    """

    rewrite: str
    where: str
    op: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule(Generic[M]):
    """One rewrite.

    Attributes:
      name: how users name it, e.g. in `skip`.
      roots: the op names at which `check` is tried.
      check: binds the pattern that ends in an op, or says why it is not there.
      apply: replaces what `check` bound.
    """

    name: str
    roots: frozenset[str]
    check: Callable[[Op, View], M | No]
    apply: Callable[[M, View], None]

    def run(self, view: View) -> list[Applied]:
        """Applies the rule to every op of the graph once, in execution order."""
        applied = []
        for op in [op for op in view.graph.ops if op.name in self.roots]:
            if not view.alive(op):
                continue
            match = self.check(op, view)
            if isinstance(match, No):
                continue
            where = op.outputs[0].name
            self.apply(match, view)
            applied.append(Applied(rewrite=self.name, where=where, op=op.label))
        return applied


class View:
    """A graph with its producers and readers indexed, kept in step with every edit.

    Args:
      graph: edited in place.
      kept: tensors beyond the graph's outputs that must survive (those signatures name).
      on_grid: each output channel of the weights is on a grid, and must stay on one.
    """

    def __init__(self, graph: Graph, kept: Iterable[Tensor] = (), *, on_grid: bool = False):
        self.graph = graph
        self.on_grid = on_grid
        self._kept = {*graph.outputs, *kept}
        self._producers = graph.producers()
        self._readers: dict[Tensor, list[Op]] = {}
        self._ops = set(graph.ops)
        self._names = {t.name for t in graph.tensors()}
        self._order: dict[Op, int] = {}
        for op in graph.ops:
            self._read(op)

    def _read(self, op: Op) -> None:
        for t in op.inputs:
            if t is not None:
                self._readers.setdefault(t, []).append(op)

    # --- questions ---

    @property
    def kept(self) -> frozenset[Tensor]:
        """Tensors seen from outside: the graph's outputs and what signatures name."""
        return frozenset(self._kept)

    def alive(self, op: Op) -> bool:
        return op in self._ops

    def producer(self, tensor: Tensor | None) -> Op | None:
        """The op that computes `tensor`; None for constants and graph inputs."""
        return None if tensor is None else self._producers.get(tensor)

    def made_by(self, tensor: Tensor | None, *names: str) -> Op | None:
        """The op that computes `tensor` if it is one of `names`."""
        op = self.producer(tensor)
        return op if op is not None and op.name in names else None

    def readers(self, tensor: Tensor) -> list[Op]:
        """The ops that read `tensor`; one that reads it twice is listed twice."""
        return self._readers.get(tensor, [])

    def is_output(self, tensor: Tensor) -> bool:
        return tensor in self._kept

    def private(self, tensor: Tensor) -> bool:
        """Whether one op alone reads `tensor` and nobody sees it from outside."""
        return len(set(self.readers(tensor))) == 1 and tensor not in self._kept

    def position(self, op: Op) -> int:
        """A number that grows with execution order, valid until the next edit."""
        if not self._order:
            self._order = {o: i for i, o in enumerate(self.graph.ops)}
        return self._order[op]

    # --- new things ---

    def name(self, hint: str) -> str:
        """`hint`, or `hint` with a number if it is taken."""
        name, i = hint, 1
        while name in self._names:
            name, i = f"{hint}_{i}", i + 1
        self._names.add(name)
        return name

    def const(self, hint: str, values: Any, dtype: str = "float32") -> Tensor:
        """A new constant tensor."""
        np_dtype = np.bool_ if dtype == "bool" else np.dtype(dtype)
        data = np.array(values, np_dtype, order="C")
        return Tensor(self.name(hint), data.shape, dtype, data)

    def tensor(self, hint: str, shape: Iterable[int], dtype: str = "float32") -> Tensor:
        """A new computed tensor."""
        return Tensor(self.name(hint), tuple(int(d) for d in shape), dtype)

    # --- edits ---

    def replace(self, old: Op, new: Iterable[Op]) -> None:
        """Puts `new` in the place of `old`; what only `old` needed disappears."""
        new = list(new)
        self._note_step(old, new)
        at = self.graph.ops.index(old)
        self.graph.ops[at : at + 1] = new
        self._order = {}
        self._forget(old)
        for op in new:
            self._ops.add(op)
            self._read(op)
            self._producers.update(dict.fromkeys(op.outputs, op))
        self._sweep(old.inputs)

    def _note_step(self, old: Op, new: list[Op]) -> None:
        """What is computed anew for an op of a step of an unrolled loop is of that step."""
        step = next((t.step for t in old.outputs if t.step is not None), None)
        if step is None:
            return
        for i, op in enumerate(new):
            for k, t in enumerate(op.outputs):
                if t.step is None and t not in self._producers:
                    t.step = Step(f"{step.tensor}, part {i}.{k}", step.number)

    def bypass(self, op: Op, source: Tensor) -> None:
        """Removes `op`; its readers read `source` instead.

        If the output is seen from outside, the op that computes `source` must be free to write it:
        check with `can_bypass`.
        """
        out = op.outputs[0]
        if out in self._kept:
            maker = self._producers[source]
            at = self.graph.ops.index(op)
            del self.graph.ops[at]
            self._forget(op)
            maker.outputs = [out if t is source else t for t in maker.outputs]
            self._producers[out] = maker
            del self._producers[source]
            self._redirect(source, out)
            self._sweep(op.inputs)
            return
        self._redirect(out, source)
        del self.graph.ops[self.graph.ops.index(op)]
        self._forget(op)
        self._sweep(op.inputs)

    def can_bypass(self, op: Op, source: Tensor) -> bool:
        """Whether `bypass` leaves names and outputs as they were."""
        if op.outputs[0] not in self._kept:
            return True
        maker = self._producers.get(source)
        return (
            maker is not None
            and source not in self._kept
            and not source.is_variable
            and not has_side_effects(maker)
            and source.shape == op.outputs[0].shape
            and source.dtype == op.outputs[0].dtype
        )

    def make_const(self, tensor: Tensor, values: np.ndarray) -> None:
        """Turns a computed tensor that is not seen from outside into a constant."""
        op = self._producers.pop(tensor)
        tensor.data = np.ascontiguousarray(values).reshape(tensor.shape)
        tensor.signature = None
        self._sweep_op(op)

    def _redirect(self, old: Tensor, new: Tensor) -> None:
        readers = self._readers.pop(old, [])
        for op in set(readers):
            op.inputs = [new if t is old else t for t in op.inputs]
        if readers:
            self._readers.setdefault(new, []).extend(readers)

    def _forget(self, op: Op) -> None:
        self._ops.discard(op)
        self._order = {}
        for t in op.outputs:
            if self._producers.get(t) is op:
                del self._producers[t]
        for tensor in op.inputs:
            if tensor is not None and op in self._readers.get(tensor, ()):
                self._readers[tensor].remove(op)

    def _sweep(self, tensors: Iterable[Tensor | None]) -> None:
        for tensor in tensors:
            op = self.producer(tensor)
            if op is not None:
                self._sweep_op(op)

    def _sweep_op(self, op: Op) -> None:
        todo = [op]
        while todo:
            op = todo.pop()
            if op not in self._ops or has_side_effects(op):
                continue
            if any(
                t in self._kept or self.readers(t)
                for t in op.outputs
                if self._producers.get(t) is op
            ):
                continue
            del self.graph.ops[self.graph.ops.index(op)]
            self._forget(op)
            todo += [p for p in map(self.producer, op.inputs) if p is not None]


def copy_model(model: Model) -> Model:
    """A copy whose graphs can be rewired freely; constants are shared.

    The same as `model.copy()` without the way through bytes, which takes seconds for the
    thousands of ops of an unrolled network.
    """
    tensors: dict[Tensor, Tensor] = {}

    def new(tensor: Tensor) -> Tensor:
        if tensor not in tensors:
            tensors[tensor] = dataclasses.replace(tensor)
        return tensors[tensor]

    def new_graph(graph: Graph) -> Graph:
        ops = [
            dataclasses.replace(
                op,
                inputs=[None if t is None else new(t) for t in op.inputs],
                outputs=[new(t) for t in op.outputs],
                options=copy.copy(op.options),
                intermediates=[new(t) for t in op.intermediates],
            )
            for op in graph.ops
        ]
        inputs, outputs = [new(t) for t in graph.inputs], [new(t) for t in graph.outputs]
        return Graph(graph.name, ops, inputs, outputs)

    return dataclasses.replace(
        model,
        graphs=[new_graph(graph) for graph in model.graphs],
        signatures=[
            dataclasses.replace(
                s,
                inputs={name: new(t) for name, t in s.inputs.items()},
                outputs={name: new(t) for name, t in s.outputs.items()},
            )
            for s in model.signatures
        ],
        metadata=dict(model.metadata),
    )


def new_op(
    name: str,
    inputs: Iterable[Tensor | None],
    output: Tensor,
    options: str = "",
    **fields: Any,
) -> Op:
    """An op with one output.

    Args:
      options: the schema's options class ("MulOptions"), if it has one.
      fields: values of the options.
    """
    chosen = None
    if options:
        chosen = options_type(options)()
        for key, value in fields.items():
            if not hasattr(chosen, key):
                raise AttributeError(f"{options} has no field {key!r}.")
            setattr(chosen, key, value)
    return Op(name, list(inputs), [output], chosen)


def like(op: Op, inputs: Iterable[Tensor | None], output: Tensor, **fields: Any) -> Op:
    """`op` with other inputs, output and, where given, option values."""
    chosen = copy.copy(op.options)
    for key, value in fields.items():
        setattr(chosen, key, value)
    return dataclasses.replace(op, inputs=list(inputs), outputs=[output], options=chosen)
