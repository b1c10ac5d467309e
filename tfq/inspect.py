"""`python -m tfq.inspect FILE`: what is inside a `.tflite` file, and is it fully integer.

`describe` reads a model into plain values, the ones that ``--json`` prints; `render` lays them out
for a terminal. Nothing is run, so a model for another machine can be looked at too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import flags

from tfq import cli
from tfq.errors import UsageError
from tfq.files import explain
from tfq.graph.integers import float_tensors
from tfq.graph.model import PACKED_BITS, Graph, Model, Op, Tensor

FLAGS = flags.FlagValues()
_OPS = flags.DEFINE_boolean(
    "ops", False, "List every op: what it reads and what it gives.", flag_values=FLAGS
)
_TENSORS = flags.DEFINE_boolean(
    "tensors", False, "List every tensor: type, scale, zero point, real range.", flag_values=FLAGS
)
_JSON = flags.DEFINE_boolean(
    "json", False, "Print everything, ops and tensors included, as JSON.", flag_values=FLAGS
)

_SHOWN_FLOATS = 8


def read_file(path: str) -> bytes:
    """The bytes of the model file at `path`.

    Raises:
      UsageError: there is no such file, it is a folder, or it cannot be read.
    """
    if os.path.isdir(path):
        raise UsageError(
            f"{path} is a folder, and inspect reads .tflite files. A SavedModel becomes one with: "
            f"tfq convert {path}"
        )
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}. Check the path.") from None
    except OSError as e:
        raise UsageError(f"Cannot read {path}: {explain(e)}") from None


# --- reading ------------------------------------------------------------------------------------


def describe(data: bytes, *, where: str = "the model") -> dict[str, Any]:
    """A model as plain values.

    Args:
      data: the `.tflite` bytes.
      where: what to call the file in an error.

    Returns:
      `bytes`, `sha256`, `min_runtime_version` (or None), `description`, `signatures`,
      `fully_integer`, `float_tensors`, `weights` (per dtype: constants, values, bytes as stored; a
      buffer that tensors share counts once), and `graphs`, each with `op_counts`, `ops`, `tensors`.

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
        "weights": _weights(model),
        "graphs": [_graph(g) for g in model.graphs],
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
        return " ".join("-" if t is None else t.dtype for t in tensors)

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
    bits = int(t.dtype.lstrip("uintfloab") or 0)
    if t.quant is None or t.is_float or bits > 16:
        return None, None  # The grid of an int32 accumulator is as good as unbounded.
    low = 0 if t.dtype.startswith("u") else -(1 << (bits - 1))
    ends = (np.array([[low], [low + (1 << bits) - 1]]) - t.quant.zero_point) * t.quant.scale
    return float(ends[0].min()), float(ends[1].max())


def _weights(model: Model) -> dict[str, dict[str, int]]:
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


# --- showing ------------------------------------------------------------------------------------


def render(
    name: str,
    info: dict[str, Any],
    *,
    ops: bool = False,
    tensors: bool = False,
    width: int | None = None,
) -> str:
    """The text that the command prints.

    Args:
      name: what the model is called, its file name.
      info: from `describe`.
      ops: adds a table of every op.
      tensors: adds a table of every tensor.
      width: longest line in characters; long names lose their front. None: as long as it takes.
    """
    head = [f"{_size(info['bytes'])}", f"sha256 {info['sha256'][:12]}"]
    if info["min_runtime_version"]:
        head.append(f"needs runtime {info['min_runtime_version']}")
    if info["description"]:
        head.append(_printable(info["description"]))
    lines = [_printable(name), f"  {', '.join(head)}", *_verdict(info)]
    for s in info["signatures"]:
        key = f"signature {s['key']}" if s["key"] is not None else "no signature; by tensor"
        if s["graph"] != info["graphs"][0]["name"]:
            key += f" (graph {s['graph']})"
        rows = [["  in", *_argument_row(a)] for a in s["inputs"]]
        rows += [["  out", *_argument_row(a)] for a in s["outputs"]]
        lines += ["", _printable(key), *_table([], rows, "lllll", width, cut=1)]
    lines += ["", *_weights_table(info)]
    several = len(info["graphs"]) > 1
    for graph in info["graphs"]:
        count = len(graph["ops"])
        title = f"{count} ops, {len(graph['tensors'])} tensors"
        lines += ["", (f"graph {_printable(graph['name'])}: " if several else "") + title]
        lines += _op_table(graph, width) if ops else _count_table(graph, width)
        if tensors:
            lines += ["", *_tensor_table(graph, width)]
    return "\n".join(line.rstrip() for line in lines)


def _verdict(info: dict[str, Any]) -> list[str]:
    if info["fully_integer"]:
        return ["  fully integer"]
    floats = info["float_tensors"]
    total = sum(len(g["tensors"]) for g in info["graphs"])
    lines = [f"  not fully integer: {len(floats)} of {total} tensors are not"]
    computed = [f for f in floats if f["op"]]
    if len(floats) > total // 2:
        return lines  # A float model: naming everything would say nothing.
    rows = [["", f["dtype"], f["op"], f["name"]] for f in computed]
    rows += [
        ["", f["dtype"], "constant" if f["constant"] else "input", f["name"]]
        for f in floats
        if not f["op"]
    ]
    lines += _table([], rows[:_SHOWN_FLOATS], "llll", 80, cut=3)
    if len(rows) > _SHOWN_FLOATS:
        lines.append(f"  and {len(rows) - _SHOWN_FLOATS} more: --json lists all")
    return lines


def _argument_row(a: dict[str, Any]) -> list[str]:
    grid = f"scale {a['scales'][0]:.6g}, zero point {a['zero_points'][0]}" if a["scales"] else ""
    return [a["argument"], a["dtype"], _shape(a), grid]


def _weights_table(info: dict[str, Any]) -> list[str]:
    weights = info["weights"]
    total = sum(w["bytes"] for w in weights.values())
    lines = [f"weights {_size(total)}" if weights else "no weights"]
    rows = [
        [f"  {dtype}", f"{w['values']:,} values", f"{w['constants']} constants", _size(w["bytes"])]
        for dtype, w in weights.items()
    ]
    return lines + _table([], rows, "lrrr", None)


def _count_table(graph: dict[str, Any], width: int | None) -> list[str]:
    rows = [
        [f"  {c['op']}", str(c["count"]), str(c["version"]), f"{c['inputs']} -> {c['outputs']}"]
        for c in graph["op_counts"]
    ]
    return _table(["  op", "count", "version", "types"], rows, "lrrl", width, cut=3, tail=False)


def _op_table(graph: dict[str, Any], width: int | None) -> list[str]:
    rows = []
    for i, op in enumerate(graph["ops"]):
        name = op["op"] + (f" {op['activation']}" if op["activation"] else "")
        reads = ",".join(map(str, op["reads"]))
        outputs = [graph["tensors"][t] for t in op["outputs"]]
        first = outputs[0] if outputs else {"dtype": "", "shape": [], "name": ""}
        more = f" +{len(outputs) - 1}" if len(outputs) > 1 else ""
        output = f"{first['dtype']} {_shape(first)}{more}"
        rows.append([str(i), name, str(op["version"]), reads, output, first["name"]])
    return _table(
        ["#", "op", "v", "reads", "output", "name"], rows, "rlrlll", width, cut=5, indent=2
    )


def _tensor_table(graph: dict[str, Any], width: int | None) -> list[str]:
    rows = []
    for i, t in enumerate(graph["tensors"]):
        span = "" if t["min"] is None else f"{t['min']:.4g} .. {t['max']:.4g}"
        kind = {"constant": "const", "computed": "", "variable": "var"}.get(t["role"], t["role"])
        rows.append([str(i), kind, f"{t['dtype']} {_shape(t)}", _grid(t), span, t["name"]])
    heads = ["#", "", "type", "scale, zero point", "real range", "name"]
    return _table(heads, rows, "rlllll", width, cut=5, indent=2)


def _grid(t: dict[str, Any]) -> str:
    scales, zeros = t["scales"], t["zero_points"]
    if not scales:
        return ""
    if len(scales) == 1:
        return f"{scales[0]:.6g}, {zeros[0]}"
    zero = f", {zeros[0]}" if len(set(zeros)) == 1 else ", various"
    return f"{len(scales)} on axis {t['axis']}{zero}"


def _shape(t: dict[str, Any]) -> str:
    return "[" + ",".join("?" if d < 0 else str(d) for d in t["shape"]) + "]"


def _size(count: int) -> str:
    if count < 10_000:
        return f"{count:,} bytes"
    return f"{count / 1e3:,.1f} kB" if count < 1e6 else f"{count / 1e6:,.2f} MB"


def _printable(text: str) -> str:
    """Without control characters: a file's names must not steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _table(
    heads: list[str],
    rows: list[list[str]],
    align: str,
    width: int | None,
    *,
    cut: int | None = None,
    tail: bool = True,
    indent: int = 0,
) -> list[str]:
    """Rows in columns two spaces apart ("l" left, "r" right aligned).

    Column `cut` gives way where a line would be longer than `width`. With `tail` it holds tensor
    names, whose end says most (the end of the first, where the converter joined several by ";").
    """
    cells = [[_printable(c) for c in row] for row in ([heads] if heads else []) + rows]
    if not rows:
        return []
    widths = [max(len(row[i]) for row in cells) for i in range(len(align))]
    if width is not None and cut is not None:
        rest = sum(widths) - widths[cut] + 2 * (len(widths) - 1) + indent
        widths[cut] = min(widths[cut], max(12, width - rest))
    lines = []
    for row in cells:
        if cut is not None and len(row[cut]) > widths[cut]:
            keep = widths[cut] - 1
            if tail:
                first = row[cut].split(";")[0]
                row[cut] = first if len(first) <= keep else "…" + first[-keep:]
            else:
                row[cut] = row[cut][:keep] + "…"
        line = (
            c.rjust(w) if a == "r" else c.ljust(w)
            for c, w, a in zip(row, widths, align, strict=True)
        )
        lines.append(" " * indent + "  ".join(line))
    return lines


# --- the command --------------------------------------------------------------------------------


def _run(args: list[str]) -> int:
    path = args[0]
    info = describe(read_file(path), where=path)
    if _JSON.value:
        cli.say(json.dumps({"file": path, **info}, indent=1))
        return 0
    fits = sys.stdout.isatty() or "COLUMNS" in os.environ  # A pipe takes lines of any length.
    width = shutil.get_terminal_size().columns if fits else None
    cli.say(render(path, info, ops=_OPS.value, tensors=_TENSORS.value, width=width))
    return 0


COMMAND = cli.Command(
    "inspect",
    "FILE",
    "Shows what is inside a .tflite file, and whether it is fully integer.",
    FLAGS,
    _run,
    ("tfq inspect model.tflite --ops --tensors",),
)


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return cli.run(COMMAND, argv)


if __name__ == "__main__":
    raise SystemExit(main())
