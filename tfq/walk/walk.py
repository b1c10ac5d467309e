"""The walk: an integer model layer by layer, with the float model beside it.

    with Walk(emitted, samples, float_model=model) as walk:
        for layer in walk:
            layer.replace(3, better_bias(layer))

All samples have come as far as `layer` when it is given out, through everything that was replaced
before. It runs, as it is then, when the loop asks for the next. The loop may stop anywhere: what
was replaced is in `walk.model`, and `for layer in walk` goes on from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from tfq.errors import ModelError, TfqError
from tfq.graph.boundary import InputQuantizer
from tfq.graph.model import Model, Op
from tfq.graph.optable import Kind, spec
from tfq.quantize.emit import Emitted
from tfq.walk.layer import Layer
from tfq.walk.obstacles import obstacle_to_walk
from tfq.walk.store import MEMORY
from tfq.walk.stretches import GraphWalk
from tfq.walk.targets import Target, measure_targets

Inputs = Mapping[str, np.ndarray]


class Walk:
    """A walk through an emitted model. A context manager; an iterator of `Layer`.

    Args:
      emitted: the integer model; it is not changed.
      samples: tensor name -> values, float ones as real numbers.
      layers: where to halt, by the name of a layer's output in the float model; None: at all.
      float_model: the prepared float model: gives layers their `target`.
      float_values: whether layers have `float_inputs` too, for which the float model is walked.
      memory: bytes that each side's values may take between two layers; what is beyond goes into
        files in the temporary folder.
      progress: called with (done, total); a run of the float model counts one, as does a layer.

    Raises:
      ModelError: the model has an `obstacle_to_walk`.
    """

    def __init__(
        self,
        emitted: Emitted,
        samples: Sequence[Inputs],
        *,
        layers: Collection[str] | None = None,
        float_model: Model | None = None,
        float_values: bool = False,
        memory: int = MEMORY,
        progress: Callable[[int, int], None] | None = None,
    ):
        reason = obstacle_to_walk(emitted.model)
        if not reason and float_values and float_model is not None:
            reason = obstacle_to_walk(float_model)
        if reason:
            raise ModelError(f"The model cannot be walked layer by layer: {reason}.")
        self.emitted = emitted
        self._names = {
            op: name
            for op, name in _layers(emitted).items()
            if layers is None or name in set(layers)
        }
        self._changed: dict[Op, Op] = {}
        self._pending: tuple[Op, Layer] | None = None
        self._done = 0
        self._total = 0
        self._progress = progress
        self.integer = GraphWalk(emitted.model, set(self._names), memory)
        self.floating: GraphWalk | None = None
        self._producers: dict[str, Op] = {}
        self._targets: dict[str, Target] = {}
        try:
            self._start(samples, float_model, float_values, memory)
        except BaseException:
            self.close()
            raise

    def _start(
        self, samples: Sequence[Inputs], float_model: Model | None, float_values: bool, memory: int
    ) -> None:
        self._total = self.integer.stretches
        if float_model is not None:
            self._producers = {op.outputs[0].name: op for op in float_model.main.ops if op.outputs}
            missing = [n for n in self._names.values() if n not in self._producers]
            if missing:
                raise TfqError(f"The float model computes no {missing[0]!r}.")
            self._total += len(samples)
            self._targets = measure_targets(
                float_model, list(self._names.values()), samples, tick=self._tick
            )
            if float_values:
                halts = {self._producers[n] for n in self._names.values()}
                self.floating = GraphWalk(float_model, halts, memory)
                self.floating.feed(samples)
        feed = InputQuantizer(self.emitted.model)
        self.integer.feed(feed(sample) for sample in samples)

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees all values, and removes their files."""
        self.integer.close()
        if self.floating is not None:
            self.floating.close()

    def _tick(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)

    def __iter__(self) -> Iterator[Layer]:
        return self

    def __next__(self) -> Layer:
        """The next layer; what came before it runs first."""
        if self._pending is not None:
            op, layer = self._pending
            if layer.op is not op:
                self._changed[op] = layer.op
            self._pending = None
        if self.integer.done == self.integer.stretches:
            raise StopIteration
        self.integer.run_next(self._changed)
        self._tick()
        halted = self.integer.halted_at
        if halted is None:
            raise StopIteration
        layer = self._layer(halted)
        self._pending = (halted, layer)
        return layer

    def _layer(self, op: Op) -> Layer:
        name, row = self._names[op], spec(op.name)
        producer = self._producers.get(name)
        assert row is not None
        assert row.data is not None
        i = row.data[0]
        given = None
        if self.floating is not None and producer is not None:
            self.floating.run_until(producer)
            given = self.floating.boundary[producer.input(i)]
        x = self.integer.boundary[op.input(i)]
        target = self._targets.get(name)
        return Layer(name, op, row, x, given, producer, target, self.emitted.model)

    def outputs(self) -> dict[str, Sequence[np.ndarray]]:
        """The integer outputs of all samples by tensor name, after the last layer.

        Raises:
          ValueError: the walk has not come to the end.
        """
        if self.integer.done < self.integer.stretches:
            raise ValueError("The walk has not come to the end.")
        outputs = self.emitted.model.main.outputs
        return {t.name: self.integer.boundary[t] for t in outputs if not t.is_const}

    @property
    def model(self) -> Model:
        """The integer model with everything that has been replaced; the same tensors otherwise."""
        if self._pending is None:
            return with_ops(self.emitted.model, self._changed)
        op, layer = self._pending
        return with_ops(self.emitted.model, {**self._changed, op: layer.op})


def _layers(emitted: Emitted) -> dict[Op, str]:
    """Weighted ops with constant integer weights, and their names in the float model, in order."""
    names = {t: name for name, t in emitted.tensors.items()}
    found = {}
    for op in emitted.model.main.ops:
        row = spec(op.name)
        if row is None or row.kind is not Kind.WEIGHTED or row.weights is None or not row.data:
            continue
        w, x = op.input(row.weights), op.input(row.data[0])
        integer = w.is_const and w.quant is not None and x.quant is not None
        if integer and not x.is_const and op.outputs[0] in names:
            found[op] = names[op.outputs[0]]
    return found


def with_ops(model: Model, changed: Mapping[Op, Op]) -> Model:
    """The model with ops of its main graph replaced by others with the same outputs.

    No op object is shared, so that neither model changes with the other; tensors are.
    """
    ops = [dataclasses.replace(changed.get(op, op)) for op in model.main.ops]
    main = dataclasses.replace(model.main, ops=ops)
    return dataclasses.replace(model, graphs=[main, *model.graphs[1:]])
