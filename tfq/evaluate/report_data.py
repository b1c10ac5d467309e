"""The report of an evaluation: everything that was found, as plain data.

`tfq/report/schema.json` describes it. Nothing in it depends on the clock or on who worked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from tfq.data import SampleSource
from tfq.evaluate import report_scores
from tfq.evaluate.causes import Finding, Group, group
from tfq.evaluate.dataset_scores import DatasetScores
from tfq.evaluate.figures import LayerAnalysis, as_dict, finite
from tfq.evaluate.models import ComparedModel, Comparison
from tfq.evaluate.scorer import Scorer
from tfq.evaluate.verdict import verdict
from tfq.graph.describe import describe
from tfq.graph.model import Model
from tfq.graph.origin import has_fixed_range, last_grid
from tfq.parts import PartFigures, decibel
from tfq.plan.evidence import Evidence
from tfq.verify.meter import is_starved

_VERSION = 1
_PACKAGES = ("tfq", "ai-edge-litert", "tensorflow", "numpy", "scikit-learn")


def make_report(
    *,
    comparison: Comparison,
    scorers: Sequence[Scorer],
    sources: tuple[SampleSource, SampleSource | None],
    scores: tuple[DatasetScores, DatasetScores | None],
    analyses: Mapping[str, LayerAnalysis],
    findings: Mapping[str, Sequence[Finding]],
    improvements: Mapping[str, Sequence[Evidence]],
    seed: int,
    command: str | None,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """Everything known about an evaluation as JSON-ready data.

    Args:
      comparison: the models.
      scorers: what was measured.
      sources, scores: of the first and the second data set.
      analyses, findings: by name of the model.
      improvements: what files say that was tried when they were made, by name of the model.
      seed: of resampling.
      command: the command line, or None.
      warnings: what the reader should know.
    """
    names = [m.name for m in comparison.models]
    first = scores[0]
    scored, undefined = report_scores.scored(comparison, scorers, sources[0], scores, seed)
    report = {
        "format": "tfq-report",
        "version": _VERSION,
        "title": _title(names),
        "command": command,
        "versions": {p: _version(p) for p in _PACKAGES},
        "data": _data(sources[0], first),
        "second_data": None
        if sources[1] is None or scores[1] is None
        else _data(sources[1], scores[1]),
        "models": [_model(m, i == 0) for i, m in enumerate(comparison.models)],
        **scored,
        "outputs": _outputs(first, comparison),
        "improvements": [
            _improvement(m, tried) for m in comparison.models for tried in improvements[m.name]
        ],
        "layers": [
            {"model": name, "samples": a.samples, "tensors": as_dict(a)}
            for name, a in analyses.items()
        ],
        "verdicts": sorted(
            (_cause(name, g) for name, found in findings.items() for g in group(found)),
            key=lambda cause: -cause["severity"],
        ),
        "warnings": [*warnings, *undefined],
    }
    report["verdict"] = verdict(report)
    return report


def _title(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    others = names[1:]
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    return f"{shown} against {names[0]}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _data(source: SampleSource, scores: DatasetScores) -> dict[str, Any]:
    return {
        "description": source.description,
        "samples": scores.rows,
        "labelled": source.has_labels,
    }


def _model(m: ComparedModel, reference: bool) -> dict[str, Any]:
    info = describe(m.file, where=m.name)
    counts: dict[str, int] = {}
    for graph in info["graphs"]:
        for row in graph["op_counts"]:
            counts[row["op"]] = counts.get(row["op"], 0) + row["count"]
    return {
        "name": m.name,
        "path": m.path,
        "reference": reference,
        "kind": m.kind,
        "bytes": len(m.file),
        "sha256": hashlib.sha256(m.file).hexdigest(),
        "full_integer": info["fully_integer"],
        "min_runtime_version": info["min_runtime_version"],
        "ops": [
            {"op": op, "count": n} for op, n in sorted(counts.items(), key=lambda c: (-c[1], c))
        ],
        "weights": [
            {"dtype": dtype, "values": w["values"], "bytes": w["bytes"]}
            for dtype, w in info["weights"].items()
        ],
        **{side: _arguments(info, m, side) for side in ("inputs", "outputs")},
    }


def _arguments(info: Mapping[str, Any], m: ComparedModel, side: str) -> list[dict[str, Any]]:
    key = m.interface.signature
    signature = next((s for s in info["signatures"] if s["key"] == key), info["signatures"][0])
    return [
        {
            "name": a["argument"],
            "dtype": a["dtype"],
            "shape": a["shape"],
            "scale": a["scales"][0] if a["scales"] else None,
            "zero_point": a["zero_points"][0] if a["scales"] else None,
        }
        for a in signature[side]
    ]


def _outputs(scores: DatasetScores, comparison: Comparison) -> list[dict[str, Any]]:
    rows = []
    for (i, output), d in scores.distances.items():
        m = comparison.models[i]
        step, has_parts = _grid_of_output(m, m.outputs[output])
        parts = () if d.channels is None or not has_parts else d.channels.parts()
        rows.append(
            {
                "model": m.name,
                "output": output,
                "sqnr_db": finite(decibel(d.power, d.error)),
                "max_abs": d.largest,
                "mean_abs": d.absolute / max(d.values, 1),
                "cosine": d.cosine / max(d.samples, 1),
                "parts": [_part(p, step) for p in parts],
            }
        )
    return rows


def _improvement(m: ComparedModel, tried: Evidence) -> dict[str, Any]:
    """What one improvement did, by the outputs' names."""
    names = {tensor: name for name, tensor in m.outputs.items()}
    made = dataclasses.asdict(tried)
    refused = made["refused"]
    for row in (*made["effects"], *filter(None, [refused])):
        row["output"] = names.get(row["output"], row["output"])
    kept = {key: made[key] for key in ("name", "kept", "tried", "note")}
    return {"model": m.name, **kept, "outputs": list(made["effects"]), "refused": refused}


def _grid_of_output(m: ComparedModel, tensor: str) -> tuple[float, bool]:
    """The step of an output, 0 without one, and whether its values can differ in range."""
    graph = Model.from_bytes(m.model).main
    producers = graph.producers()
    t = next((t for t in graph.outputs if t.name == tensor), None)
    if t is None:
        return 0.0, False
    grid = last_grid(t, producers)
    return grid.scale[0] if grid is not None else 0.0, not has_fixed_range(t, producers)


def _part(p: PartFigures, step: float) -> dict[str, Any]:
    steps = (p.high - p.low) / step if step else None
    return {
        "part": str(p.part),
        "low": p.low,
        "high": p.high,
        "steps": steps,
        "sqnr_db": finite(p.sqnr_db),
        "spread_db": finite(p.spread_db),
        "max_abs": p.max_abs,
        "starved": is_starved(steps, p.spread_db),
    }


def _cause(model: str, found: Group) -> dict[str, Any]:
    """Findings of one cause and one remedy as one: the worst of them, and where else it is."""
    worst = found.findings[0].as_dict()
    remedy = {"text": found.remedy.text, "flag": found.remedy.flag, "call": found.remedy.call}
    return {
        "model": model,
        **worst,
        "title": found.title,
        "severity": found.severity,
        "tensors": list(found.tensors),
        "layers": list(found.layers),
        "remedy": remedy,
    }
