"""The report's rows about what was measured: tasks, metrics, answers, classes, behaviour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfq.data import SampleSource
from tfq.evaluate.dataset_scores import DatasetScores, OutputScores
from tfq.evaluate.metrics import (
    Classification,
    Metric,
    Segmentation,
    Task,
    compare,
    confusion,
    ece_of_bins,
    reliability,
    score,
)
from tfq.evaluate.metrics.segmentation import class_accuracy, class_iou
from tfq.evaluate.models import Comparison
from tfq.evaluate.paired import flips
from tfq.evaluate.report_behaviour import behaviour, generalisation
from tfq.evaluate.scorer import Scorer

_MOST_CLASSES = 100  # Of a confusion matrix that a person can read.


def scored(
    comparison: Comparison,
    scorers: Sequence[Scorer],
    source: SampleSource,
    scores: tuple[DatasetScores, DatasetScores | None],
    seed: int,
) -> tuple[dict[str, Any], list[str]]:
    """The parts of a report that scorers fill, those of all in one list each.

    Args:
      comparison: the models.
      scorers: what was measured.
      source: the first data set.
      scores: of the first and the second data set.
      seed: of resampling.

    Returns:
      The parts by their names in the report, and why metrics have no value.
    """
    names = [m.name for m in comparison.models]
    parts: dict[str, list[dict[str, Any]]] = {
        key: []
        for key in ("tasks", "metrics", "agreement", "confusion", "reliability", "segmentation")
    }
    moved: list[dict[str, Any]] = []
    why: list[str] = []
    for k, scorer in enumerate(scorers):
        output = scorer.output or comparison.outputs[0].name
        undefined: dict[str, str] = {}
        first = scores[0].of(k)
        if scorer.task is not None:
            parts["tasks"].append(_task(scorer.task, output, source))
        for number, found in enumerate(scores, 1):
            if found is None:
                continue
            of = found.of(k)
            parts["metrics"] += [
                _metric(metric, output, of, number, names, seed, undefined)
                for metric in scorer.metrics
            ]
            parts["agreement"] += _agreement(output, of, number, names)
            parts["segmentation"] += _segmentation(scorer.task, output, of, number, names)
        parts["confusion"] += _confusion(scorer.task, output, first, names)
        parts["reliability"] += _reliability(output, first, names)
        moved += behaviour(scorer.task, output, first, names)
        start = f"{output}, " if len(scorers) > 1 else ""
        why += [f"{start}{title}: {reason}" for title, reason in undefined.items()]
    if scores[1] is not None:
        moved += generalisation(parts["metrics"], names, scores[1].rows)
    task = parts["tasks"][0] if parts["tasks"] else None
    return {"task": task, **parts, "behaviour": moved}, why


def _task(task: Task, output: str, source: SampleSource) -> dict[str, Any]:
    classes = None
    if isinstance(task, Classification) or (isinstance(task, Segmentation) and not task.maps):
        classes = task.classes
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
    output: str,
    scores: OutputScores,
    number: int,
    names: Sequence[str],
    seed: int,
    undefined: dict[str, str],
) -> dict[str, Any]:
    kept = [scores.kept(i, metric.kept_as or metric.name) for i in range(len(names))]
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
        "output": output,
        "unit": metric.unit,
        "better": metric.better,
        "data": number,
        "values": values,
        "differences": differences,
    }


def _agreement(
    output: str, scores: OutputScores, number: int, names: Sequence[str]
) -> list[dict[str, Any]]:
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
                "output": output,
                "samples": found.samples,
                "same": found.same,
                "right_to_wrong": found.right_to_wrong,
                "wrong_to_right": found.wrong_to_right,
                "wrong_to_wrong": found.wrong_to_wrong,
                "p": found.p,
            }
        )
    return rows


def _confusion(
    task: Task | None, output: str, scores: OutputScores, names: Sequence[str]
) -> list[dict[str, Any]]:
    labels = scores.labels()
    if not isinstance(task, Classification) or labels is None or task.classes > _MOST_CLASSES:
        return []
    return [
        {
            "model": name,
            "output": output,
            "matrix": confusion(labels, answers, task.classes).tolist(),
        }
        for i, name in enumerate(names)
        if (answers := scores.answers(i)) is not None
    ]


def _reliability(output: str, scores: OutputScores, names: Sequence[str]) -> list[dict[str, Any]]:
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
                "output": output,
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


def _segmentation(
    task: Task | None, output: str, scores: OutputScores, number: int, names: Sequence[str]
) -> list[dict[str, Any]]:
    """The classes of a segmentation: how large each is, and every model's IoU and accuracy."""
    kept = scores.kept(0, "pixels") if isinstance(task, Segmentation) else None
    if kept is None or "labelled" not in kept:
        return []
    totals = [_totals(scores.kept(i, "pixels") or {}) for i in range(len(names))]
    ious = [class_iou(t) for t in totals]
    accuracies = [class_accuracy(t) for t in totals]
    there = np.any([np.isfinite(iou) for iou in ious], axis=0)
    return [
        {
            "output": output,
            "data": number,
            "pixels": int(totals[0]["labelled"].sum()),
            "ignored": int(totals[0]["ignored"].sum()),
            "classes": [
                {
                    "index": int(c),
                    "pixels": int(totals[0]["labelled"][c]),
                    "values": [
                        {
                            "model": name,
                            "iou": _number(ious[i][c]),
                            "accuracy": _number(accuracies[i][c]),
                            "pixels": int(totals[i]["answered"][c]),
                        }
                        for i, name in enumerate(names)
                    ],
                }
                for c in np.flatnonzero(there)
            ],
        }
    ]


def _totals(kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: rows.sum(axis=0, dtype=np.int64) for name, rows in kept.items()}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
