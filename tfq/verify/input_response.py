"""How a network answers to images of a certain scale: what tells photos divided by 255 from others.

Three figures, over some samples x:

    reach    median over channels of the standard deviation of the first layer's W x, divided by the
             median of |b|. The biases of trained layers (with what batch normalization folds into
             them) are about as large as the responses that they were trained with.
    change   median over weighted layers of the part of an activation that differs between samples:
             the standard deviation between samples over the RMS. Where biases outweigh the input,
             all samples look alike.
    clipped  share of the first layer's positive responses that its ReLU6 cuts off.

Measured on 13 public networks (9 of MediaPipe, 2 face detectors, MobileNet v1, FER) and the example
of this project, with photos (digits) scaled as in training, 255 times too small and 255 times too
large:

               too small          as in training      too large
    reach      0.0008 to 0.0082   0.21 to 2.1         53 to 530
    change     0.007 to 0.073     0.43 to 0.70        0.28 to 0.69
    clipped    0                  0 to 0.04           0.75 to 0.97  (5 networks with a ReLU6 there)

Networks without batch normalization that were trained on bytes can have a large reach too. So too
small takes reach and change, too large reach and clipped, with thresholds far from both sides.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np

from tfq.graph.model import Graph, Model, Op, Tensor
from tfq.graph.optable import Kind, spec
from tfq.observe.loop import observe
from tfq.observe.observer import Read
from tfq.observe.values import ValuesObserver

_FAINT, _ALIKE = 0.04, 0.18
_LOUD, _CLIPPED = 20.0, 0.5
# What reach is where samples are scaled as in training, with room on both sides.
_USUAL = (0.05, 10.0)

_ELEMENTS = 4096  # Of an activation, looked at for `change`.
_RELU6 = 3

Samples = Sequence[np.ndarray]


class Network:
    """A float network with one input, ready to be asked.

    Args:
      model: static shapes, float32.
    """

    def __init__(self, model: Model):
        self._model = model
        (self._input,) = model.main.inputs
        self._weighted = [op for op in model.main.ops if _is_weighted(op)]
        self._first = next((o for o in self._weighted if _reads(model.main, o, self._input)), None)
        self._bias = None if self._first is None else _bias(self._first)

    @property
    def speaks(self) -> bool:
        """Whether the first layer has biases to compare with; untrained ones are zero."""
        return self._bias is not None and bool(np.median(np.abs(self._bias)) > 0)

    def is_faint(self, samples: Samples, louder: Samples) -> bool:
        """Whether `samples` are far too small for the network, and `louder` are not.

        Args:
          samples: each as the input takes it.
          louder: the same on the scale that is supposed to be right.
        """
        if self._reach(samples) >= _FAINT or not _USUAL[0] < self._reach(louder) < _USUAL[1]:
            return False
        return self._change(samples) < _ALIKE < self._change(louder)

    def is_loud(self, samples: Samples, fainter: Samples) -> bool:
        """Whether `samples` are far too large for the network, and `fainter` are not."""
        if not self._is_clipping() or self._reach(samples) <= _LOUD:
            return False
        if not _USUAL[0] < self._reach(fainter) < _USUAL[1]:
            return False
        return self._clipped(samples) > _CLIPPED > 2 * self._clipped(fainter)

    def _responses(self, samples: Samples) -> np.ndarray:
        """W x + b of the first layer, [n, channels]."""
        assert self._first is not None
        kept = ValuesObserver([Read(self._first.outputs[0].name)])
        self._observe(_up_to(self._model.main, self._first), samples, kept)
        rows = [y.reshape(-1, y.shape[-1]) for (y,) in kept.result()]
        return np.concatenate(rows).astype(np.float64)

    def _observe(self, model: bytes, samples: Samples, kept: ValuesObserver) -> None:
        observe(model, ({self._input.name: x} for x in samples), [kept])

    def _reach(self, samples: Samples) -> float:
        assert self._bias is not None
        deviation = self._responses(samples).std(axis=0)
        return float(np.median(deviation) / np.median(np.abs(self._bias)))

    def _clipped(self, samples: Samples) -> float:
        y = self._responses(samples)
        return float(np.sum(y >= 6) / max(float(np.sum(y > 0)), 1.0))

    def _is_clipping(self) -> bool:
        """Whether a ReLU6 is what the first layer's output goes into."""
        assert self._first is not None
        if getattr(self._first.options, "fusedActivationFunction", 0) == _RELU6:
            return True
        readers = self._model.main.consumers().get(self._first.outputs[0], [])
        return [op.name for op, _ in readers] == ["RELU6"]

    def _change(self, samples: Samples) -> float:
        kept = ValuesObserver([Read(op.outputs[0].name) for op in self._weighted], part=_some)
        self._observe(self._model.to_bytes(), samples, kept)
        stacked = [
            np.stack(values).astype(np.float64) for values in zip(*kept.result(), strict=True)
        ]
        parts = [
            np.sqrt(np.mean(a.var(axis=0)) / power)
            for a in stacked
            if (power := np.mean(np.square(a))) > 0
        ]
        return float(np.median(parts)) if parts else 0.0


def _is_weighted(op: Op) -> bool:
    s = spec(op.name)
    if s is None or s.kind is not Kind.WEIGHTED or s.weights is None:
        return False
    weights = op.inputs[s.weights]
    return weights is not None and weights.is_const and op.outputs[0].dtype == "float32"


def _bias(op: Op) -> np.ndarray | None:
    s = spec(op.name)
    place = None if s is None else s.bias
    bias = op.inputs[place] if place is not None and len(op.inputs) > place else None
    return bias.values() if bias is not None and bias.is_const else None


def _needed(graph: Graph, op: Op) -> list[Op]:
    """`op` and all ops before it, in their order."""
    producers = graph.producers()
    wanted, left = {op}, [op]
    while left:
        for t in left.pop().inputs:
            before = producers.get(t) if t is not None else None
            if before is not None and before not in wanted:
                wanted.add(before)
                left.append(before)
    return [o for o in graph.ops if o in wanted]


def _reads(graph: Graph, op: Op, start: Tensor) -> bool:
    return any(start in o.inputs for o in _needed(graph, op))


def _up_to(graph: Graph, op: Op) -> bytes:
    """The part of a graph that computes `op`, which then has no activation function."""
    options = copy.copy(op.options)
    if hasattr(options, "fusedActivationFunction"):
        options.fusedActivationFunction = 0
    ops = [dataclasses.replace(o, options=options) if o is op else o for o in _needed(graph, op)]
    return Model([Graph(graph.name, ops, list(graph.inputs), list(op.outputs))]).to_bytes()


def _some(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(-1)
    return flat[:: max(1, flat.size // _ELEMENTS)]
