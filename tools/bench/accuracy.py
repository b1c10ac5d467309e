"""Accuracy of int8 files at default settings: float, tfq, TensorFlow's converter, litert-quantizer.

All three calibrate on the same samples, which are not test samples. Classifiers are judged by top-1
and the paired differences also by McNemar's exact test; basic-pitch by note F1 against the notes
that were synthesised (one voice, and two at once, which the float model itself finds hard). The
intervals are 95 % paired bootstrap intervals over test samples.

Then real networks, each output in dB against the float model's on images that did not calibrate
(`network_accuracy.py`): those that PyPI wheels carry and, with --vision=DIR, every `.tflite` file
of DIR, on the photos of `DIR/images` (`DIR/labels.csv` has the classes of a classifier).
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Callable

import harness
import litert_model
import models
import network_accuracy
import networks
import numpy as np
import stats

TASKS = {
    "digits_example": "examples/digits",
    "digits": "digits CNN",
    "digits_outlier": "digits, one calibration sample of 200 times 20",
    "digits_imbalance": f"digits, channels scaled by 2^-4..2^4 ({models.IMBALANCES} draws)",
    "fashion": "Fashion-MNIST CNN",
    "basic_pitch": "basic-pitch, one voice (note F1)",
    "basic_pitch_chords": "basic-pitch, two voices (note F1)",
}
# Tasks that are several models over the same test samples; a sample's counts are summed.
PARTS = {"digits_imbalance": [f"digits_imbalance_{i}" for i in range(models.IMBALANCES)]}
QUICK_CASES = 200


@dataclasses.dataclass(frozen=True)
class Score:
    """One model on one task.

    Attributes:
      counts: [cases, figures]; (right, models) per sample or (hits, false, missed) per clip.
      integer: whether every tensor of the model is of an integer type.
      note: why there is no score, when `counts` is empty.
    """

    counts: np.ndarray
    integer: bool = False
    note: str = ""


def ratio(counts: np.ndarray) -> np.ndarray:
    """Top-1 from summed (right, models)."""
    return counts[..., 0] / np.maximum(counts[..., 1], 1)


def _metric(task: str) -> Callable[[np.ndarray], np.ndarray]:
    import notes

    return notes.f1 if task.startswith("basic_pitch") else ratio


def evaluate(model: str, files: dict[str, pathlib.Path], cases: int | None) -> dict[str, Score]:
    """Scores of `files` (by column name) on the test data of a prepared model."""
    todo = [
        {
            "id": name,
            "action": "score",
            "task": "notes" if model.startswith("basic_pitch") else "top1",
            "out": str(path),
            "data": str(models.Prepared(model).test),
            "samples": cases,
        }
        for name, path in files.items()
    ]
    answers = harness.run_jobs("judge", todo)
    return {
        name: Score(
            np.array(a["counts"], np.float64), litert_model.kinds(files[name]).fully_integer
        )
        if a["ok"]
        else _failed(a["error"])
        for name, a in answers.items()
    }


def _failed(error: str) -> Score:
    return Score(np.zeros((0, 2)), note=error)


def run_task(
    task: str, converters: list[str], cases: int | None, settings: dict
) -> dict[str, Score]:
    """Float and every converter on one task, summed over the models it is made of."""
    parts = [_run_model(m, converters, cases, settings) for m in PARTS.get(task, [task])]
    return {name: _sum([part[name] for part in parts]) for name in parts[0]}


def _sum(parts: list[Score]) -> Score:
    failed = next((p for p in parts if not len(p.counts)), None)
    if failed is not None:
        return failed
    return Score(np.sum([p.counts for p in parts], axis=0), all(p.integer for p in parts))


def _run_model(
    model: str, converters: list[str], cases: int | None, settings: dict
) -> dict[str, Score]:
    prepared = models.prepare(model)
    failed: dict[str, Score] = {}
    with tempfile.TemporaryDirectory() as work:
        files = {"float": prepared.float_model}
        for converter in converters:
            out = pathlib.Path(work, f"{converter}.tflite")
            answer = harness.run_job(
                *harness.conversion(converter, prepared, out, settings=settings)
            )
            if answer["ok"]:
                files[converter] = out
            else:
                failed[converter] = _failed(answer["error"])
        return {**evaluate(model, files, cases), **failed}


def report(task: str, scores: dict[str, Score]) -> tuple[list[list[object]], dict]:
    """Table rows for one task, and the same figures for --json."""
    metric = _metric(task)
    rows: list[list[object]] = []
    figures: dict = {
        "cases": len(scores["float"].counts),
        "scores": {},
        "integer": {},
        "differences": {},
    }
    for name, score in scores.items():
        value = float(metric(score.counts.sum(0))) if len(score.counts) else None
        figures["scores"][name] = value if value is not None else score.note
        figures["integer"][name] = score.integer
    cells = [
        (f"{v:.4f}" if isinstance(v, float) else v[:60])
        + (", not integer" if name != "float" and not scores[name].integer else "")
        for name, v in figures["scores"].items()
    ]
    rows.append([TASKS[task], len(scores["float"].counts), *cells])
    ours = scores.get("tfq")
    if ours is not None and len(ours.counts):
        for name, other in scores.items():
            if name == "tfq" or not len(other.counts):
                continue
            difference = stats.bootstrap_difference(ours.counts, other.counts, metric)
            entry = dataclasses.asdict(difference)
            if metric is ratio and task not in PARTS:
                a, b = (s.counts[:, 0] > 0 for s in (ours, other))
                entry["mcnemar_p"] = stats.mcnemar(a, b)
            entry["significantly_below"] = difference.significantly_below
            figures["differences"][name] = entry
    return rows, figures


def main() -> None:
    parser = harness.parser(__doc__)
    carried = [*network_accuracy.BUILT, *(n for names in networks.WHEELS.values() for n in names)]
    parser.add_argument(
        "--only",
        help=f"tasks, separated by commas (of {', '.join(dict.fromkeys([*TASKS, *carried]))}; "
        "with --vision also the names of its networks)",
    )
    parser.add_argument("--vision", type=pathlib.Path, metavar="DIR", help="networks and photos")
    parser.add_argument("--settings", default="{}", help="JSON of convert_model's keywords for tfq")
    flags = harness.start(parser)
    own = [n.name for n in networks.of_folder(flags.vision)] if flags.vision else []
    carried = [n for n in carried if n not in own]
    tasks = flags.only.split(",") if flags.only else list(dict.fromkeys([*TASKS, *own, *carried]))
    unknown = set(tasks) - {*TASKS, *own, *carried}
    if unknown:
        parser.error(f"unknown tasks: {', '.join(sorted(unknown))}")
    cases = QUICK_CASES if flags.quick else None
    settings = json.loads(flags.settings)
    figures = run_tasks([t for t in tasks if t in TASKS], flags.converters, cases, settings)
    chosen = [t for t in tasks if t not in TASKS or t in network_accuracy.BUILT]
    figures |= network_accuracy.run(chosen, flags.vision, flags.converters, cases, settings)
    harness.write_json(flags, figures)


def run_tasks(tasks: list[str], converters: list[str], cases: int | None, settings: dict) -> dict:
    """Prints the table of `tasks`, the differences and the verdict; returns the figures."""
    rows, differences, figures = [], [], {}
    for task in tasks:
        scores = run_task(task, converters, cases, settings)
        scores = {name: scores[name] for name in ("float", *converters)}
        more, figures[task] = report(task, scores)
        rows += more
        for name, d in figures[task]["differences"].items():
            p = f"{d['mcnemar_p']:.3g}" if "mcnemar_p" in d else "-"
            interval = f"{d['value']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]"
            judged = "significantly below" if d["significantly_below"] else "not below"
            differences.append([TASKS[task], f"tfq - {name}", interval, p, judged])
    if rows:
        print(stats.table(["task", "test cases", "float", *converters], rows))
    if differences:
        header = ["task", "difference", "value [95 % interval]", "McNemar p", "verdict"]
        print("\n" + stats.table(header, differences))
        print("\n" + verdict(figures))
    return figures


def verdict(figures: dict) -> str:
    """Whether tfq is, on every task, not distinguishable from float or loses at most half of what
    the better peer loses."""
    worse = []
    for task, found in figures.items():
        scores, against_float = found["scores"], found["differences"].get("float")
        if against_float is None:
            worse.append(f"{task} (no score)")
        elif against_float["significantly_below"]:
            peers = [v for k, v in scores.items() if k not in ("float", "tfq")]
            drops = [scores["float"] - v for v in peers if isinstance(v, float)]
            if not drops or -against_float["value"] > min(drops) / 2:
                worse.append(f"{task} ({against_float['value']:+.4f})")
    goal = "not distinguishable from float, or at most half of the better peer's drop"
    return f"{goal}: " + (f"NOT on {', '.join(worse)}" if worse else "on every task")


if __name__ == "__main__":
    main()
