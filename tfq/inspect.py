"""`python -m tfq.inspect FILE`: what is inside a `.tflite` file, and is it fully integer.

Lays out for a terminal what `tfq.graph.describe` reads (``--json`` prints just that). Nothing is
run, so a model for another machine can be looked at too.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any

from absl import flags

from tfq import cli
from tfq.errors import UsageError
from tfq.files import read_bytes
from tfq.graph.describe import describe

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
    if not info["in_order"]:
        lines.append("  ops stand before what they read: LiteRT's own kernels compute them wrongly")
    for s in info["signatures"]:
        key = f"signature {s['key']}" if s["key"] is not None else "no signature; by tensor"
        if s["graph"] != info["graphs"][0]["name"]:
            key += f" (graph {s['graph']})"
        rows = [["  in", *_argument_row(a)] for a in s["inputs"]]
        rows += [["  out", *_argument_row(a)] for a in s["outputs"]]
        lines += ["", _printable(key), *_table([], rows, "lllll", width, cut=1)]
    lines += _metadata_lines(info, width)
    lines += ["", *_weights_table(info)]
    several = len(info["graphs"]) > 1
    for graph in info["graphs"]:
        title = f"{_count(len(graph['ops']), 'op')}, {_count(len(graph['tensors']), 'tensor')}"
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


def _metadata_lines(info: dict[str, Any], width: int | None) -> list[str]:
    """What apps read: TFLite metadata and the attached files."""
    said, files = info["tflite_metadata"], info["files"]
    lines, named = [], set()
    if said is not None and "error" in said:
        lines += ["", _printable(said["error"])]
    elif said is not None:
        head = ", ".join(filter(None, (said["name"], said["version"], said["description"])))
        rows = []
        for way, arguments in (("  in", said["inputs"]), ("  out", said["outputs"])):
            for a in arguments:
                real = ""
                if a["mean"] or a["std"]:
                    mean, std = (", ".join(f"{v:g}" for v in a[k]) for k in ("mean", "std"))
                    real = f"mean {mean}, std {std}"
                kind = f"{a['content']} {a['color']}".strip()
                rows.append([way, a["name"], kind, real, a["description"]])
        every = [said, *said["inputs"], *said["outputs"]]
        for file in (f for group in every for f in group["files"]):
            named.add(file["name"])
            size = "missing" if file["bytes"] is None else _size(file["bytes"])
            rows.append(["  file", file["name"], file["kind"], size, ""])
        lines += ["", _printable(f"metadata {head}".rstrip())]
        lines += _table([], rows, "lllll", width, cut=4, tail=False)
    rest = [["  file", name, _size(size)] for name, size in files.items() if name not in named]
    return lines + (["", "attached files", *_table([], rest, "lll", width)] if rest else [])


def _argument_row(a: dict[str, Any]) -> list[str]:
    grid = f"scale {a['scales'][0]:.6g}, zero point {a['zero_points'][0]}" if a["scales"] else ""
    return [a["argument"], a["dtype"], _shape(a), grid]


def _weights_table(info: dict[str, Any]) -> list[str]:
    weights = info["weights"]
    total = sum(w["bytes"] for w in weights.values())
    lines = [f"weights {_size(total)}" if weights else "no weights"]
    rows = [
        [
            f"  {dtype}",
            _count(w["values"], "value"),
            _count(w["constants"], "constant"),
            _size(w["bytes"]),
        ]
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


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


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
    if os.path.isdir(path):
        raise UsageError(
            f"{path} is a folder, and inspect reads .tflite files. A SavedModel becomes one with: "
            f"tfq convert {path}"
        )
    info = describe(read_bytes(path), where=path)
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
