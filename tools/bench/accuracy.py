"""Accuracy of int8 files at default settings: float, tfq, TensorFlow's converter, litert-quantizer.

All three calibrate on the same samples, which are not test samples. Classifiers are judged by top-1
and the paired differences also by McNemar's exact test; basic-pitch by note F1 against the notes
that were synthesised (one voice, and two at once, which the float model itself finds hard). The
intervals are 95 % paired bootstrap intervals over test samples.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Callable

import harness
import models
import numpy as np
import stats

TASKS = {
    "digits_example": "examples/digits",
    "digits": "digits CNN",
    "digits_outlier": "digits, one calibration sample of 200 times 20",
    "digits_imbalance": "digits, channels scaled by 2^-4..2^4",
    "fashion": "Fashion-MNIST CNN",
    "basic_pitch": "basic-pitch, one voice (note F1)",
    "basic_pitch_chords": "basic-pitch, two voices (note F1)",
}
QUICK_CASES = 200


@dataclasses.dataclass(frozen=True)
class Score:
    """One model on one task.

    Attributes:
      counts: [cases, figures]; (right, 1) per sample or (hits, false, missed) per clip.
      note: why there is no score, when `counts` is empty.
    """

    counts: np.ndarray
    note: str = ""


def ratio(counts: np.ndarray) -> np.ndarray:
    """Top-1 from summed (right, 1)."""
    return counts[..., 0] / np.maximum(counts[..., 1], 1)


def _metric(task: str) -> Callable[[np.ndarray], np.ndarray]:
    import notes

    return notes.f1 if task.startswith("basic_pitch") else ratio


def evaluate(task: str, files: dict[str, pathlib.Path], cases: int | None) -> dict[str, Score]:
    """Scores of `files` (by column name) on the task's test data, each in its own process job."""
    todo = [
        {
            "id": name,
            "action": "score",
            "task": "notes" if task.startswith("basic_pitch") else "top1",
            "out": str(path),
            "data": str(models.Prepared(task).test),
            "samples": cases,
        }
        for name, path in files.items()
    ]
    answers = harness.run_jobs("judge", todo)
    return {
        name: Score(np.array(a["counts"], np.float64)) if a["ok"] else _failed(a["error"])
        for name, a in answers.items()
    }


def _failed(error: str) -> Score:
    return Score(np.zeros((0, 2)), error)


def run_task(
    task: str, converters: list[str], cases: int | None, settings: dict
) -> dict[str, Score]:
    """Float and every converter on one task."""
    prepared = models.prepare(task)
    failed: dict[str, Score] = {}
    with tempfile.TemporaryDirectory() as work:
        files = {"float": prepared.float_model}
        for converter in converters:
            out = pathlib.Path(work, f"{converter}.tflite")
            job = {
                "action": "convert",
                "model": str(prepared.float_model),
                "saved_model": str(prepared.saved_model),
                "data": str(prepared.calibration),
                "out": str(out),
            }
            if converter == "tfq":
                job["settings"] = settings
            answer = harness.run_job(converter, job)
            if answer["ok"]:
                files[converter] = out
            else:
                failed[converter] = _failed(answer["error"])
        return {**evaluate(task, files, cases), **failed}


def report(task: str, scores: dict[str, Score]) -> tuple[list[list[object]], dict]:
    """Table rows for one task, and the same figures for --json."""
    metric = _metric(task)
    rows: list[list[object]] = []
    figures: dict = {"cases": len(scores["float"].counts), "scores": {}, "differences": {}}
    for name, score in scores.items():
        value = float(metric(score.counts.sum(0))) if len(score.counts) else None
        figures["scores"][name] = value if value is not None else score.note
    cells = [f"{v:.4f}" if isinstance(v, float) else v[:60] for v in figures["scores"].values()]
    rows.append([TASKS[task], len(scores["float"].counts), *cells])
    ours = scores.get("tfq")
    if ours is not None and len(ours.counts):
        for name, other in scores.items():
            if name == "tfq" or not len(other.counts):
                continue
            difference = stats.bootstrap_difference(ours.counts, other.counts, metric)
            entry = dataclasses.asdict(difference)
            if metric is ratio:
                a, b = (s.counts[:, 0] > 0 for s in (ours, other))
                entry["mcnemar_p"] = stats.mcnemar(a, b)
            entry["significantly_below"] = difference.significantly_below
            figures["differences"][name] = entry
    return rows, figures


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--only", help=f"tasks, separated by commas (of {', '.join(TASKS)})")
    parser.add_argument("--settings", default="{}", help="JSON of convert_model's keywords for tfq")
    flags = harness.start(parser)
    tasks = flags.only.split(",") if flags.only else list(TASKS)
    unknown = set(tasks) - set(TASKS)
    if unknown:
        parser.error(f"unknown tasks: {', '.join(sorted(unknown))}")
    cases = QUICK_CASES if flags.quick else None
    rows, differences, figures = [], [], {}
    for task in tasks:
        scores = run_task(task, flags.converters, cases, json.loads(flags.settings))
        scores = {name: scores[name] for name in ("float", *flags.converters)}
        more, figures[task] = report(task, scores)
        rows += more
        for name, d in figures[task]["differences"].items():
            p = f"{d['mcnemar_p']:.3g}" if "mcnemar_p" in d else "-"
            interval = f"{d['value']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]"
            verdict = "significantly below" if d["significantly_below"] else "not below"
            differences.append([TASKS[task], f"tfq - {name}", interval, p, verdict])
    print(stats.table(["task", "test cases", "float", *flags.converters], rows))
    if differences:
        header = ["task", "difference", "value [95 % interval]", "McNemar p", "verdict"]
        print("\n" + stats.table(header, differences))
    harness.write_json(flags, figures)


if __name__ == "__main__":
    main()
