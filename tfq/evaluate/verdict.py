"""The one sentence on top: is the quantized model good enough?

The limits are what the field calls a small and a large loss: one point of accuracy, as in MLPerf's
"99 % of float", and three. Losses that chance explains are none; a set too small to tell is
doubtful.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfq.evaluate import paired

# Fewer samples say little, whatever they say.
_FEW = 30
# Below this share of equal answers a model is another one, even where it is right as often.
_SAME = 0.9

# Loss up to which a model is good, and from which it is bad, by unit; without unit in % of float's.
_LIMITS = {"%": (1.0, 3.0), "dB": (0.3, 1.0), "": (1.0, 5.0)}
_ORDER = ("good", "doubtful", "bad")
_DB = (25.0, 10.0)  # Of outputs without labels: at least good, and below it bad.


def verdict(report: Mapping[str, Any]) -> dict[str, str]:
    """`text` and `status` ("good", "doubtful", "bad", or "none": nothing to compare with)."""
    names = [m["name"] for m in report["models"]]
    if len(names) == 1:
        return {"text": _alone(report), "status": "none"}
    judged = [
        _of_model(report, name, output, len(names) > 2)
        for name in names[1:]
        for output in _outputs(report)
    ]
    statuses = [s for _, s in judged]
    texts = [text for text, _ in judged]
    for name in names[1:]:
        same = min((a["same"] for a in report["agreement"] if a["model"] == name), default=1.0)
        # Without labels the sentence is about just that already.
        if same < _SAME and report["data"]["labelled"]:
            statuses.append("doubtful")
            texts.append(f"But {name} gives the same answer on {same:.1%} of samples only.")
    if report["data"]["samples"] < _FEW:
        statuses.append("doubtful")
        texts.append(f"So few samples ({report['data']['samples']}) say little.")
    if any(w.startswith("THE SAMPLES DO NOT FIT") for w in report["warnings"]):
        statuses.append("doubtful")
        texts.append("But the samples do not fit the input: see the warning.")
    return {"text": " ".join(texts), "status": max(statuses, key=_ORDER.index)}


def _outputs(report: Mapping[str, Any]) -> list[str | None]:
    """The outputs that each have a sentence: None for all where one or none is measured."""
    found = [t["output"] for t in report["tasks"]]
    return found if len(found) > 1 else [None]


def _alone(report: Mapping[str, Any]) -> str:
    texts = []
    for output in _outputs(report):
        first = next((m for m in report["metrics"] if _counts(m, output) and m["values"]), None)
        if first is None or first["values"][0]["value"] is None:
            continue
        v = first["values"][0]
        text = f"{_start(output)}{first['title']} {_number(v['value'])}{_unit(first)}"
        if v["low"] is not None:
            text += f" ({_number(v['low'])} to {_number(v['high'])})"
        texts.append(f"{text} on {report['data']['samples']} samples.")
    return " ".join(texts) or "One model and no labels: there is nothing to compare with."


def _start(output: str | None) -> str:
    return "" if output is None else f"{output}: "


def _counts(metric: Mapping[str, Any], output: str | None) -> bool:
    """Whether a metric is of the first data set and of the output."""
    return metric["data"] == 1 and output in (None, metric["output"])


def _of_model(
    report: Mapping[str, Any], name: str, output: str | None, several: bool
) -> tuple[str, str]:
    start = f"{name}, {_start(output)}" if several and output else _start(output)
    start = f"{name}: " if several and not output else start
    for metric in report["metrics"]:
        if not _counts(metric, output):
            continue
        d = next((d for d in metric["differences"] if d["model"] == name), None)
        values = {v["model"]: v["value"] for v in metric["values"]}
        reference = values.get(report["models"][0]["name"])
        if d is None or d["value"] is None or reference is None:
            continue
        text = paired.sentence(
            metric["title"],
            values[name],
            reference,
            d["value"],
            d["low"],
            d["high"],
            d["p"],
            unit=metric["unit"],
            better=metric["better"],
        )
        status, why = _status(metric, d, reference)
        return f"{start}{text}.{why}", status
    return _by_outputs(report, name, output, start)


def _status(metric: Mapping[str, Any], d: Mapping[str, Any], reference: float) -> tuple[str, str]:
    sign = -1 if metric["better"] == "higher" else 1
    unit = 1.0 if metric["unit"] else 100 / max(abs(reference), 1e-12)
    loss = sign * d["value"] * unit
    ends = [sign * e * unit for e in (d["low"], d["high"]) if e is not None]
    worst = max(ends, default=loss)
    small, large = _LIMITS[metric["unit"]]
    found = paired.verdict(d["value"], d["low"], d["high"], d["p"], better=metric["better"])
    if found == "worse" and loss > large:
        return "bad", ""
    if loss <= small and worst <= 2 * small:
        return "good", ""
    if found != "worse" and loss <= small:
        return "doubtful", " More samples would tell: so few leave room for a larger loss."
    return "doubtful", ""


def _by_outputs(
    report: Mapping[str, Any], name: str, output: str | None, start: str
) -> tuple[str, str]:
    """Without labels: how far the outputs are, and how often the answers are the same."""
    rows = [o for o in report["outputs"] if o["model"] == name and output in (None, o["output"])]
    finite = [o["sqnr_db"] for o in rows if o["sqnr_db"] is not None]
    worst = min(finite, default=None)
    text = f"{start}outputs " + ("exact" if worst is None else f"{worst:.1f} dB from the reference")
    answers = [a for a in report["agreement"] if a["model"] == name]
    same = next((a["same"] for a in answers if output in (None, a["output"])), None)
    if same is not None:
        text += f", the same answer on {same:.1%} of samples"
        status = "good" if same >= 0.99 else "bad" if same < 0.95 else "doubtful"
        return f"{text}.", status
    good, bad = _DB
    status = "good" if worst is None or worst >= good else "bad" if worst < bad else "doubtful"
    return f"{text}.", status


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _unit(metric: Mapping[str, Any]) -> str:
    return f" {metric['unit']}" if metric["unit"] else ""
