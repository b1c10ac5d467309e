"""A model as plain values: what a person, or a script reading JSON, wants to know about a file."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tfq.graph.integers import float_tensors
from tfq.graph.metadata import describe_metadata
from tfq.graph.model import PACKED_BITS, Graph, Model, Op, Tensor
from tfq.graph.order import sort_ops


def describe(data: bytes, *, where: str = "the model") -> dict[str, Any]:
    """A model as plain values.

    Args:
      data: the `.tflite` bytes.
      where: what to call the file in an error.

    Returns:
      `bytes`, `sha256`, `min_runtime_version` (or None), `description`, `metadata` (bytes of each),
      `tflite_metadata` (`describe_metadata`), `files` (attached; bytes of each), `signatures`,
      `fully_integer`, `float_tensors`, `weights` (per dtype: constants, values, bytes as stored; a
      buffer that tensors share counts once), `graphs`, each with `op_counts`, `ops`, `tensors`, and
      `in_order`: whether each op stands behind what it reads.

    Raises:
      ModelError: the bytes are not a well-formed model.
    """
    model = Model.from_bytes(data, where=where)
    floats = float_tensors(model)
    version = (
        model.metadata.get("min_runtime_version", b"").rstrip(b"\0 ").decode("ascii", "replace")
    )
    return {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "min_runtime_version": version or None,
        "description": model.description,
        "metadata": {name: len(blob) for name, blob in model.metadata.items()},
        "tflite_metadata": describe_metadata(model),
        "files": {name: len(content) for name, content in model.files.items()},
        "signatures": _signatures(model),
        "fully_integer": not floats,
        "float_tensors": [
            {
                "graph": f.graph,
                "name": f.tensor.name,
                "dtype": f.tensor.dtype,
                "constant": f.tensor.is_const,
                "op": f.op.label if f.op else None,
            }
            for f in floats
        ],
        "weights": count_weights(model),
        "graphs": [_graph(g) for g in model.graphs],
        # Sorts them, so this comes last.
        "in_order": not any(sort_ops(g) for g in model.graphs),
    }


def _signatures(model: Model) -> list[dict[str, Any]]:
    if not model.signatures:  # Named by tensor, as the interpreter does for such files.
        inputs, outputs = model.main.inputs, model.main.outputs
        return [
            {
                "key": None,
                "graph": model.main.name,
                "inputs": [{"argument": t.name, **_tensor(t)} for t in inputs],
                "outputs": [{"argument": t.name, **_tensor(t)} for t in outputs],
            }
        ]
    return [
        {
            "key": s.key,
            "graph": model.graphs[s.graph].name,
            "inputs": [{"argument": n, **_tensor(t)} for n, t in s.inputs.items()],
            "outputs": [{"argument": n, **_tensor(t)} for n, t in s.outputs.items()],
        }
        for s in model.signatures
    ]


def _graph(graph: Graph) -> dict[str, Any]:
    tensors = list(graph.tensors())
    number = {t: i for i, t in enumerate(tensors)}
    maker = {t: i for i, op in enumerate(graph.ops) for t in op.outputs}
    inputs, outputs = set(graph.inputs), set(graph.outputs)

    def role(t: Tensor) -> str:
        if t.is_const:
            return "constant"
        if t.is_variable:
            return "variable"
        return "input" if t in inputs else "output" if t in outputs else "computed"

    return {
        "name": graph.name,
        "op_counts": _op_counts(graph.ops),
        "ops": [
            {
                "op": op.label,
                "version": op.version,
                "activation": _activation(op),
                "reads": [
                    maker.get(t, "in") for t in op.inputs if t is not None and not t.is_const
                ],
                "inputs": [-1 if t is None else number[t] for t in op.inputs],
                "outputs": [number[t] for t in op.outputs],
            }
            for op in graph.ops
        ],
        "tensors": [{**_tensor(t), "role": role(t)} for t in tensors],
    }


def _op_counts(ops: Iterable[Op]) -> list[dict[str, Any]]:
    def types(tensors: Sequence[Tensor | None]) -> str:
        runs = itertools.groupby("-" if t is None else t.dtype for t in tensors)
        lengths = [(dtype, len(list(run))) for dtype, run in runs]
        return " ".join(f"{dtype} x{n}" if n > 3 else " ".join([dtype] * n) for dtype, n in lengths)

    counts = Counter((op.label, op.version, types(op.inputs), types(op.outputs)) for op in ops)
    return [
        {"op": label, "version": version, "count": n, "inputs": inputs, "outputs": outputs}
        for (label, version, inputs, outputs), n in sorted(counts.items())
    ]


def _activation(op: Op) -> str | None:
    """The fused activation's name, or None."""
    code = getattr(op.options, "fusedActivationFunction", 0)
    return {1: "relu", 2: "relu_n1_to_1", 3: "relu6", 4: "tanh", 5: "sign_bit"}.get(code)


def _tensor(t: Tensor) -> dict[str, Any]:
    low, high = _real_range(t)
    quant = t.quant
    return {
        "name": t.name,
        "dtype": t.dtype,
        "shape": list(t.signature or t.shape),
        "scales": [float(s) for s in quant.scale] if quant else [],
        "zero_points": [int(z) for z in quant.zero_point] if quant else [],
        "axis": quant.axis if quant and quant.per_axis else None,
        "min": low,
        "max": high,
    }


_WHOLE = re.compile(r"(u?)int(\d+)")


def _real_range(t: Tensor) -> tuple[float | None, float | None]:
    """What a constant's values span, or what a computed tensor's grid can say, in real units."""
    if t.dtype in ("bool", "string", "resource", "variant") or t.dtype.startswith("complex"):
        return None, None
    if t.data is not None:
        if not t.data.size:
            return None, None
        values = t.data.astype(np.float64)
        if t.quant is not None:
            along = [1] * values.ndim
            if t.quant.per_axis and values.ndim:
                along[t.quant.axis] = -1
            scale = t.quant.scale.astype(np.float64).reshape(along if values.ndim else [])
            values = (values - t.quant.zero_point.reshape(scale.shape)) * scale
        return float(values.min()), float(values.max())
    whole = _WHOLE.fullmatch(t.dtype)
    bits = int(whole[2]) if whole else 0
    if t.quant is None or not 0 < bits <= 16:
        return None, None  # The grid of an int32 accumulator is as good as unbounded.
    assert whole is not None
    low = 0 if whole[1] else -(1 << (bits - 1))
    ends = (np.array([[low], [low + (1 << bits) - 1]]) - t.quant.zero_point) * t.quant.scale
    return float(ends[0].min()), float(ends[1].max())


def count_weights(model: Model) -> dict[str, dict[str, int]]:
    """Constants, their values and bytes by dtype; a buffer that tensors share counts once."""
    totals: dict[str, dict[str, int]] = {}
    seen: set[tuple[int, int]] = set()
    for graph in model.graphs:
        for t in graph.tensors():
            if t.data is None:
                continue
            key = (t.data.__array_interface__["data"][0], t.data.nbytes)
            if key in seen:
                continue
            seen.add(key)
            row = totals.setdefault(t.dtype, {"constants": 0, "values": 0, "bytes": 0})
            row["constants"] += 1
            row["values"] += t.data.size
            packed = PACKED_BITS.get(t.dtype)
            row["bytes"] += -(-t.data.size * packed // 8) if packed else t.data.nbytes
    return dict(sorted(totals.items(), key=lambda item: -item[1]["bytes"]))
