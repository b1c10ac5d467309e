"""One graph run in stretches, all samples through one stretch before the next begins.

A stretch is a run of ops that starts with an op where the walk halts. It is a LiteRT model of its
own with the emitted ops, run by the same kernels as the whole: its integers are those of the whole
model, bit for bit. Between two stretches stands a boundary: for every sample the values that later
ops, or the graph's outputs, still read. So every op runs once a sample, however many halts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from tfq.graph.model import Graph, Model, Op, Tensor
from tfq.graph.optable import effects
from tfq.runtime import Runner
from tfq.walk.obstacles import multiplications
from tfq.walk.store import Boundary

# From so many multiplications on, threads are worth their start.
_FOR_THREADS = 1 << 20


class Kernels:
    """Some ops as a model of their own, ready to run.

    Args:
      model: whose graphs the ops may call.
      ops: in order.
      reads, writes: what they are given and give.
    """

    def __init__(
        self, model: Model, ops: Sequence[Op], reads: Sequence[Tensor], writes: Sequence[Tensor]
    ):
        graph = Graph("stretch", list(ops), list(reads), list(writes))
        # Ops call graphs by number, so these stay where they are.
        called = model.graphs[1:] if any(effects(op.name).calls for op in ops) else []
        self._bytes = Model([graph, *called]).to_bytes()
        self._reads = list(reads)
        self._stateful = any(t is not None and t.is_variable for op in ops for t in op.inputs)
        work = sum(multiplications(op) for op in ops)
        self._threads = None if work > _FOR_THREADS else 1
        self._shapes = [t.shape for t in reads]
        self._runner = Runner(self._bytes, threads=self._threads)

    def __call__(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        shapes = [v.shape for v in values]
        if shapes != self._shapes:  # What a WHERE finds differs from sample to sample.
            named = {t.name: s for t, s in zip(self._reads, shapes, strict=True)}
            self._runner = Runner(self._bytes, threads=self._threads, shapes=named)
            self._shapes = shapes
        if self._stateful:
            self._runner.reset_state()
        return self._runner.run_in_order(values)


class GraphWalk:
    """One graph and the boundary of what of it has been run. Close it, or use it with `with`.

    Args:
      model: whose main graph is walked; it must have no `obstacle_to_walk`.
      halts: ops that a stretch starts with.
      limit: bytes of the boundary that are held in memory.

    Attributes:
      boundary: the values between what has been run and what has not.
      samples: how many it was fed with.
    """

    def __init__(self, model: Model, halts: Collection[Op], limit: int):
        self.model = model
        self.boundary = Boundary(limit)
        self.samples = 0
        graph = model.main
        self._stretches: list[list[Op]] = [[]]
        for op in graph.ops:
            if op in halts:
                self._stretches.append([])
            self._stretches[-1].append(op)
        self._next = 0
        # After which stretch a tensor is read no more.
        self._last: dict[Tensor, int] = {}
        for k, ops in enumerate(self._stretches):
            for op in ops:
                for t in op.inputs:
                    if t is not None and not t.is_const and not t.is_variable:
                        self._last[t] = k
        for t in graph.outputs:
            self._last[t] = len(self._stretches)

    def __enter__(self) -> GraphWalk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.boundary.__exit__(None, None, None)

    @property
    def stretches(self) -> int:
        return len(self._stretches)

    @property
    def done(self) -> int:
        """Stretches that have been run."""
        return self._next

    @property
    def halted_at(self) -> Op | None:
        """The op that comes next; None before the start, and at the end."""
        return self._stretches[self._next][0] if 0 < self._next < self.stretches else None

    def feed(self, samples: Iterable[Mapping[str, np.ndarray]]) -> None:
        """The graph's inputs of all samples, by tensor name, as the graph takes them."""
        wanted = [t for t in self.model.main.inputs if t in self._last]
        stores = [self.boundary.new(t) for t in wanted]
        for sample in samples:
            self.samples += 1
            for t, store in zip(wanted, stores, strict=True):
                store.append(np.ascontiguousarray(sample[t.name]))

    def run_next(self, changed: Mapping[Op, Op] | None = None) -> None:
        """Runs the next stretch for all samples.

        Args:
          changed: ops to run in place of others: other constants, the same outputs.
        """
        k = self._next
        ops = self._stretches[k]
        made = [t for op in ops for t in op.outputs]
        inside = set(made)
        reads = list(
            dict.fromkeys(
                t
                for op in ops
                for t in op.inputs
                if t is not None and t in self._last and t not in inside and not t.is_const
            )
        )
        writes = [t for t in made if self._last.get(t, -1) > k]
        if writes:
            run = Kernels(self.model, [(changed or {}).get(op, op) for op in ops], reads, writes)
            given = [self.boundary[t] for t in reads]
            stores = [self.boundary.new(t) for t in writes]
            try:
                for n in range(self.samples):
                    results = run([values[n] for values in given])
                    for store, value in zip(stores, results, strict=True):
                        store.append(value)
            except BaseException:  # Interrupted, it can be run again.
                for t in writes:
                    self.boundary.drop(t)
                raise
        for t in list(self.boundary):
            if self._last[t] <= k:
                self.boundary.drop(t)
        self._next = k + 1

    def run_until(self, op: Op, changed: Mapping[Op, Op] | None = None) -> None:
        """Runs up to `op`, at which the walk halts.

        Raises:
          ValueError: the op is no halt, or behind the walk.
        """
        while self.halted_at is not op:
            if self._next >= self.stretches:
                raise ValueError(f"The walk does not come to {op.label} at {op.key!r}.")
            self.run_next(changed)
