"""Takes the grids that training wrote into a graph out of it: QUANTIZE/DEQUANTIZE and FAKE_QUANT.

A converter without optimizations turns every fake-quantizer into a QUANTIZE to UINT8 (UINT4 for 4
bits) followed by a DEQUANTIZE, with the exact scale and zero point; older files hold FAKE_QUANT ops
with a range. Either is an identity on the grid, so the float graph loses the pair and the tensor
before it is remembered with its grid:

    x -> QUANTIZE(s, z) -> DEQUANTIZE -> y     becomes     x, with x on the grid (s, z)

uint8 with zero point z is int8 with z - 128. Weights are gone from here: `trained_weights` takes
theirs before anything is rewritten.

A pair also clamps to what its grid spans, which may be all that is left of a ReLU. What the result
of a conversion is compared with has these clamps: it is what training saw, but for the rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from tfq.errors import ModelError
from tfq.graph.model import Graph, Model, Op, Tensor, options_type
from tfq.graph.numerics import Grid, asymmetric_grid

_SIGNED = {"uint8": ("int8", 128), "uint4": ("int4", 8), "int8": ("int8", 0), "int4": ("int4", 0)}


@dataclasses.dataclass(frozen=True)
class Trained:
    """Grids chosen in training, by the name of the tensor that has them."""

    grids: Mapping[str, Grid]


def take_trained_ranges(model: Model) -> Trained:
    """Removes quantizer pairs from the main graph of `model`, in place, and returns their grids.

    Raises:
      ModelError: two trained grids contradict each other on one tensor.
    """
    graph = model.main
    grids: dict[Tensor, Grid] = {}
    _take_pairs(graph, grids)
    _take_fake_quant(graph, grids)
    if grids:
        graph.prune()
    return Trained({t.name: g for t, g in grids.items()})


def _record(grids: dict[Tensor, Grid], t: Tensor, grid: Grid) -> None:
    if t in grids and grids[t] != grid:
        raise ModelError(
            f"Training gave tensor {t.name!r} two different grids ({grids[t]} and {grid}). "
            f"Use one quantizer per tensor."
        )
    grids[t] = grid


def _signed(dtype: str, grid: Grid) -> Grid:
    if dtype == "int16":
        return grid
    target, offset = _SIGNED[dtype]
    return Grid(target, grid.scale, tuple(z - offset for z in grid.zero_point), grid.axis)


def _take_pairs(graph: Graph, grids: dict[Tensor, Grid]) -> None:
    consumers = graph.consumers()
    gone: set[Op] = set()
    for op in graph.ops:
        if op.name != "QUANTIZE" or op.input(0).dtype != "float32":
            continue
        q = op.outputs[0]
        users = consumers.get(q, [])
        if q.quant is None or q.dtype not in (*_SIGNED, "int16"):
            continue
        if not users or any(u.name != "DEQUANTIZE" for u, _ in users) or q in graph.outputs:
            continue
        _record(grids, op.input(0), _signed(q.dtype, Grid.of(q.dtype, q.quant)))
        for user, _ in users:
            _bypass(graph, grids, op, user)
            gone.add(user)
        gone.add(op)
    graph.ops = [op for op in graph.ops if op not in gone]


def _bypass(graph: Graph, grids: dict[Tensor, Grid], first: Op, last: Op) -> None:
    """Makes the readers of what `last` writes read what `first` reads."""
    x, y = first.input(0), last.outputs[0]
    if y not in graph.outputs:
        graph.replace_uses(y, x)
        return
    # A graph output, which signatures hold and whose name users read: x becomes y.
    producer = next((op for op in graph.ops if x in op.outputs), None)
    if producer is None or x in graph.outputs:
        shape = Tensor(f"{y.name}/shape", (len(x.shape),), "int32", np.array(x.shape, np.int32))
        at = graph.ops.index(last) + 1
        graph.ops.insert(at, Op("RESHAPE", [x, shape], [y], options_type("ReshapeOptions")()))
        return
    producer.outputs = [y if t is x else t for t in producer.outputs]
    graph.replace_uses(x, y)
    _record(grids, y, grids.pop(x))


def _take_fake_quant(graph: Graph, grids: dict[Tensor, Grid]) -> None:
    gone: set[Op] = set()
    for op in graph.ops:
        if op.name != "FAKE_QUANT" or op.options.numBits != 8:
            continue
        _record(grids, op.input(0), asymmetric_grid(float(op.options.min), float(op.options.max)))
        _bypass(graph, grids, op, op)
        gone.add(op)
    graph.ops = [op for op in graph.ops if op not in gone]


def with_clamps(prepared: bytes, grids: Mapping[str, Grid]) -> bytes:
    """The float model with each tensor that has a trained grid clamped to the range of the grid.

    Args:
      prepared: a model without quantizer pairs.
      grids: by tensor name.

    Returns:
      A model of the same inputs and outputs, in which the clamped tensors have the names.
    """
    model = Model.from_bytes(prepared)
    graph = model.main
    producers = graph.producers()
    clamped = [
        t
        for t in graph.tensors()
        if t.name in grids and t.dtype == "float32" and t in producers and len(t.shape) <= 4
    ]
    for t in clamped:
        op, (lo, hi) = producers[t], grids[t.name].range()
        raw, between = (
            Tensor(f"{t.name}/{what}", t.shape, "float32") for what in ("unclamped", "below")
        )
        op.outputs = [raw if o is t else o for o in op.outputs]
        ends = [
            Tensor(f"{t.name}/{what}", (), "float32", np.array(end, np.float32))
            for what, end in (("high", hi), ("low", lo))
        ]
        options = [options_type("MaximumMinimumOptions")() for _ in ends]
        at = graph.ops.index(op) + 1
        graph.ops[at:at] = [
            Op("MINIMUM", [raw, ends[0]], [between], options[0]),
            Op("MAXIMUM", [between, ends[1]], [t], options[1]),
        ]
    return model.to_bytes() if clamped else prepared
