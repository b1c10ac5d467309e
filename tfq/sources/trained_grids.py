"""The grids of quantization-aware training, from marks in a converted file to what a file can hold.

`tfq.keras` marks a quantized value as the custom op TfqQuantize(x, scale, zero point). Here

    a computed x    becomes   x -> QUANTIZE (int8 or int16, the exact grid) -> DEQUANTIZE
    a constant x    becomes   the constant float32(q * scale), and a record of its grid

with q = clip(rint(x / scale)), as training computes it in float32. The records are in the file's
metadata, since the weights move on before they become integers: a JSON list of objects with `name`,
`bits`, `axis` (-1: one scale), `scales`, `shape` and `integers` (int8, base64).
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfq.errors import ModelError
from tfq.graph.effects import is_repeatable
from tfq.graph.model import Graph, Model, Op, Quant, Tensor, options_type
from tfq.graph.numerics import MIN_TRAINED_SCALE
from tfq.runtime import Runner
from tfq.sources.layers import layer_names

NAME = "TfqQuantize"
METADATA = "tfq_trained_weights"

# What states the shape of a mark's result while a graph is converted.
SHAPES = frozenset({"EnsureShape", "FlexEnsureShape"})

_LARGEST = 1e30

_FURTHER = (
    "Train again from the last good weights with a lower learning rate or with gradients clipped, "
    "or leave the layer out of quantization."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """The grid and the integers of one quantized constant.

    Attributes:
      name: where it comes from, for messages.
      bits: 8, 4 or 2; integers are in [-(2^(bits-1) - 1), 2^(bits-1) - 1].
      axis: the dimension that `scales` runs along, or -1 for one scale.
      scales: float32 [C] or [1].
      integers: int8, the constant's shape in the source.
    """

    name: str
    bits: int
    axis: int
    scales: np.ndarray
    integers: np.ndarray

    @staticmethod
    def of(
        name: str, x: np.ndarray, scales: np.ndarray, bits: int, axis: int
    ) -> tuple[Record, np.ndarray]:
        """The record of float32 `x`, and the constant on the grid."""
        data = on_grid(x, scales, bits, axis)
        steps = _along(scales, axis, data.ndim)
        q = np.rint(data / steps).astype(np.int8)
        return Record(name, bits, axis, np.asarray(scales, np.float32).reshape(-1), q), data

    @staticmethod
    def from_json(said: Mapping[str, Any]) -> Record:
        q = np.frombuffer(base64.b64decode(said["integers"]), np.int8).reshape(said["shape"])
        scales = np.array(said["scales"], np.float32)
        name, bits, axis = str(said["name"]), said["bits"], said["axis"]
        sizes = {1} if axis == -1 else {1, q.shape[axis]}
        sound = scales.ndim == 1 and scales.size in sizes and np.isfinite(scales).all()
        if bits not in (2, 4, 8) or not sound:
            raise ValueError(f"the weights {name!r} have no grid")
        return Record(name, bits, axis, scales, q)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "bits": self.bits,
            "axis": self.axis,
            "scales": [float(s) for s in self.scales],
            "shape": list(self.integers.shape),
            "integers": base64.b64encode(self.integers.tobytes()).decode(),
        }


@dataclasses.dataclass(frozen=True)
class _Mark:
    """One mark: its grid, and what it applies to."""

    bits: int
    axis: int
    narrow: bool
    scale: np.ndarray
    zero_point: np.ndarray


def is_mark(op: Op) -> bool:
    return op.name == "CUSTOM" and op.custom_code == NAME


def without_marks(data: bytes, layers: Iterable[str], records: Iterable[Record] = ()) -> bytes:
    """Replaces the marks of all graphs of a file, and writes the records of constants.

    Args:
      layers: names of the layers that the source has, as far as they are known.
      records: of constants that are on their grid already.

    Raises:
      ModelError: a grid is none (NaN, not positive), or of a kind that no file can hold.
    """
    found = list(records)
    if not found and NAME.encode() not in data:
        return data
    model = Model.from_bytes(data)
    named = layer_names(model, layers)
    invariants = _loop_invariants(model)
    for graph in model.graphs:
        _replace(graph, invariants, named, found)
        _shorten_names(graph)
    model.metadata[METADATA] = json.dumps([r.as_json() for r in found]).encode()
    return model.to_bytes()


# What freezing puts before the name of an op for each function it was in.
_CALLS = re.compile(r"\b(?:Stateful)?PartitionedCall(?:_\d+)?/")


def _shorten_names(graph: Graph) -> None:
    """Takes the calls that freezing resolved out of the names inside the graph."""
    border = {*graph.inputs, *graph.outputs}
    for t in graph.tensors():
        if t not in border:
            t.name = _CALLS.sub("", t.name) or t.name


def _replace(
    graph: Graph,
    invariants: Mapping[Tensor, np.ndarray],
    layers: Mapping[str, str],
    records: list[Record],
) -> None:
    kept: list[Op] = []
    # By what they do: one layer called twice marks its kernel twice, and it is one constant.
    done: dict[tuple[Any, ...], Tensor] = {}
    for op in [op for op in graph.ops if op.custom_code in SHAPES]:
        _pass_on(op, graph)
        graph.ops.remove(op)
    for op in graph.ops:
        if not is_mark(op):
            kept.append(op)
            continue
        layer = _layer(op, layers)
        known = [_constant(op.input(i), graph, kept, invariants) for i in range(3)]
        mark = _read(op, known[1], known[2], layer)
        x, y = op.input(0), op.outputs[0]
        weights = known[0]
        if weights is None or not (mark.narrow or mark.bits < 8):
            kept += _pair(op, mark, layer)
            continue
        checked_scales(mark.scale, mark.zero_point, mark.bits, layer)
        same = (x, mark.bits, mark.axis, mark.scale.tobytes())
        if same in done:
            graph.replace_uses(y, done[same])
            _replace_uses(kept, y, done[same])
            continue
        record, y.data = Record.of(layer, weights, mark.scale, mark.bits, mark.axis)
        y.shape, y.signature = y.data.shape, None
        done[same] = y
        records.append(record)
    graph.ops = kept
    graph.prune()


def without_pairs(data: bytes) -> bytes:
    """The same file without QUANTIZE and DEQUANTIZE pairs: activations are not rounded."""
    model = Model.from_bytes(data)
    for graph in model.graphs:
        producers = graph.producers()
        for op in [op for op in graph.ops if op.name == "DEQUANTIZE"]:
            before = producers.get(op.input(0))
            if before is None or before.name != "QUANTIZE" or before.input(0).dtype != "float32":
                continue
            x, y = before.input(0), op.outputs[0]
            if y in graph.outputs and (x in graph.outputs or x not in producers):
                continue  # Nothing but the pair makes the output.
            op.inputs = [x]
            _pass_on(op, graph)
            graph.ops.remove(op)
            producers = graph.producers()
        graph.prune()
    return model.to_bytes()


def on_grid(values: np.ndarray, scale: np.ndarray, bits: int, axis: int) -> np.ndarray:
    """float32(q * scale), with q of `values` as the marker computes it: in float32, half to even.

    Args:
      values: float32, any shape.
      scale: float32, one, or one per entry along `axis`.
      bits: q is in [-(2^(bits-1) - 1), 2^(bits-1) - 1].
      axis: -1 for one scale.
    """
    top = 2 ** (bits - 1) - 1
    steps = _along(scale, axis, values.ndim)
    q = np.clip(np.rint(np.asarray(values, np.float32) / steps), -top, top)
    return np.ascontiguousarray((q * steps + np.float32(0)).astype(np.float32))


def _along(scale: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    steps = np.asarray(scale, np.float32)
    if axis >= 0 and steps.size > 1:
        return steps.reshape([-1 if i == axis else 1 for i in range(ndim)])
    return steps.reshape(-1)[0]


def checked_scales(scale: np.ndarray, zero: np.ndarray, bits: int, layer: str) -> np.ndarray:
    """The scales of weights.

    Raises:
      ModelError: they are no grid, or none that a kernel takes.
    """
    _check(scale, zero, layer)
    if bits > 8:
        raise ModelError(
            f"Training quantized the weights of {layer} to {bits} bits, which no kernel takes. "
            "Give them 8, 4 or 2 bits."
        )
    if np.any(zero != 0):
        raise ModelError(
            f"Training gave the weights of {layer} a zero point, which no kernel takes. Use a "
            "weight quantizer of tfq.keras.quantizers."
        )
    return np.asarray(scale, np.float32)


def _check(scale: np.ndarray, zero: np.ndarray, layer: str) -> None:
    # TensorFlow's converter makes the largest float of an infinity.
    bad = ~(np.isfinite(scale) & (scale > 0) & (scale < _LARGEST))
    if bad.any() or not np.isfinite(zero).all():
        where = f" in {int(bad.sum())} of {scale.size} channels" if scale.size > 1 else ""
        worst = float(scale.reshape(-1)[np.argmax(bad.reshape(-1))])
        if np.isnan(worst):
            raise ModelError(
                f"Training left {layer} without a range: its scale is nan{where}. It has seen no "
                "data, still observes, or training broke it: tfq.keras.check_ranges(model) says "
                "what is wrong. Train it in the 'train' phase, with a lower learning rate or "
                "another quantizer, or leave the layer out of quantization."
            )
        raise ModelError(
            f"Training collapsed the range of {layer}: its scale is {worst:g}{where}. {_FURTHER}"
        )


def _pair(op: Op, mark: _Mark, layer: str) -> list[Op]:
    if mark.bits not in (8, 16) or mark.scale.size != 1 or mark.narrow:
        raise ModelError(
            f"Training quantized an activation at {layer} to {mark.bits} bits"
            f"{' with a scale per channel' if mark.scale.size > 1 else ''}, which no kernel takes. "
            "Activations have 8 or 16 bits and one scale; if these are weights, they must not "
            "depend on the model's input."
        )
    zero = float(mark.zero_point.reshape(-1)[0])
    if zero != round(zero) or not (-128 <= zero <= 127 if mark.bits == 8 else zero == 0):
        raise ModelError(
            f"Training gave the activation at {layer} the zero point {zero:g}; "
            "8 bits take whole numbers from -128 to 127, 16 bits take 0. Use an activation "
            "quantizer of tfq.keras.quantizers."
        )
    if (
        float(mark.scale.reshape(-1)[0]) <= 1.01 * MIN_TRAINED_SCALE
    ):  # The floor of a range from 0 to 0.
        raise ModelError(
            f"Training collapsed the range of {layer}: all values it saw are 0. {_FURTHER}"
        )
    x, y = op.input(0), op.outputs[0]
    y.shape, y.signature = x.shape, x.signature
    grid = Quant.per_tensor(float(mark.scale.reshape(-1)[0]), int(zero))
    q = Tensor(f"{y.name}/quantized", x.shape, f"int{mark.bits}", quant=grid, signature=x.signature)
    return [
        Op("QUANTIZE", [x], [q], options_type("QuantizeOptions")(), version=2),
        Op("DEQUANTIZE", [q], [y], options_type("DequantizeOptions")(), version=3),
    ]


def _read(op: Op, scale: np.ndarray | None, zero: np.ndarray | None, layer: str) -> _Mark:
    from flatbuffers import flexbuffers

    attributes = flexbuffers.Loads(op.custom_options or b"")
    if scale is None or zero is None:
        raise ModelError(
            f"The grid that training gave to {layer} depends on the model's input, so no file can "
            "hold it. Freeze the ranges before the conversion."
        )
    _check(scale, zero, layer)
    axis = int(attributes["axis"])
    if axis >= 0 and scale.size not in (1, op.input(0).shape[axis]):
        raise ModelError(
            f"Training gave {layer} {scale.size} scales for {op.input(0).shape[axis]} channels. "
            "Give one scale, or one per channel."
        )
    return _Mark(int(attributes["bits"]), axis, bool(attributes["narrow"]), scale, np.asarray(zero))


def _layer(op: Op, layers: Mapping[str, str]) -> str:
    # The value that is quantized is another layer's, if it is no weight.
    for t in (*op.outputs, *op.inputs[1:], op.inputs[0]):
        if t is not None and t.name in layers:
            return f"layer {layers[t.name]!r}"
    return f"tensor {op.outputs[0].name!r}"


def _constant(
    t: Tensor, graph: Graph, before: list[Op], invariants: Mapping[Tensor, np.ndarray]
) -> np.ndarray | None:
    """The value of a tensor that does not depend on the graph's inputs; else None."""
    if t.data is not None:
        return t.data
    if t in invariants:
        return invariants[t]
    producers = {out: op for op in before for out in op.outputs}
    needed: set[Op] = set()
    todo = [t]
    while todo:
        tensor = todo.pop()
        if tensor.data is not None:
            continue
        op = producers.get(tensor)
        if op is None or not is_repeatable(op):
            return None
        if op in needed:
            continue
        needed.add(op)
        todo += [i for i in op.inputs if i is not None]
    part = Graph("constants", [op for op in before if op in needed], [], [t])
    runner = Runner(Model([part]).to_bytes(), kernels="builtin")
    runner.invoke()
    return np.array(runner.tensor(runner.outputs[0]["index"]))


def _pass_on(op: Op, graph: Graph) -> None:
    """Lets what made the input of `op` write its output: names at the border stay."""
    x, y = op.input(0), op.outputs[0]
    maker = graph.producers().get(x)
    if y not in graph.outputs or maker is None or x in graph.outputs:
        graph.replace_uses(y, x)
        return
    graph.replace_uses(x, y)
    maker.outputs = [y if t is x else t for t in maker.outputs]


def _loop_invariants(model: Model) -> dict[Tensor, np.ndarray]:
    """Constants that come into the graphs of loops as inputs: what the loop hands on unchanged."""
    found: dict[Tensor, np.ndarray] = {}
    for _ in model.graphs:  # Loops in loops: one level a round.
        before = len(found)
        for op in (op for graph in model.graphs for op in graph.ops if op.name == "WHILE"):
            body = model.graphs[op.options.bodySubgraphIndex]
            for i, t in enumerate(op.inputs):
                value = None if t is None else t.data if t.is_const else found.get(t)
                if value is not None and body.outputs[i] is body.inputs[i]:
                    found[body.inputs[i]] = value
        if len(found) == before:
            break
    return found


def _replace_uses(ops: list[Op], old: Tensor, new: Tensor) -> None:
    for op in ops:
        op.inputs = [new if t is old else t for t in op.inputs]
