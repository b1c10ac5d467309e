"""The figures of a report as PNG and SVG files, for slides and papers."""

from __future__ import annotations

import functools
import io
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfq.errors import TfqError, UsageError, unknown_option
from tfq.files import explain, write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")
_WORST = 6  # Layers whose histogram is drawn.
_STYLE = {
    "svg.hashsalt": "tfq",  # Equal figures have equal ids, so equal bytes.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # Ships with matplotlib: the same on every machine.
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "text.parse_math": False,  # A tensor may have a $ in its name.
}
_FLOAT, _QUANTIZED, _GRID = "#b4c0cd", "#1f56b3", "#a12a22"
# The page's error scale: at least so many dB, color.
_SCALE = (
    (50.0, "#dbe6ee"),
    (40.0, "#f5e2ad"),
    (30.0, "#f2bd63"),
    (20.0, "#e08a33"),
    (10.0, "#b6511c"),
)
_BELOW = "#742311"
_CEILING = 60.0  # dB; above it a bar would be too short to see.


def require_plots() -> None:
    """Sees that `plots` can draw, before the work that is to be drawn.

    Raises:
      UsageError: matplotlib is missing.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError(
            "Plots need matplotlib. Install it with: pip install 'tfq[plots]'"
        ) from None


def plots(
    report: Mapping[str, Any],
    folder_path: str | os.PathLike[str],
    formats: Sequence[str] = FORMATS,
) -> list[str]:
    """Draws what the report has: metric differences, layer errors, histograms, reliability.

    Args:
      report: as `schema.json` describes it.
      folder_path: made where it does not exist; files of the same names are replaced.
      formats: of "png" and "svg".

    Returns:
      The paths written, in order: `differences`, `layers-MODEL`, `histograms-MODEL` and
      `reliability`, each in every format. Equal reports give equal bytes with one version of
      matplotlib.

    Raises:
      UsageError: matplotlib is missing, a format is unknown, or the folder cannot be made.
      TfqError: a file cannot be written.
    """
    for f in formats:
        if f not in FORMATS:
            raise unknown_option("format", f, FORMATS)
    require_plots()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    folder = os.fspath(folder_path)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as e:
        raise UsageError(f"Cannot make the folder {folder}: {explain(e)}") from None
    written = []
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # A box in the place of a character is no reason to stop, or to write to the terminal.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        for name, draw in _figures(report):
            figure = draw()
            FigureCanvasAgg(figure)
            for f in formats:
                path = os.path.join(folder, f"{name}.{f}")
                write_atomic(path, _bytes(figure, f))
                written.append(path)
    if not written:
        raise TfqError("The report has nothing to plot: no differences, layers or confidence.")
    return written


def _bytes(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    # Neither a date nor a version: the bytes say only what is drawn.
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(file, format=kind, dpi=150, metadata=metadata)
    return file.getvalue()


def _figures(report: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Figure]]]:
    metrics = [
        m for m in report["metrics"] if any(d["value"] is not None for d in m["differences"])
    ]
    if metrics:
        yield "differences", functools.partial(_differences, metrics)
    names = _file_names(a["model"] for a in report["layers"])
    for analysis, name in zip(report["layers"], names, strict=True):
        ranked = _ranked(analysis["tensors"])
        if ranked:
            yield f"layers-{name}", functools.partial(_layers, analysis)
        drawn = [t for t in ranked if t["histogram"]][:_WORST]
        if drawn:
            yield f"histograms-{name}", functools.partial(_histograms, drawn)
    rows = [r for r in report["reliability"] if any(b["count"] for b in r["bins"])]
    if rows:
        yield "reliability", functools.partial(_reliability, rows)


def _file_names(models: Iterable[str]) -> list[str]:
    """One for every model: of its base name what any file system takes."""
    found: list[str] = []
    for model in models:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", os.path.basename(model.rstrip("/\\")))
        stem = stem.strip("._")[:60] or "model"
        name, n = stem, 2
        while name in found:
            name, n = f"{stem}-{n}", n + 1
        found.append(name)
    return found


def _reading(tensors: Sequence[Mapping[str, Any]]) -> str:
    return "isolated" if any(t["isolated"] for t in tensors) else "accumulated"


def _ranked(tensors: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    reading = _reading(tensors)
    known = [t for t in tensors if t[reading] and t[reading]["sqnr_db"] is not None]
    return sorted(known, key=lambda t: t[reading]["sqnr_db"])


def _start(rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> str:
    """The output that a row is about, where there are several."""
    return f"{row['output']}: " if len({r["output"] for r in rows}) > 1 else ""


def _make(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _label(text: str, longest: int = 44) -> str:
    clean = "".join(c if c.isprintable() else " " for c in text)
    return clean if len(clean) <= longest else "..." + clean[3 - longest :]


def _differences(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """A forest plot for each metric; an open circle is an interval that crosses zero."""
    rows = [[d for d in m["differences"] if d["value"] is not None] for m in metrics]
    sizes = [len(r) + 1.6 for r in rows]
    figure = _make(6.4, 0.32 * sum(sizes) + 0.4)
    axes = figure.subplots(len(metrics), 1, squeeze=False, height_ratios=sizes)[:, 0]
    for axis, metric, differences in zip(axes, metrics, rows, strict=True):
        for y, d in enumerate(differences):
            low, high = d["low"], d["high"]
            known = low is not None and high is not None
            if known:
                axis.plot([low, high], [y, y], color="#1b1f23", linewidth=1.5)
            face = "white" if known and low <= 0 <= high else "#1b1f23"
            axis.plot([d["value"]], [y], "o", markerfacecolor=face, markeredgecolor="#1b1f23")
        axis.axvline(0, color="#59626c", linewidth=0.8)
        axis.set_yticks(range(len(differences)), [_label(d["model"]) for d in differences])
        axis.set_ylim(len(differences) - 0.4, -0.6)
        unit = f" ({metric['unit']})" if metric["unit"] else ""
        second = ", second data" if metric["data"] == 2 else ""
        title = f"{_start(metrics, metric)}{metric['title']}"
        axis.set_title(f"{title}{unit}{second}: difference to the reference, 95 %")
    return figure


def _layers(analysis: Mapping[str, Any]) -> Figure:
    """A bar for each measured layer, in the order of execution; up to 40 are named."""
    tensors = analysis["tensors"]
    reading = _reading(tensors)
    values = [t[reading] and t[reading]["sqnr_db"] for t in tensors]
    known = [(i, v) for i, v in enumerate(values) if v is not None]
    figure = _make(max(6.4, min(16.0, 0.22 * len(tensors))), 4.2 if len(tensors) <= 40 else 3.2)
    axis = figure.subplots()
    axis.bar(
        [i for i, _ in known],
        [min(max(v, 0.0), _CEILING - 0.5) - _CEILING for _, v in known],
        bottom=_CEILING,
        width=0.9,
        color=[next((c for low, c in _SCALE if v >= low), _BELOW) for _, v in known],
        edgecolor="#59626c",
        linewidth=0.2,
    )
    axis.set_ylim(_CEILING, 0)  # Upwards is worse, as on the page.
    axis.set_title(f"{_label(analysis['model'])}: signal to quantization noise, {reading}")
    axis.set_ylabel("dB (taller is worse)")
    axis.margins(x=0.01)
    if len(tensors) <= 40:
        names = [_label(t["layer"] or t["name"], 28) for t in tensors]
        axis.set_xticks(range(len(tensors)), names, rotation=90, fontsize=7)
    else:
        axis.set_xlabel("tensor, in the order of execution")
    return figure


def _histograms(tensors: Sequence[Mapping[str, Any]]) -> Figure:
    """Float values filled, quantized values as a line, the grid's ends as vertical lines."""
    columns = 2 if len(tensors) > 1 else 1
    rows = -(-len(tensors) // columns)
    figure = _make(4.6 * columns, 2.3 * rows + 0.2)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, t in zip(axes, tensors, strict=False):
        h = t["histogram"]
        n = len(h["float"])
        edges = [h["low"] + (h["high"] - h["low"]) * i / n for i in range(n + 1)]
        axis.stairs(h["float"], edges, fill=True, color=_FLOAT, label="float")
        if h["quantized"] is not None:
            axis.stairs(h["quantized"], edges, color=_QUANTIZED, label="quantized")
        for end, label in zip(t["grid"], ("grid", None), strict=True):
            axis.axvline(end, color=_GRID, linewidth=1, label=label)
        axis.set_yscale("symlog", linthresh=1)
        axis.yaxis.set_major_formatter(lambda count, _: f"{count:g}")
        axis.set_ylim(bottom=0)
        axis.set_title(_label(t["layer"] or t["name"]), fontsize=8)
    keys = max((a.get_legend_handles_labels() for a in axes), key=lambda k: len(k[1]))
    figure.legend(*keys, loc="outside lower center", ncols=3)
    for axis in axes[len(tensors) :]:
        axis.set_visible(False)
    return figure


def _reliability(rows: Sequence[Mapping[str, Any]]) -> Figure:
    columns = min(3, len(rows))
    lines = -(-len(rows) // columns)
    figure = _make(2.9 * columns, 3.0 * lines)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, row in zip(axes, rows, strict=False):
        bins = [
            b for b in row["bins"] if b["count"] and None not in (b["confidence"], b["accuracy"])
        ]
        axis.plot([0, 1], [0, 1], color="#59626c", linewidth=0.8, linestyle="--")
        axis.bar(
            [b["low"] for b in bins],
            [b["accuracy"] for b in bins],
            width=[b["high"] - b["low"] for b in bins],
            align="edge",
            color=_FLOAT,
            edgecolor="white",
        )
        axis.plot(
            [b["confidence"] for b in bins],
            [b["accuracy"] for b in bins],
            "o",
            color="#1b1f23",
            markersize=3,
        )
        ece = "" if row["ece"] is None else f", ECE {row['ece']:.3f}"
        axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="confidence", ylabel="accuracy")
        axis.set_title(_label(_start(rows, row) + row["model"], 24) + ece, fontsize=8)
    for axis in axes[len(rows) :]:
        axis.set_visible(False)
    return figure
