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
import re
from collections.abc import Mapping
from typing import Any

from tfq.report.fit import dump, fit, rounded
from tfq.report.terminal import console

_SCRIPTS = ("dom", "charts", "sections", "graph", "table", "layers", "main")
_DIGITS = 6  # Significant ones of a layer's number in the page; the JSON report has all.
_LARGEST = 2_990_000  # Bytes of a page: below 3 MB.


def page(report: Mapping[str, Any]) -> bytes:
    """The page of a report.

    Args:
      report: as `schema.json` describes it.

    Returns:
      HTML, UTF-8; equal reports have equal bytes. The numbers of layers are rounded to 6 digits.
      It is below 3 MB: of very large models histograms have fewer bins, or are those of the worst
      layers only, which the page then says.

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
    }
    room = _LARGEST - len(_fill(parts | {"data": ""}))
    # The other numbers are few, and rounding twice would show other digits than the console.
    short = {**report, "layers": rounded(report["layers"], _DIGITS)}
    return _fill(parts | {"data": dump(fit(short, room))})


def _fill(parts: Mapping[str, str]) -> bytes:
    text = re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], _read("page.html"))
    return text.encode("utf-8", "backslashreplace")


@functools.cache
def _read(name: str) -> str:
    return importlib.resources.files("tfq.report").joinpath("page", name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
