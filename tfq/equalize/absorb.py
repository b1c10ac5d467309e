"""High biases move into the layer behind (Nagel et al. 2019, section 4.1.3).

Where a channel of y = relu(W x + b) never falls below c > 0, a part of its range is never used:

    b -= c,   and in each layer that reads y:   b' += W' c

leaves the function where y stays above c, and the grid of y spans less. In the paper c is the mean
less three standard deviations of a BatchNorm; here it is no more than the smallest value that the
samples have, on which nothing changes at all. A layer that pads with zeros reads these beside the
shifted values, so that no one bias makes up for it: such are left alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.equalize.channels import input_channels
from tfq.equalize.rescale import count_uses, own_bias, shown_tensors
from tfq.errors import UsageError
from tfq.graph.model import Graph, Model, Op, Tensor
from tfq.observe.channels import ChannelObserver, ChannelStatistics
from tfq.observe.loop import observe
from tfq.observe.observer import Read
from tfq.rewrite.core import copy_model
from tfq.rewrite.match import ACT, WEIGHTED, activation, is_float, static
from tfq.rewrite.prepare import Prepared, written

# A grid is worth changing if it spans no more than this part of what it did.
_WORTH = 0.9

# Samples that are looked at first.
_LOOK = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Absorption:
    """A layer whose biases can move, and the layers that take them."""

    op: Op
    readers: tuple[Op, ...]


def find_absorptions(graph: Graph, shown: Iterable[Tensor] = ()) -> dict[str, Absorption]:
    """By the name of the layer's output, in order of execution.

    Args:
      graph: prepared; every layer has a bias.
      shown: tensors beyond the graph's inputs and outputs that are seen from outside (signatures').
    """
    kept = {*graph.inputs, *graph.outputs, *shown}
    readers: dict[Tensor, list[tuple[Op, int]]] = {}
    for op in graph.ops:
        for i, t in enumerate(op.inputs):
            if t is not None:
                readers.setdefault(t, []).append((op, i))
    found = {}
    for op in graph.ops:
        if op.name not in WEIGHTED or activation(op) not in (ACT.NONE, ACT.RELU):
            continue
        out, uses = op.outputs[0], readers.get(op.outputs[0], [])
        if out in kept or out.is_variable or not static(out) or not _has_bias(op) or not uses:
            continue
        if all(_takes(reader, i) for reader, i in uses):
            found[op.key] = Absorption(op, tuple(reader for reader, _ in uses))
    return found


def _has_bias(op: Op) -> bool:
    bi = WEIGHTED[op.name][2]
    bias = op.inputs[bi] if bi < len(op.inputs) else None
    return bias is not None and bias.is_const and is_float(bias)


def _takes(op: Op, i: int) -> bool:
    """Whether a constant added to all that an op reads as input `i` is the same as a bias."""
    if op.name not in WEIGHTED or op.name == "TRANSPOSE_CONV" or i != WEIGHTED[op.name][0]:
        return False
    w = op.input(WEIGHTED[op.name][1])
    known = w.is_const and is_float(w) and _has_bias(op) and static(op.input(i))
    return known and input_channels(op) is not None and not pads(op)


def pads(op: Op) -> bool:
    """Whether a convolution reads zeros beside its input."""
    if op.name == "FULLY_CONNECTED" or op.options.padding != schema.Padding.SAME:
        return False
    o, (_, height, width, _) = op.options, op.input(WEIGHTED[op.name][1]).shape
    x, out = op.input(0).shape, op.outputs[0].shape
    return any(
        (out[axis] - 1) * stride + (size - 1) * dilation + 1 > x[axis]
        for axis, size, stride, dilation in (
            (1, height, o.strideH, o.dilationHFactor),
            (2, width, o.strideW, o.dilationWFactor),
        )
    )


def amounts(seen: ChannelStatistics) -> np.ndarray:
    """How much of each channel's bias moves: no more than brings the largest range down to the
    smallest that there can be; 0 where the gain is small. float64 [channels]."""
    spare = np.maximum(seen.low, 0.0)
    least = float(np.max(seen.high - spare, initial=0.0))
    if not 0 < least <= _WORTH * float(np.max(seen.high, initial=0.0)):
        return np.zeros(seen.low.size)
    return np.clip(seen.high - least, 0.0, spare)


def find_amounts(
    prepared: Prepared, samples: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, tuple[float, ...]]:
    """Amounts of all layers with high biases, by the name of the layer's output.

    Args:
      prepared: its float model runs the samples.
      samples: tensor name -> float values.
    """
    found = find_absorptions(prepared.model.main, shown_tensors(prepared.model))
    if not found or not samples:
        return {}
    moved: dict[str, np.ndarray] = {}
    sizes = {n: a.op.outputs[0].shape[-1] for n, a in found.items()}
    for some in (samples[:_LOOK], samples):
        # What a few samples rule out, more cannot bring back.
        seen = {n: ChannelObserver(Read(n), sizes[n]) for n in moved or found}
        observe(prepared.bytes, some, list(seen.values()))
        moved = {n: m for n, o in seen.items() if (m := amounts(o.result())).any()}
        if not moved:
            return {}
    # float32, as the biases are.
    return {n: tuple(map(float, m.astype(np.float32))) for n, m in moved.items()}


def absorb(model: Model, moved: Mapping[str, Sequence[float]]) -> Model:
    """A copy of a prepared float model with parts of biases moved into the layers behind.

    Args:
      model: left as it is.
      moved: name of a layer's output -> what is taken from each of its biases.

    Raises:
      UsageError: there is no such layer, or it has another number of channels.
    """
    result = copy_model(model)
    graph = result.main
    found = find_absorptions(graph, shown_tensors(result))
    uses, names = count_uses(graph), {t.name for t in graph.tensors()}
    for name, values in moved.items():
        where = found.get(name)
        if where is None or where.op.outputs[0].shape[-1] != len(values):
            raise UsageError(
                f"The plan moves {len(values)} biases of {name!r}, which this model does not let "
                "be moved. Undo the last edit, or make a new plan with --plan_out."
            )
        c = np.array(values, np.float64)
        _add(own_bias(where.op, uses, names), -c)
        for reader in where.readers:
            _add(own_bias(reader, uses, names), _response(reader, c))
    return result


def _response(op: Op, c: np.ndarray) -> np.ndarray:
    """What a layer adds up for inputs that are `c` everywhere; float64 [output channels]."""
    where = input_channels(op)
    assert where is not None  # `_takes` asks for it.
    axis, repeats = where
    w = op.input(WEIGHTED[op.name][1]).values().astype(np.float64)
    each = np.repeat(c, repeats)
    along = [1] * w.ndim
    along[axis] = -1
    # A dense layer may flatten its input; channels vary fastest.
    products = w * np.tile(each, w.shape[axis] // each.size).reshape(along)
    outputs = WEIGHTED[op.name][3]
    return products.sum(axis=tuple(i for i in range(w.ndim) if i != outputs))


def _add(bias: Tensor, values: np.ndarray) -> None:
    bias.data = (bias.values().astype(np.float64) + values.reshape(bias.shape)).astype(np.float32)


def absorb_prepared(prepared: Prepared, moved: Mapping[str, tuple[float, ...]]) -> Prepared:
    """The same with biases moved; see `absorb`. It comes after any rescaling."""
    if not moved:
        return prepared
    model, data, sha = written(absorb(prepared.model, moved))
    return dataclasses.replace(prepared, model=model, bytes=data, sha256=sha, absorbed=dict(moved))
