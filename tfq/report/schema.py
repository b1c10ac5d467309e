"""The report as JSON, and the check that it has the shape that `schema.json` promises."""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

from tfq.errors import TfqError, UsageError


@functools.cache
def load_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a report."""
    text = importlib.resources.files("tfq.report").joinpath("schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def check(report: Mapping[str, Any]) -> None:
    """Compares a report with the schema, and what the schema cannot say: names and indices.

    Args:
      report: what `to_json` would write.

    Raises:
      TfqError: the report does not fit; names the first place where.
      UsageError: the package jsonschema is missing.
    """
    try:
        import jsonschema
    except ImportError:
        raise UsageError(
            "Checking a report needs jsonschema. Install it with: pip install jsonschema"
        ) from None
    found = jsonschema.Draft202012Validator(load_schema()).iter_errors(report)
    error = next(iter(sorted(found, key=lambda e: str(e.json_path))), None)
    if error is not None:
        raise TfqError(f"The report is not valid at {error.json_path}: {error.message[:300]}")
    _check_names(report)
    for analysis in report["layers"]:
        for i, t in enumerate(analysis["tensors"]):
            if any(k >= i for k in t["inputs"]):
                raise TfqError(
                    f"The report is not valid: tensor {t['name']!r} comes before its inputs."
                )
            for h in (t["histogram"], t["weights"] and t["weights"]["histogram"]):
                if h and h["quantized"] is not None and len(h["quantized"]) != len(h["float"]):
                    raise TfqError(
                        f"The report is not valid: a histogram of tensor {t['name']!r} has "
                        f"{len(h['float'])} and {len(h['quantized'])} bins."
                    )


def _check_names(report: Mapping[str, Any]) -> None:
    names = [m["name"] for m in report["models"]]
    if len(set(names)) != len(names):
        raise TfqError(f"The report is not valid: two models have one name. Received: {names}.")
    if sum(m["reference"] for m in report["models"]) != 1:
        raise TfqError("The report is not valid: one model, and only one, is the reference.")
    rows = [r for s in ("agreement", "outputs", "confusion", "reliability") for r in report[s]]
    rows += [*report["layers"], *report["verdicts"], *report.get("improvements", ())]
    rows += [v for m in report["metrics"] for v in m["values"] + m["differences"]]
    rows += [v for b in report["behaviour"] for v in b["values"]]
    rows += [v for s in report["segmentation"] for c in s["classes"] for v in c["values"]]
    for row in rows:
        if row["model"] not in names:
            raise TfqError(f"The report is not valid: it has no model {row['model']!r}.")


def to_json(report: Mapping[str, Any]) -> bytes:
    """The report as ASCII JSON with sorted keys: equal reports have equal bytes.

    Raises:
      TfqError: a number is not finite.
    """
    try:
        text = json.dumps(report, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise TfqError(
            "A figure of this evaluation is infinite or NaN, which a report cannot hold: an output "
            "of a model is so on some of the samples. Repair the samples or the model; the lines "
            "of the terminal, without --json and --report, say which output."
        ) from None
    return text.encode("ascii") + b"\n"
