"""What pruning and clustering brought: zeros, patterns, distinct values, sizes, time.

Sparsity is counted in what is stored. It makes files smaller only when they are compressed, and
with LiteRT's integer kernels it makes no model faster: XNNPACK multiplies zeros like any other
weight. The report says so, and measures where there is something to compare with.
"""

from __future__ import annotations

import gzip
import os
import re
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfq.errors import ModelError, UsageError
from tfq.files import read_bytes

_STATEMENT = (
    "Zeros do not make inference faster: LiteRT's kernels multiply them like any other weight. "
    "They make the file smaller when it is compressed. Removing channels makes it smaller and, "
    "where the work per layer outweighs its overhead, faster (tfq.keras.remove_channels)."
)


class PruningReport(dict):
    """The report as a dict of plain values (`pruning_report` lists the keys); str() is a table."""

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def pruning_report(
    model: Any,
    baseline: str | os.PathLike[str] | bytes | None = None,
    *,
    block: tuple[int, int] | None = None,
    rounds: int = 31,
) -> PruningReport:
    """Counts zeros and distinct values layer by layer; of a file also its sizes and its time.

    Args:
      model: a Keras 3 model, or a `.tflite` file as path or bytes.
      baseline: the `.tflite` file to compare with (dense, or with all channels), if `model` is one.
      block: (inputs, outputs): counts the blocks of this shape that are all zero, too.
      rounds: how often the two files are timed in turn, one thread, on random input.

    Returns:
      "kind" ("keras" or "tflite"), "layers", "parameters", "zeros", "sparsity" and "statement". A
      layer has "name", "parameters", "zeros", "sparsity", "distinct" (values), "channels",
      "zero_channels", "patterns" (those of 2:4 and 1:4 that every group obeys) and, with `block`,
      "zero_blocks", a share. Files also have "bytes" and "gzip_bytes" (level 9) and, with a
      baseline, "baseline": its "bytes" and "gzip_bytes", "time_ratio" (median of baseline's time
      over this file's; above 1 this one is faster), "time_ratio_range" (its quartiles) and
      "same_shapes": both compute tensors of the same shapes.

    Raises:
      UsageError: an argument is wrong.
      ModelError: a file cannot be read or run.
    """
    if isinstance(model, str | bytes | os.PathLike):
        data = _bytes(model)
        layers = [_layer(*item, block) for item in _stored(data)]
        report = _summed("tflite", layers)
        report["bytes"], report["gzip_bytes"] = _sizes(data)
        if baseline is not None:
            report["baseline"] = _compared(data, _bytes(baseline), rounds)
        return report
    if baseline is not None:
        raise UsageError(
            "Only files are compared: convert both models, then give both .tflite files. "
            f"Received: {type(model).__name__}."
        )
    from tfq.keras.pruning.kernels import find_kernels

    found = [(k.name, k.matrix(k.values())) for k in find_kernels(model)]
    return _summed("keras", [_layer(*item, block) for item in found])


def _layer(name: str, matrix: np.ndarray, block: tuple[int, int] | None) -> dict[str, Any]:
    """One layer's row; `matrix` is [positions, inputs, outputs]."""
    from tfq.keras.pruning.masks import block_means

    zero = matrix == 0
    row: dict[str, Any] = {
        "name": name,
        "parameters": int(matrix.size),
        "zeros": int(zero.sum()),
        "sparsity": float(zero.mean()),
        "distinct": len(np.unique(matrix)),
        "channels": matrix.shape[2],
        "zero_channels": int(zero.all(axis=(0, 1)).sum()),
        "patterns": [f"{n}:{m}" for n, m in ((2, 4), (1, 4)) if _obeys(zero, n, m)],
    }
    if block is not None:
        means, _ = block_means(np.abs(matrix.astype(np.float64)), block)
        row["zero_blocks"] = float((means == 0).mean())
    return row


def _obeys(zero: np.ndarray, n: int, m: int) -> bool:
    """Whether each `m` inputs in a row have `n` values that are not zero, at most."""
    inputs = zero.shape[1]
    if inputs < m:
        return False
    filled = np.zeros((zero.shape[0], -(-inputs // m) * m, zero.shape[2]), bool)
    filled[:, :inputs] = ~zero
    return bool((filled.reshape(zero.shape[0], -1, m, zero.shape[2]).sum(axis=2) <= n).all())


def _summed(kind: str, layers: list[dict[str, Any]]) -> PruningReport:
    parameters = sum(r["parameters"] for r in layers)
    zeros = sum(r["zeros"] for r in layers)
    return PruningReport(
        kind=kind,
        layers=layers,
        parameters=parameters,
        zeros=zeros,
        sparsity=zeros / parameters if parameters else 0.0,
        statement=_STATEMENT,
    )


# --- files --------------------------------------------------------------------------------------


def _bytes(model: Any) -> bytes:
    if isinstance(model, bytes):
        return model
    if not isinstance(model, str | os.PathLike):
        raise UsageError(
            "A file is given as a path or as bytes (save the result of a conversion, or give its "
            f".model). Received: {type(model).__name__}."
        )
    return read_bytes(model)


def _sizes(data: bytes) -> tuple[int, int]:
    return len(data), len(gzip.compress(data, 9, mtime=0))


def _stored(data: bytes) -> list[tuple[str, np.ndarray]]:
    """(name, weights as [positions, inputs, outputs]) of each weighted op with constant weights."""
    from tfq.graph.model import Model
    from tfq.graph.optable import spec

    found: dict[int, tuple[str, np.ndarray]] = {}
    for graph in Model.from_bytes(data).graphs:
        for op in graph.ops:
            row = spec(op.name)
            if row is None or row.weights is None or len(op.inputs) <= row.weights:
                continue
            weights = op.inputs[row.weights]
            if weights is None or weights.data is None or len(weights.shape) < 2:
                continue
            values = np.asarray(weights.values())
            if weights.quant is not None and weights.quant.zero_point.any():
                values = values.astype(np.int64) - int(weights.quant.zero_point[0])
            name = re.split(r"[;]", op.key)[0]
            found.setdefault(id(weights.data), (name, _matrix(op.name, values)))
    return list(found.values())


def _matrix(op: str, w: np.ndarray) -> np.ndarray:
    if op == "DEPTHWISE_CONV_2D":  # [1, height, width, channels]
        return w.reshape(1, -1, w.shape[-1])
    if op == "CONV_3D":  # [depth, height, width, in, out]
        return w.reshape(-1, w.shape[-2], w.shape[-1])
    # [out, ..., in]: CONV_2D, TRANSPOSE_CONV, FULLY_CONNECTED and recurrent kernels.
    return np.moveaxis(w, 0, -1).reshape(-1, w.shape[-1], w.shape[0])


def _shapes(data: bytes) -> list[tuple[str, tuple[int, ...]]]:
    from tfq.graph.model import Model

    graph = Model.from_bytes(data).main
    return [(op.name, t.shape) for op in graph.ops for t in op.outputs]


def _compared(data: bytes, other: bytes, rounds: int) -> dict[str, Any]:
    if rounds < 3:
        raise UsageError(f"rounds is 3 or more. Received: {rounds}.")
    size, packed = _sizes(other)
    here, there = _timer(data), _timer(other)
    # Each block lasts some milliseconds, so that the clock and a hiccup weigh little.
    repeats = max(1, int(0.005 / max(min(here(1) for _ in range(5)), 1e-6)))
    ratios = []
    for _ in range(rounds):
        mine = here(repeats)
        ratios.append(there(repeats) / mine)
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    return {
        "bytes": size,
        "gzip_bytes": packed,
        "time_ratio": float(middle),
        "time_ratio_range": [float(low), float(high)],
        "same_shapes": _shapes(data) == _shapes(other),
    }


def _timer(data: bytes) -> Any:
    """A function of a number of runs, which returns seconds for each."""
    from tfq.runtime import Runner

    runner = Runner(data, threads=1)
    rng = np.random.default_rng(0)
    inputs = {}
    for detail in runner.inputs:
        dtype = np.dtype(detail["dtype"])
        if dtype.kind == "f":
            value = rng.uniform(-1, 1, detail["shape"])
        elif dtype.kind in "iu" and dtype.itemsize < 4:
            limits = np.iinfo(dtype)
            value = rng.integers(limits.min, limits.max, detail["shape"], endpoint=True)
        elif dtype.kind in "iub":
            value = np.zeros(detail["shape"])
        else:
            raise ModelError(f"The input {detail['name']!r} holds no numbers, so nothing is timed.")
        inputs[detail["name"]] = value.astype(dtype)
    runner.set_inputs(inputs)
    runner.invoke()

    def seconds(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            runner.invoke()
        return (time.perf_counter() - start) / count

    return seconds


# --- text ---------------------------------------------------------------------------------------


def _lines(report: Mapping[str, Any]) -> list[str]:
    heads = ["layer", "parameters", "zeros", "distinct", "pattern"]
    rows = [heads, *(_row(r) for r in report["layers"])]
    rows.append(["all", f"{report['parameters']:,}", f"{report['sparsity']:.1%}", "", ""])
    widths = [max(len(r[i]) for r in rows) for i in range(len(heads))]
    lines = []
    for r in rows:
        cells = [
            r[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(r[1:4], widths[1:4], strict=True)),
        ]
        lines.append("  ".join([*cells, r[4]]).rstrip())
    lines.append("")
    if "bytes" in report:
        lines.append(f"size      {report['bytes']:,} bytes, gzip {report['gzip_bytes']:,}")
    if "baseline" in report:
        lines += _baseline_lines(report, report["baseline"])
    return [*lines, *textwrap.wrap(report["statement"], 92)]


def _row(r: Mapping[str, Any]) -> list[str]:
    said = list(r["patterns"][-1:])
    if r["zero_channels"]:
        said.append(f"{r['zero_channels']} of {r['channels']} channels zero")
    if r.get("zero_blocks"):
        said.append(f"{r['zero_blocks']:.1%} of blocks zero")
    name = r["name"] if len(r["name"]) <= 48 else "…" + r["name"][-47:]
    return [
        name,
        f"{r['parameters']:,}",
        f"{r['sparsity']:.1%}",
        str(r["distinct"]),
        ", ".join(said),
    ]


def _baseline_lines(report: Mapping[str, Any], base: Mapping[str, Any]) -> Sequence[str]:
    low, high = base["time_ratio_range"]
    smaller = base["bytes"] / report["bytes"]
    packed = base["gzip_bytes"] / report["gzip_bytes"]
    lines = [
        f"baseline  {base['bytes']:,} bytes, gzip {base['gzip_bytes']:,}: "
        f"{smaller:.2f} times the size, {packed:.2f} times with gzip",
        f"time      the baseline takes {base['time_ratio']:.2f} times as long "
        f"(quartiles {low:.2f} to {high:.2f}), measured here, one thread",
    ]
    if base["same_shapes"]:
        lines.append("          both compute the same shapes: that difference is noise")
    return lines
