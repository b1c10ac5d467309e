"""The report as one HTML file that needs nothing else: styles, script and data are in it.

The parts are the files of `page/`. The content security policy names the hash of the one style and
of the one script, so nothing else runs or loads, whatever a tensor is called.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import importlib.resources
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfq.report.terminal import console

_SCRIPTS = ("dom", "charts", "sections", "graph", "table", "layers", "main")
_DIGITS = 6  # Significant ones of a number in the page; the JSON report has all.
# Bins of all histograms together: the page stays below 3 MB.
_ALL_BINS = 160_000


def page(report: Mapping[str, Any]) -> bytes:
    """The page of a report.

    Args:
      report: as `schema.json` describes it.

    Returns:
      HTML, UTF-8; equal reports have equal bytes. Numbers are rounded to 6 digits; histograms of
      very large models are drawn with fewer bins.

    Raises:
      ValueError: a number is not finite.
    """
    style = _read("page.css")
    script = "(() => {\n'use strict';\n" + "\n".join(_read(f"{s}.js") for s in _SCRIPTS) + "\n})();"
    parts = {
        "title": html.escape(report["title"]),
        "style": style,
        "script": script,
        "style_hash": _hash(style),
        "script_hash": _hash(script),
        "text": html.escape("\n".join(console(report))),
        "data": _embed(report),
    }
    text = re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], _read("page.html"))
    return text.encode("utf-8", "backslashreplace")


@functools.cache
def _read(name: str) -> str:
    return importlib.resources.files("tfq.report").joinpath("page", name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _embed(report: Mapping[str, Any]) -> str:
    """JSON that cannot end its <script>: the only `<` of HTML are outside of it."""
    tensors = [t for a in report["layers"] for t in a["tensors"]]
    lists = [
        h for t in tensors for h in (t["histogram"], (t["weights"] or {}).get("histogram")) if h
    ]
    bins = sum(len(h["float"]) + len(h["quantized"] or ()) for h in lists)
    merge = -(-bins // _ALL_BINS) if bins else 1
    text = json.dumps(_slim(report, merge), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _slim(value: Any, merge: int) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        if merge > 1 and value.keys() == {"low", "high", "float", "quantized"}:
            value = _merge_bins(value, merge)
        return {k: _slim(v, merge) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_slim(v, merge) for v in value]
    return value


def _merge_bins(histogram: Mapping[str, Any], merge: int) -> dict[str, Any]:
    """Adds every `merge` neighbours; the last bin may reach past the old end."""
    n = len(histogram["float"])
    width = (histogram["high"] - histogram["low"]) / n

    def merged(counts: Sequence[int] | None) -> list[int] | None:
        if counts is None:
            return None
        return [sum(counts[i : i + merge]) for i in range(0, n, merge)]

    return {
        "low": histogram["low"],
        "high": histogram["low"] + -(-n // merge) * merge * width,
        "float": merged(histogram["float"]),
        "quantized": merged(histogram["quantized"]),
    }
