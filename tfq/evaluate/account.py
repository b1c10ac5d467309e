"""The report of an evaluation: everything that was found, as plain data.

`tfq/report/schema.json` describes it. Nothing in it depends on the clock or on who worked.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfq.data import SampleSource
from tfq.evaluate.account_behaviour import behaviour, generalisation
from tfq.evaluate.contestants import Contestant, Field
from tfq.evaluate.figures import LayerAnalysis, as_dict
from tfq.evaluate.judge import Finding, Group, group
from tfq.evaluate.metrics import (
    Classification,
    Metric,
    Task,
    compare,
    confusion,
    ece_of_bins,
    reliability,
    score,
)
from tfq.evaluate.paired import flips
from tfq.evaluate.scores import Scores
from tfq.evaluate.verdict import verdict
from tfq.graph.describe import describe

_VERSION = 1
_PACKAGES = ("tfq", "ai-edge-litert", "tensorflow", "numpy", "scikit-learn")
_MOST_CLASSES = 100  # Of a confusion matrix that a person can read.


def make_report(
    *,
    field: Field,
    task: Task | None,
    measured: Sequence[Metric],
    output: str | None,
    sources: tuple[SampleSource, SampleSource | None],
    scores: tuple[Scores, Scores | None],
    analyses: Mapping[str, LayerAnalysis],
    findings: Mapping[str, Sequence[Finding]],
    seed: int,
    command: str | None,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """Everything known about an evaluation as JSON-ready data.

    Args:
      field: the models.
      task, measured, output: what was measured.
      sources, scores: of the first and the second data set.
      analyses, findings: by name of the model.
      seed: of resampling.
      command: the command line, or None.
      warnings: what the reader should know.
    """
    names = [m.name for m in field.models]
    first = scores[0]
    sets = [(i + 1, s) for i, s in enumerate(scores) if s is not None]
    undefined: dict[str, str] = {}
    metrics = [
        _metric(metric, s, number, names, seed, undefined)
        for number, s in sets
        for metric in measured
    ]
    agreement = [row for number, s in sets for row in _agreement(s, number, names)]
    outputs = _outputs(first, names)
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
        "models": [_model(m, i == 0) for i, m in enumerate(field.models)],
        "task": _task(task, output or field.outputs[0].name, sources[0]),
        "metrics": metrics,
        "agreement": agreement,
        "outputs": outputs,
        "confusion": _confusion(task, first, names),
        "reliability": _reliability(first, names),
        "behaviour": [*behaviour(task, first, names), *generalisation(metrics, names, scores)],
        "layers": [
            {"model": name, "samples": a.samples, "tensors": as_dict(a)}
            for name, a in analyses.items()
        ],
        "verdicts": sorted(
            (_cause(name, g) for name, found in findings.items() for g in group(found)),
            key=lambda cause: -cause["severity"],
        ),
        "warnings": [*warnings, *(f"{name}: {why}" for name, why in undefined.items())],
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


def _data(source: SampleSource, scores: Scores) -> dict[str, Any]:
    return {
        "description": source.description,
        "samples": scores.rows,
        "labelled": source.has_labels,
    }


def _model(m: Contestant, reference: bool) -> dict[str, Any]:
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


def _arguments(info: Mapping[str, Any], m: Contestant, side: str) -> list[dict[str, Any]]:
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


def _task(task: Task | None, output: str, source: SampleSource) -> dict[str, Any] | None:
    if task is None:
        return None
    classes = task.classes if isinstance(task, Classification) else None
    names = source.class_names
    return {
        "name": task.name,
        "output": output,
        "classes": classes,
        "class_names": None if not names or classes is None else list(names),
        **task.facts(),
    }


def _metric(
    metric: Metric,
    scores: Scores,
    number: int,
    names: Sequence[str],
    seed: int,
    undefined: dict[str, str],
) -> dict[str, Any]:
    kept = [scores.kept(i, metric.name) for i in range(len(names))]
    values, differences = [], []
    for i, name in enumerate(names):
        mine = kept[i]
        if mine is None:
            continue
        found = score(metric, mine, seed=seed)
        if found.value is None:
            undefined.setdefault(metric.title, found.reason)
        values.append({"model": name, "value": found.value, "low": found.low, "high": found.high})
        if i and kept[0] is not None:
            d = compare(metric, mine, kept[0], seed=seed)
            differences.append(
                {
                    "model": name,
                    "value": d.value,
                    "low": d.low,
                    "high": d.high,
                    "p": d.p,
                    "resamples": d.resamples,
                }
            )
    return {
        "name": metric.name,
        "title": metric.title,
        "unit": metric.unit,
        "better": metric.better,
        "data": number,
        "values": values,
        "differences": differences,
    }


def _agreement(scores: Scores, number: int, names: Sequence[str]) -> list[dict[str, Any]]:
    reference, labels = scores.answers(0), scores.labels()
    if reference is None:
        return []
    rows = []
    for i, name in enumerate(names):
        answers = scores.answers(i)
        if i == 0 or answers is None:
            continue
        found = flips(reference, answers, labels)
        rows.append(
            {
                "model": name,
                "data": number,
                "samples": found.samples,
                "same": found.same,
                "right_to_wrong": found.right_to_wrong,
                "wrong_to_right": found.wrong_to_right,
                "wrong_to_wrong": found.wrong_to_wrong,
                "p": found.p,
            }
        )
    return rows


def _outputs(scores: Scores, names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "model": names[i],
            "output": output,
            "sqnr_db": 10 * math.log10(max(d.power, 1e-30) / d.error) if d.error else None,
            "max_abs": d.largest,
            "mean_abs": d.absolute / max(d.values, 1),
            "cosine": d.cosine / max(d.samples, 1),
        }
        for (i, output), d in scores.distances.items()
    ]


def _confusion(task: Task | None, scores: Scores, names: Sequence[str]) -> list[dict[str, Any]]:
    labels = scores.labels()
    if not isinstance(task, Classification) or labels is None or task.classes > _MOST_CLASSES:
        return []
    return [
        {"model": name, "matrix": confusion(labels, answers, task.classes).tolist()}
        for i, name in enumerate(names)
        if (answers := scores.answers(i)) is not None
    ]


def _reliability(scores: Scores, names: Sequence[str]) -> list[dict[str, Any]]:
    labels = scores.labels()
    if labels is None:
        return []
    rows = []
    for i, name in enumerate(names):
        answers, confidences = scores.answers(i), scores.confidences(i)
        if answers is None or confidences is None or not np.isfinite(confidences).all():
            continue
        bins = reliability(confidences, answers == labels)
        rows.append(
            {
                "model": name,
                "ece": ece_of_bins(bins),
                "bins": [
                    {
                        "low": b.low,
                        "high": b.high,
                        "count": b.count,
                        "confidence": b.confidence,
                        "accuracy": b.accuracy,
                    }
                    for b in bins
                ],
            }
        )
    return rows


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
