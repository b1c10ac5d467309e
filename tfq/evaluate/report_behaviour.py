"""The report's rows about behaviour: stability, smoothness, confidence, generalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfq.evaluate.behaviour import PROBES
from tfq.evaluate.dataset_scores import OutputScores
from tfq.evaluate.metrics import Task


def behaviour(
    task: Task | None, output: str, scores: OutputScores, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Stability under each probe, and the smoothness of the output under noise.

    Args:
      task, output: what was measured.
      scores: what was found.
      names: of the models.
    """
    rows = []
    flips = "" if task is None else task.flips
    for probe in PROBES:
        found = {i: s for (i, name), s in scores.probe_effects.items() if name == probe.name}
        if not found or not found[0].samples:
            continue
        count = found[0].samples
        if flips:
            rows.append(
                _row(
                    f"flips_{probe.name}",
                    f"{flips} under {probe.title}",
                    "%",
                    count,
                    {names[i]: 100 * s.flips / count for i, s in found.items()},
                )
            )
        rows.append(
            _row(
                f"moved_{probe.name}",
                f"how far the output moves under {probe.title}, of its size",
                "%",
                count,
                {names[i]: 100 * s.moved / count for i, s in found.items()},
            )
        )
        if probe.name == "noise":
            rows.append(
                _row(
                    "roughness",
                    "roughness: change of the output for each unit of change of the input",
                    "",
                    count,
                    {names[i]: s.rough / count for i, s in found.items()},
                )
            )
    if (mean := _confidence(scores, names)) is not None:
        rows.append(mean)
    return [{**row, "output": output} for row in rows]


def _confidence(scores: OutputScores, names: Sequence[str]) -> dict[str, Any] | None:
    values = {}
    for i, name in enumerate(names):
        confidences = scores.confidences(i)
        if confidences is None or not np.isfinite(confidences).all():
            return None
        values[name] = 100 * float(np.mean(confidences, dtype=np.float64))
    row = _row("confidence", "mean confidence in the answer", "%", scores.rows, values)
    return {**row, "better": "neither"}


def generalisation(
    metrics: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    samples: int,
) -> list[dict[str, Any]]:
    """How much worse each metric is on the second data set, which has so many samples."""
    second = {(m["output"], m["name"]): m for m in metrics if m["data"] == 2}
    rows = []
    for m in metrics:
        other = second.get((m["output"], m["name"]))
        if m["data"] != 1 or other is None:
            continue
        sign = 1 if m["better"] == "higher" else -1
        here = {v["model"]: v["value"] for v in m["values"]}
        there = {v["model"]: v["value"] for v in other["values"]}
        gaps = {
            n: None if here[n] is None or there[n] is None else sign * (here[n] - there[n])
            for n in names
            if n in here and n in there
        }
        title = f"generalisation: {m['title']} lost on the second data set"
        row = _row(f"gap_{m['name']}", title, m["unit"], samples, gaps)
        rows.append({**row, "output": m["output"]})
    return rows


def _row(
    name: str, title: str, unit: str, samples: int, values: Mapping[str, float | None]
) -> dict[str, Any]:
    return {
        "name": name,
        "title": title,
        "unit": unit,
        "better": "lower",
        "samples": samples,
        "values": [{"model": n, "value": v} for n, v in values.items()],
    }
