"""What layers are to compute: channel means of the float model, sample by sample.

One run of the float model a sample. Fused activations are taken apart for it, so that the values
before the activation can be read too: these say how far a channel is off whose outputs are clipped.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.graph.model import Graph, Model, Op, Tensor
from tfq.observe import Observer, Read, observe

_ACT = schema.ActivationFunctionType
_APART = {_ACT.RELU: "RELU", _ACT.RELU6: "RELU6", _ACT.RELU_N1_TO_1: "RELU_N1_TO_1"}


@dataclasses.dataclass(frozen=True)
class Target:
    """Channel means of one layer of the float model.

    Attributes:
      outputs: real means over all positions, float64 [samples, channels].
      arguments: the same of what its fused activation is of; the same array where it has none.
    """

    outputs: np.ndarray
    arguments: np.ndarray


def measure_targets(
    model: Model,
    names: Collection[str],
    samples: Sequence[Mapping[str, np.ndarray]],
    *,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Target]:
    """Runs a float model.

    Args:
      model: it is not changed.
      names: of outputs of layers in its main graph.
      samples: tensor name -> float values.
      tick: called after each sample.
    """
    apart, arguments = _apart(model, set(names))
    seen = {n: MeansObserver(Read(n)) for n in (*names, *arguments.values())}
    observe(apart.to_bytes(), samples, list(seen.values()), progress=lambda done: tick())
    found = {n: observer.result() for n, observer in seen.items()}
    return {n: Target(found[n], found[arguments.get(n, n)]) for n in names}


class MeansObserver(Observer):
    """Keeps the channel means of every sample."""

    def __init__(self, tensor: Read):
        self.tensors = (tensor,)
        self._means: dict[int, np.ndarray] = {}

    def update(self, number: int, values: Sequence[np.ndarray]) -> None:
        self._means[number] = channel_means(values[0])

    def merge(self, other: Observer) -> None:
        assert isinstance(other, MeansObserver)
        self._means |= other._means

    def result(self) -> np.ndarray:
        """float64 [samples, channels]."""
        return np.array([self._means[n] for n in sorted(self._means)])


def _apart(model: Model, names: Collection[str]) -> tuple[Model, dict[str, str]]:
    """The model with activations of layers as ops of their own; output -> argument, by name."""
    taken = {t.name for t in model.main.tensors()}
    arguments: dict[str, str] = {}
    ops: list[Op] = []
    for op in model.main.ops:
        act = _APART.get(getattr(op.options, "fusedActivationFunction", _ACT.NONE))
        out = op.outputs[0] if op.outputs else None
        if act is None or out is None or out.name not in names:
            ops.append(op)
            continue
        name = f"{out.name}/argument"
        while name in taken:
            name += "_"
        taken.add(name)
        between = Tensor(name, out.shape, out.dtype, signature=out.signature)
        options = copy.copy(op.options)
        options.fusedActivationFunction = _ACT.NONE
        ops.append(dataclasses.replace(op, outputs=[between], options=options))
        ops.append(Op(act, [between], [out]))
        arguments[out.name] = name
    main = Graph(model.main.name, ops, model.main.inputs, model.main.outputs)
    return Model([main, *model.graphs[1:]]), arguments


# float32 sums of so many rows lose nothing that shows; float64 takes over from there.
_ROWS = 256

# Shorter rows than this are added side by side, or numpy's loop overhead dominates.
_WIDTH = 1024


def channel_means(values: np.ndarray) -> np.ndarray:
    """Mean over all but the last axis, float64 [channels].

    float32 additions of whole rows are several times faster than numpy's mixed-type sums.
    """
    channels = values.shape[-1] if values.ndim else 1
    flat = values.reshape(-1)
    side = max(1, _WIDTH // channels)
    width = channels * side
    whole = flat.size // width
    total = np.zeros(width, np.float64)
    rows = flat[: whole * width].reshape(whole, width)
    for start in range(0, whole, _ROWS):
        block = rows[start : start + _ROWS].astype(np.float32, copy=False)
        total += block.sum(axis=0)
    rest = flat[whole * width :].reshape(-1, channels).astype(np.float32, copy=False)
    means = total.reshape(side, channels).sum(axis=0) + rest.sum(axis=0)
    return means * (channels / flat.size)
