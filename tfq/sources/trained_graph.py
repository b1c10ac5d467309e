"""Trained grids in a TensorFlow graph, made ready for the converter. Imports TensorFlow.

A mark of `tfq.keras` is a function that implements TfqQuantize; older tools write FakeQuant ops.
On activations the converter handles both. On weights it would take their result for computed, and
then drop the ReLU behind a matrix product, fold no BatchNormalization and leave variables behind.
So the graph is frozen, and quantized constants become constants on their grid, with a record.

Freezing puts the bodies of functions in place of their calls, which would lose the marks. While it
lasts each body is one op with room for all that a mark says: QuantizeAndDequantizeV4.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import saved_model_pb2

from tfq.sources.trained_grids import NAME, Record, checked_scales, on_grid

_CARRIER = "QuantizeAndDequantizeV4"
_FAKE_QUANT = {
    "FakeQuantWithMinMaxArgs",
    "FakeQuantWithMinMaxVars",
    "FakeQuantWithMinMaxVarsPerChannel",
}
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# Constant at all times, or what passes a constant on is not for certain.
_NEVER_CONSTANT = {"Placeholder", "While", "StatelessWhile", "If", "StatelessIf", *_CALLS}


def holds_marks(function: Any) -> bool:
    """Whether a concrete function quantizes with marks or FakeQuant ops."""
    graph = function.graph.as_graph_def()
    if any(_implemented(f) for f in graph.library.function):
        return True
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    return any(n.op in _FAKE_QUANT for n in nodes)


def carry_marks(folder: Path) -> None:
    """Writes every mark of a SavedModel so that it outlives freezing."""
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString(path.read_bytes())
    for meta in saved.meta_graphs:
        for function in meta.graph_def.library.function:
            attributes = _implemented(function)
            if attributes is not None:
                _carry(function, attributes)
    path.write_bytes(saved.SerializeToString(deterministic=True))


def fold_weights(graph: Any) -> list[Record]:
    """Quantized constants of a frozen GraphDef become constants; other marks are marks again.

    Returns:
      A record for each constant.

    Raises:
      ModelError: training collapsed a grid.
    """
    nodes = {n.name: n for n in graph.node}
    constant = _constants(graph.node)
    for name in constant:  # What is constant need not wait for the input.
        before = [i for i in nodes[name].input if not i.startswith("^")]
        del nodes[name].input[:]
        nodes[name].input.extend(before)
    wanted: dict[str, tuple[str, ...]] = {}
    for node in graph.node:
        quantizes = _is_carrier(node) or node.op in _FAKE_QUANT
        if quantizes and node.name in constant:
            wanted[node.name] = tuple(node.input)
    inputs = sorted({t for tensors in wanted.values() for t in tensors})
    carriers = [n.name for n in graph.node if _is_carrier(n)]
    values, shapes = _evaluate(graph, inputs, carriers)
    records: list[Record] = []
    done: dict[tuple[Any, ...], str] = {}
    for name in wanted:
        found = _record(nodes[name], [values[i] for i in wanted[name]])
        if found is None:
            continue
        record, data = found
        # A layer that is called twice marks its kernel twice; it stays one constant.
        key = (wanted[name], record.bits, record.axis)
        if key not in done:
            done[key] = name
            records.append(record)
        node = nodes[name]
        node.Clear()
        node.name, node.op = name, "Const"
        node.attr["dtype"].type = tf.float32.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(data))
    for name in carriers:
        if _is_carrier(nodes[name]):
            call = _mark_again(nodes[name], graph.library, shapes[name])
            nodes[name].input[0] = call.name
            graph.node.append(call)
    for function in graph.library.function:
        for node in [n for n in function.node_def if _is_carrier(n)]:
            call = _mark_again(node, graph.library, None)
            node.input[0] = f"{call.name}:output:0"
            function.node_def.append(call)
    return records


def unquantize(graph: Any) -> None:
    """Leaves a frozen GraphDef its quantized weights only: activations are not rounded."""
    fold_weights(graph)  # The marks it leaves compute nothing.
    for node in [*graph.node, *(n for f in graph.library.function for n in f.node_def)]:
        if node.op in _FAKE_QUANT:
            name, x = node.name, node.input[0]
            node.Clear()
            node.name, node.op = name, "Identity"
            node.input.append(x)
            node.attr["T"].type = tf.float32.as_datatype_enum


def _implemented(function: Any) -> dict[str, int] | None:
    """What a mark's function says, or None for any other function."""
    if "_implements" not in function.attr:  # Reading an absent one would add it.
        return None
    said = function.attr["_implements"].func
    if said.name != NAME:
        return None
    return {key: said.attr[key].i for key in ("bits", "axis", "narrow")}


def _carry(function: Any, said: dict[str, int]) -> None:
    x, scale, zero = (a.name for a in function.signature.input_arg)
    del function.node_def[:]
    node = function.node_def.add()
    node.name, node.op = NAME, _CARRIER
    node.input.extend([x, scale, zero])
    node.attr["T"].type = tf.float32.as_datatype_enum
    node.attr["num_bits"].i = said["bits"]
    node.attr["axis"].i = said["axis"]
    node.attr["narrow_range"].b = bool(said["narrow"])
    node.attr["signed_input"].b = True
    node.attr["range_given"].b = True
    node.attr["round_mode"].s = b"HALF_TO_EVEN"
    (out,) = (a.name for a in function.signature.output_arg)
    function.ret[out] = f"{NAME}:output:0"
    function.control_ret.clear()
    del function.signature.control_output[:]
    del function.attr["_implements"]  # Such functions would not be put in place of their calls.


def _is_carrier(node: Any) -> bool:
    return node.op == _CARRIER and node.name.rsplit("/", 1)[-1].startswith(NAME)


def _constants(nodes: Iterable[Any]) -> set[str]:
    """Names of the nodes that depend on no input. The nodes are in any order."""
    by_name = {n.name: n for n in nodes}
    known: dict[str, bool] = {}
    for start in by_name:
        todo = [start]
        while todo:
            name = todo[-1]
            node = by_name.get(name)
            if name in known or node is None or node.op in _NEVER_CONSTANT:
                known.setdefault(name, False)
                todo.pop()
                continue
            before = [i.split(":")[0] for i in node.input if not i.startswith("^")]
            open_ones = [b for b in before if b not in known]
            if open_ones:
                todo += open_ones
                continue
            random = not before and node.op != "Const"
            known[name] = not random and all(known[b] for b in before)
            todo.pop()
    return {name for name, constant in known.items() if constant}


def _evaluate(
    graph: Any, tensors: list[str], shaped: list[str]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The values of `tensors`, and the static shapes of the results of the nodes `shaped`."""
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    shapes = {n: wrapped.graph.get_tensor_by_name(f"{n}:0").shape for n in shaped}
    if not tensors:
        return {}, shapes
    pruned = wrapped.prune([], [t if ":" in t else f"{t}:0" for t in tensors])
    return {t: v.numpy() for t, v in zip(tensors, pruned(), strict=True)}, shapes


def _record(node: Any, inputs: list[np.ndarray]) -> tuple[Record, np.ndarray] | None:
    """The record and the value on the grid of a quantized constant.

    None for a constant that is no weight: one on an activation's grid.
    """
    x = inputs[0]
    if _is_carrier(node):
        bits, axis = node.attr["num_bits"].i, node.attr["axis"].i
        if not node.attr["narrow_range"].b:
            return None
        scales = checked_scales(inputs[1], inputs[2], bits, f"layer {_scope(node.name)!r}")
        return Record.of(_scope(node.name), x, scales, bits, axis)
    return _fake_quant_record(node, inputs)


def _fake_quant_record(node: Any, inputs: list[np.ndarray]) -> tuple[Record, np.ndarray] | None:
    """As TensorFlow's kernel: the scale is (max - min) / (q_max - q_min), in float32; the value is
    floor((x - min) / scale + 1/2) steps above the minimum."""
    x = inputs[0].astype(np.float32)
    bits, narrow = node.attr["num_bits"].i, node.attr["narrow_range"].b
    if len(inputs) == 1:
        low, high = (np.array(node.attr[k].f, np.float32) for k in ("min", "max"))
    else:
        low, high = inputs[1].astype(np.float32), inputs[2].astype(np.float32)
    steps = np.float32(2**bits - 1 - int(narrow))
    scales = np.asarray((high - low) / steps, np.float32)
    if bits not in (4, 8) or not narrow or not np.allclose(low, -high, rtol=1e-5):
        return None
    # A channel whose range is 0 holds zeros on any grid.
    flat = scales.reshape(-1)
    if not np.isfinite(flat).all():
        return None
    scales = np.where(scales > 0, scales, flat.max() if flat.max() > 0 else np.float32(1))
    axis = x.ndim - 1 if node.op.endswith("PerChannel") else -1
    lowest = -np.float32(steps / 2) * scales
    inverse = np.float32(1) / scales
    q = np.floor((np.clip(x, lowest, -lowest) - lowest) * inverse + np.float32(0.5)) - steps / 2
    data = on_grid(q * scales, scales, bits, axis)
    return Record.of(_scope(node.name), data, scales, bits, axis)


def _scope(name: str) -> str:
    parts = [p for p in name.split("/")[:-1] if not p.startswith(_CALLS)]
    return "/".join(parts) or name


def _mark_again(node: Any, library: Any, shape: Any) -> Any:
    """The call of a function that marks, whose result `node` is to pass on under its own name.

    A call knows no shape of its result, which the converter needs: `node` says it.
    """
    said = {
        "bits": node.attr["num_bits"].i,
        "axis": node.attr["axis"].i,
        "narrow": int(node.attr["narrow_range"].b),
    }
    call = node_def_pb2.NodeDef(name=f"{node.name}/mark", op="PartitionedCall", input=node.input)
    call.attr["f"].func.name = _function(said, library)
    call.attr["Tin"].list.type.extend([tf.float32.as_datatype_enum] * 3)
    call.attr["Tout"].list.type.append(tf.float32.as_datatype_enum)
    name = node.name
    node.Clear()
    node.name, node.op = name, "Identity" if shape is None else "EnsureShape"
    node.input.append(call.name)
    node.attr["T"].type = tf.float32.as_datatype_enum
    if shape is not None:
        node.attr["shape"].shape.CopyFrom(shape.as_proto())
    return call


def _function(said: dict[str, int], library: Any) -> str:
    """The name of a function in `library` that marks. Nobody runs it: its body is the identity."""
    name = f"{NAME}_{said['bits']}_{said['axis']}_{said['narrow']}".replace("-", "m")
    if any(f.signature.name == name for f in library.function):
        return name
    f = library.function.add()
    f.signature.name = name
    for argument in ("x", "scale", "zero_point"):
        f.signature.input_arg.add(name=argument, type=tf.float32.as_datatype_enum)
    f.signature.output_arg.add(name="y", type=tf.float32.as_datatype_enum)
    node = f.node_def.add(name="identity", op="Identity", input=["x"])
    node.attr["T"].type = tf.float32.as_datatype_enum
    f.ret["y"] = "identity:output:0"
    mark = f.attr["_implements"].func
    mark.name = NAME
    mark.attr["tfl_fusable_op"].b = True
    for key, value in said.items():
        mark.attr[key].i = value
    return name
