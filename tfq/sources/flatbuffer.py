"""A float `.tflite` file as a source: what it may hold, one signature, float16 weights widened."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfq.errors import ModelError
from tfq.graph.interface import select_signature
from tfq.graph.model import Graph, Model, Op, Tensor
from tfq.graph.optable import MOVES, QUANTIZERS
from tfq.graph.order import sort_ops
from tfq.sources.causes import listed

# Ops that may lie between QUANTIZE and DEQUANTIZE in a float model: they move values about.
_GRID_OPS = QUANTIZERS | MOVES
_INTEGERS = {"int8", "uint8", "int16", "int4", "int2", "uint4"}


def in_order(content: bytes, where: str) -> tuple[bytes, list[str]]:
    """The file with its ops in the order in which they can be computed, and warnings.

    Raises:
      ModelError: the file is damaged.
    """
    try:
        model = Model.from_bytes(content, where=where)
    except MemoryError:
        return content, []  # Whoever runs it will say so.
    moved = [sort_ops(graph) for graph in model.graphs]
    if not any(moved):
        return content, []
    return model.to_bytes(), [
        f"Ops of {where} stand before what they read, which LiteRT's own kernels compute wrongly "
        "(XNNPACK does not): they were sorted. What follows is about the sorted model."
    ]


def refuse_quantized(model: Model, where: str) -> None:
    """Raises ModelError unless every op computes in float (or on plain integers).

    QUANTIZE and DEQUANTIZE around float ops are the ranges that training wrote, and are fine.
    """
    for graph in model.graphs:
        for op in graph.ops:
            if op.name in _GRID_OPS:
                source = op.inputs[0] if op.inputs else None
                if (
                    op.name == "DEQUANTIZE"
                    and source is not None
                    and source.is_const
                    and source.dtype in _INTEGERS
                ):
                    _refuse(where, op, source, "its weights are quantized (weight-only)")
                continue
            for tensor in [*op.inputs, *op.outputs]:
                if tensor is None or tensor.dtype not in _INTEGERS or tensor.quant is None:
                    continue
                if tensor.is_const and not any(
                    t is not None and t.dtype in _INTEGERS and not t.is_const for t in op.inputs
                ):
                    _refuse(where, op, tensor, "its weights are quantized (dynamic range)")
                _refuse(where, op, tensor, "it computes on quantized integers")


def refuse_strings(model: Model, where: str) -> None:
    """Raises ModelError when an input or output holds no numbers."""
    for tensor in [*model.main.inputs, *model.main.outputs]:
        if tensor.dtype in ("string", "resource", "variant"):
            raise ModelError(
                f"{where}: {tensor.name!r} is of type {tensor.dtype}, which has no integer form. "
                "Export the part of the model that takes and gives numbers."
            )


def refuse_empty(model: Model, where: str) -> None:
    """Raises ModelError when an input or output of fixed shape has no element."""
    for tensor in [*model.main.inputs, *model.main.outputs]:
        if 0 in tensor.shape and tensor.signature is None:
            raise ModelError(
                f"{where}: {tensor.name!r} has the shape {list(tensor.shape)}, which holds no "
                "value. Export the model again with a shape that does."
            )


def _refuse(where: str, op: Op, tensor: Tensor, what: str) -> None:
    raise ModelError(
        f"{where} is already quantized: {what}, first at {op.label} with tensor {tensor.name!r} "
        f"({tensor.dtype}). Pass the float model that it was made from."
    )


def widen_float16(model: Model) -> int:
    """Replaces float16 constants behind DEQUANTIZE by float32 ones; returns how many."""
    count = 0
    for graph in model.graphs:
        kept = []
        for op in graph.ops:
            source = op.inputs[0] if op.inputs else None
            if (
                op.name == "DEQUANTIZE"
                and source is not None
                and source.dtype == "float16"
                and source.data is not None
            ):
                op.outputs[0].data = source.data.astype(np.float32)
                count += 1
            else:
                kept.append(op)
        graph.ops = kept
    return count


def keep_signature(model: Model, key: str | None) -> tuple[str | None, list[str]]:
    """Keeps one signature, makes its graph the main one, and drops graphs it does not reach.

    Returns:
      The signature's key (None when the file has none), and warnings.

    Raises:
      UsageError: there is no such signature.
    """
    chosen = select_signature(model, key)
    if chosen is None:
        return None, []
    warnings = []
    others = [s.key for s in model.signatures if s is not chosen]
    if others and key is None:
        warnings.append(
            f"Converted the signature {chosen.key!r}; the file also has {listed(others)}."
        )
    if not others and chosen.graph == 0:
        return chosen.key, warnings
    order = _reachable(model, chosen.graph)
    new_index = {old: new for new, old in enumerate(order)}
    graphs = [model.graphs[i] for i in order]
    for graph in graphs:
        for op in graph.ops:
            for name, old in _graph_references(op):
                setattr(op.options, name, new_index[old])
    model.graphs = graphs
    model.signatures = [dataclasses.replace(chosen, graph=0)]
    return chosen.key, warnings


def _graph_references(op: Op) -> list[tuple[str, int]]:
    """The options of a control flow op that are indices of graphs."""
    options: dict[str, Any] = vars(op.options) if op.options is not None else {}
    return [
        (name, int(value))
        for name, value in options.items()
        if name.lower().endswith("subgraphindex") or name.lower() == "subgraph"
    ]


def _reachable(model: Model, start: int) -> list[int]:
    order, todo = [], [start]
    while todo:
        index = todo.pop(0)
        if index in order:
            continue
        if not 0 <= index < len(model.graphs):
            raise ModelError(f"An op refers to graph {index}, which does not exist.")
        order.append(index)
        graph: Graph = model.graphs[index]
        todo += [i for op in graph.ops for _, i in _graph_references(op)]
    return order
