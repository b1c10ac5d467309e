"""Real networks in int8: each output in dB against float's, tfq beside its peers.

The dB of an output is 10 log10(sum of squares of the float output / of the difference), summed over
the test images; the mean over outputs is that of their dB. tfq runs twice: with its defaults and
"fast", min/max ranges and nothing else. Intervals are 95 % paired bootstrap intervals over images.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import tempfile
from collections.abc import Mapping, Sequence

import harness
import litert_model
import models
import networks
import numpy as np
import stats

# Networks that are not `.tflite` files: `models.py` builds them, SavedModel and data included.
BUILT = ("fer", "basic_pitch")
GOAL_DB, GOAL_SAME = 3.0, 0.94


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One converter on one network.

    Attributes:
      power: by output [cases, 2]: summed squares of the float output and of the difference.
      same: [cases] whether a classifier's answer is float's; empty for other networks.
      right: [cases] whether it is the label; empty without labels.
      float_ops: operators left in float.
      note: why there is nothing, when `power` is empty.
    """

    power: Mapping[str, np.ndarray]
    same: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    right: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    float_ops: int = 0
    note: str = ""


def decibels(power: np.ndarray) -> np.ndarray:
    """The mean dB of outputs from summed powers [..., 2 * outputs], signal and error in turn."""
    signal, error = power[..., 0::2], power[..., 1::2]
    tiny = np.finfo(np.float64).tiny
    return np.mean(10 * np.log10(np.maximum(signal, tiny) / np.maximum(error, tiny)), axis=-1)


def share(counts: np.ndarray) -> np.ndarray:
    """The share of cases from summed (cases counted, cases)."""
    return counts[..., 0] / counts[..., 1]


def measures(outcome: Outcome) -> dict[str, np.ndarray]:
    """What is compared, by name: rows [cases, figures] for `metric_of`."""
    rows = {f"{name}, dB": p for name, p in outcome.power.items()}
    if len(rows) > 1:
        rows["mean, dB"] = np.concatenate(list(outcome.power.values()), axis=1)
    for name, bits in (("same answer as float", outcome.same), ("top-1", outcome.right)):
        if len(bits):
            rows[name] = np.stack([bits, np.ones_like(bits)], axis=1).astype(np.float64)
    return rows


def _metric(measure: str):  # type: ignore[no-untyped-def]
    return decibels if measure.endswith(", dB") else share


def run_network(
    prepared: models.Prepared | networks.Prepared,
    converters: Sequence[str],
    cases: int | None,
    settings: dict,
) -> dict[str, Outcome]:
    """Every converter on one network, and "float" itself; tfq also as "tfq-fast"."""
    found = {}
    with tempfile.TemporaryDirectory() as work:
        files = {"float": prepared.float_model}
        for column in harness.columns(converters):
            out = pathlib.Path(work, f"{column}.tflite")
            answer = harness.run_job(*harness.conversion(column, prepared, out, settings=settings))
            if answer["ok"]:
                files[column] = out
            else:
                found[column] = Outcome({}, note=answer["error"])
        judged = harness.run_jobs(
            "judge",
            [
                {
                    "id": column,
                    "action": "outputs",
                    "model": str(prepared.float_model),
                    "out": str(path),
                    "data": str(prepared.test),
                    "samples": cases,
                }
                for column, path in files.items()
            ],
        )
        for column, answer in judged.items():
            found[column] = (
                Outcome(
                    {k: np.array(v) for k, v in answer["power"].items()},
                    np.array(answer["same"]),
                    np.array(answer["right"]),
                    sum(litert_model.kinds(files[column]).float_ops.values()),
                )
                if answer["ok"]
                else Outcome({}, note=answer["error"])
            )
    return {column: found[column] for column in ("float", *harness.columns(converters))}


def summarize(found: Mapping[str, Outcome]) -> dict:
    """The figures of one network: scores by measure and column, and tfq minus each other column."""
    rows = {column: measures(outcome) for column, outcome in found.items()}
    figures: dict = {
        "cases": len(next(iter(found["float"].power.values()))),
        "scores": {},
        "differences": {},
        "float_ops": {c: o.float_ops for c, o in found.items() if c != "float"},
        "failed": {c: o.note for c, o in found.items() if not o.power},
    }
    for measure in rows["float"]:
        metric = _metric(measure)
        compared = [c for c in found if measure in rows[c]]
        if metric is decibels or measure == "same answer as float":
            compared.remove("float")
        figures["scores"][measure] = {c: float(metric(rows[c][measure].sum(0))) for c in compared}
        if "tfq" not in compared:
            continue
        figures["differences"][measure] = {
            c: dataclasses.asdict(d) | {"significantly_below": d.significantly_below}
            for c in compared
            if c != "tfq"
            and (d := stats.bootstrap_difference(rows["tfq"][measure], rows[c][measure], metric))
        }
    return figures


def _cell(figures: dict, measure: str, column: str) -> str:
    if column in figures["failed"]:
        return figures["failed"][column][:60]
    value = figures["scores"][measure].get(column)
    if value is None:
        return "-"
    left = figures["float_ops"].get(column, 0)
    text = f"{value:.1f}" if measure.endswith(", dB") else f"{value:.3f}"
    return text + (f" ({left} float ops)" if left else "")


def tables(figures: Mapping[str, dict], converters: Sequence[str]) -> str:
    """Both tables: what every converter has, and tfq minus the others."""
    shown = ["float", *harness.columns(converters)]
    rows, differences = [], []
    for network, found in figures.items():
        for measure in found["scores"]:
            cells = [_cell(found, measure, c) for c in shown]
            rows.append([network, measure, found["cases"], *cells])
        for measure, others in found["differences"].items():
            cells = [
                f"{d['value']:+.{n}f} [{d['low']:+.{n}f}, {d['high']:+.{n}f}]"
                if (d := others.get(c))
                else "-"
                for n in [1 if measure.endswith(", dB") else 3]
                for c in shown
                if c != "tfq"
            ]
            differences.append([network, measure, *cells])
    text = stats.table(["network", "output", "images", *shown], rows)
    if differences:
        header = ["network", "tfq minus, [95 %]", *(c for c in shown if c != "tfq")]
        text += "\n\n" + stats.table(header, differences)
    return text


def verdicts(figures: Mapping[str, dict]) -> list[str]:
    """One line for each goal: where it does not hold, with the difference, or that it holds."""

    def below(column: str) -> list[str]:
        return [
            f"{network} {measure.removesuffix(', dB')} ({d['value']:+.1f}"
            + ("" if d["significantly_below"] else ", within noise")
            + ")"
            for network, found in figures.items()
            for measure, others in found["differences"].items()
            if measure.endswith(", dB") and measure != "mean, dB"
            if (d := others.get(column)) is not None and d["value"] < 0
        ]

    def line(goal: str, where: Sequence[str]) -> str:
        return f"{goal}: " + (f"NOT on {', '.join(where)}" if where else "on every one")

    lines = []
    if failed := [
        n for n, f in figures.items() if "tfq" in f["failed"] or "tfq-fast" in f["failed"]
    ]:
        lines.append(f"tfq has no file for: {', '.join(failed)}")
    for column in ("tfq-fast", "litert-quantizer", "tensorflow"):
        if any(column in others for f in figures.values() for others in f["differences"].values()):
            lines.append(line(f"each output at least that of {column}", below(column)))
    for peer in ("litert-quantizer", "tensorflow"):
        means = [
            np.mean([d[peer]["value"] for m, d in found["differences"].items() if m in outputs])
            for found in figures.values()
            if (outputs := [m for m, d in found["differences"].items()
                            if m.endswith(", dB") and m != "mean, dB" and peer in d])
        ]  # fmt: skip
        if means:
            goal = f" (goal >= {GOAL_DB})" if peer == "litert-quantizer" else ""
            lines.append(f"mean over networks, tfq - {peer}: {np.mean(means):+.1f} dB{goal}")
    for network, found in figures.items():
        same = found["scores"].get("same answer as float", {}).get("tfq")
        if same is not None:
            lines.append(
                f"{network}: float's answer on {same:.1%} of images (goal {GOAL_SAME:.0%})"
            )
    return lines


def run(
    names: Sequence[str],
    vision: pathlib.Path | None,
    converters: Sequence[str],
    cases: int | None,
    settings: dict,
) -> dict[str, dict]:
    """Measures the networks of these names and prints tables and verdicts; returns the figures."""
    if not names:
        return {}
    own = {n.name: n for n in networks.of_folder(vision)} if vision else {}
    if any(n not in own and n not in BUILT for n in names):
        own = {n.name: n for n in networks.of_wheels(models.CACHE / "wheels")} | own
    photos = networks.Photos(vision)
    figures = {}
    with tempfile.TemporaryDirectory() as work:
        for name in names:
            print(name, file=sys.stderr, flush=True)
            prepared = (
                models.prepare(name)
                if name in BUILT
                else networks.prepare(own[name], photos, pathlib.Path(work, name))
            )
            figures[name] = summarize(run_network(prepared, converters, cases, settings))
    print("\n" + tables(figures, converters))
    print("\n" + "\n".join(verdicts(figures)))
    return figures
