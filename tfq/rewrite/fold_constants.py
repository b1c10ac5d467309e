"""Ops that read constants only become constants.

    op(c1, c2, ...)  ->  c

LiteRT itself computes them, all at once, so the result is what the model would have computed.
QUANTIZE, FAKE_QUANT and DEQUANTIZE stay: they carry ranges that training chose. The exception is
DEQUANTIZE of a float16 constant, which is only a way to store float32 weights in half the space.
"""

from __future__ import annotations

from tfq.graph.effects import is_pure
from tfq.graph.model import Graph, Model, Op, Tensor
from tfq.rewrite.core import Applied, View
from tfq.runtime import Runner

NAME = "fold_constants"

_TYPES = frozenset(
    ["float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "uint32", "bool"]
)


def foldable(graph: Graph, kept: frozenset[Tensor]) -> list[Op]:
    """The ops whose every input is known before the model runs, in execution order."""
    known: set[Tensor] = set()
    ops = []
    for op in graph.ops:
        inputs = [t for t in op.inputs if t is not None]
        if not inputs or not is_pure(op):
            continue
        if not all(t.is_const or t in known for t in inputs):
            continue
        tensors = [*inputs, *op.outputs]
        if any(t.dtype not in _TYPES or t.quant is not None for t in tensors):
            continue
        if any(t in kept for t in op.outputs):
            continue
        known.update(op.outputs)
        ops.append(op)
    return ops


def run(view: View) -> list[Applied]:
    """Folds every foldable op of the graph."""
    ops = foldable(view.graph, view.kept)
    if not ops:
        return []
    folded = set(ops)
    wanted = [t for op in ops for t in op.outputs if any(r not in folded for r in view.readers(t))]
    applied = [Applied(rewrite=NAME, where=op.outputs[0].name, op=op.label) for op in ops]
    if wanted:
        graph = Graph("constants", ops, [], wanted)
        runner = Runner(Model([graph]).to_bytes(), kernels="builtin")
        runner.invoke()
        for tensor, detail in zip(wanted, runner.outputs, strict=True):
            values = runner.tensor(detail["index"])
            tensor.shape = tuple(values.shape)
            view.make_const(tensor, values)
    return applied
