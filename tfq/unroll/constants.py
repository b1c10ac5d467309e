"""Computes one operator on constants.

Loop counters and index arithmetic are a handful of integer ops, repeated for every step; those are
done in numpy. Everything else runs as a model of one op in the LiteRT interpreter, which is what
the op means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tfq.errors import TfqError
from tfq.graph.effects import is_pure
from tfq.graph.model import Graph, Model, Op, Tensor, numpy_dtype
from tfq.runtime import Runner

_INTEGER: dict[str, Callable[..., np.ndarray]] = {
    "ADD": np.add,
    "EQUAL": np.equal,
    "GREATER": np.greater,
    "GREATER_EQUAL": np.greater_equal,
    "LESS": np.less,
    "LESS_EQUAL": np.less_equal,
    "LOGICAL_AND": np.logical_and,
    "LOGICAL_NOT": np.logical_not,
    "LOGICAL_OR": np.logical_or,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
    "MUL": np.multiply,
    "NOT_EQUAL": np.not_equal,
    "SUB": np.subtract,
}

MAX_ELEMENTS = 1 << 22


def evaluate(op: Op, inputs: Sequence[Tensor | None]) -> list[np.ndarray] | None:
    """The values of `op`'s outputs on constant `inputs`, or None if it is not to be folded.

    SHAPE and RANK need only the static shape of their input. Quantized constants stay as they are,
    because their grid is a decision of the model's author.
    """
    if not op.outputs or not is_pure(op):
        return None
    if op.name in ("SHAPE", "RANK"):
        source = op.input(0)
        source = inputs[0] or source
        if source.signature is not None or not source.has_rank:
            return None
        value = source.shape if op.name == "SHAPE" else len(source.shape)
        return [np.asarray(value, numpy_dtype(op.outputs[0].dtype))]
    present = [t for t in inputs if t is not None]
    if not present or any(t.data is None or t.quant is not None for t in present):
        return None
    if any(t.dtype == "string" for t in [*present, *op.outputs]):
        return None
    values = [t.values() for t in present]
    if sum(v.size for v in values) > MAX_ELEMENTS:
        return None
    quick = _in_numpy(op, values)
    return quick if quick is not None else _in_litert(op, inputs)


def _in_numpy(op: Op, values: list[np.ndarray]) -> list[np.ndarray] | None:
    if any(v.dtype.kind not in "iub" for v in values):
        return None
    if op.options is not None and getattr(op.options, "fusedActivationFunction", None):
        return None
    dtype = numpy_dtype(op.outputs[0].dtype)
    if op.name in _INTEGER:
        return [np.asarray(_INTEGER[op.name](*values)).astype(dtype)]
    if op.name == "RESHAPE" and len(values) == 2:
        return [values[0].reshape([int(d) for d in values[1].reshape(-1)])]
    if op.name == "CONCATENATION":
        return [np.concatenate(values, axis=int(op.options.axis))]
    if op.name == "PACK":
        return [np.stack(values, axis=int(op.options.axis))]
    if op.name == "CAST":
        return [values[0].astype(dtype)]
    return None


def _in_litert(op: Op, inputs: Sequence[Tensor | None]) -> list[np.ndarray] | None:
    arguments: list[Tensor | None] = []
    feeds: dict[str, np.ndarray] = {}
    for i, t in enumerate(inputs):
        if t is None:
            arguments.append(None)
        elif t.is_float:
            # Fed, so that the graph is not empty for the interpreter; shapes and axes must be
            # constants, because kernels read them while allocating.
            fed = Tensor(f"x{i}", t.shape, t.dtype)
            arguments.append(fed)
            feeds[fed.name] = np.array(t.values(), order="C")
        else:
            arguments.append(Tensor(f"c{i}", t.shape, t.dtype, t.values()))
    outputs = [Tensor(f"y{i}", t.shape, t.dtype) for i, t in enumerate(op.outputs)]
    single = Op(
        op.name, arguments, outputs, op.options, op.version, op.custom_code, op.custom_options
    )
    graph = Graph("main", [single], [t for t in arguments if t and t.name in feeds], outputs)
    try:
        result = Runner(Model([graph]).to_bytes(), kernels="reference").run(feeds)
    except TfqError:  # Not foldable alone; the op stays in the graph and shows there.
        return None
    return [result[t.name] for t in outputs]
