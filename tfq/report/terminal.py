"""The report for people who stay in the terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from tfq.report.digits import chance, fixed, percent, short
from tfq.report.fit import rounded

_INDENT = 12  # Where the text of a row begins.
_NARROWEST = 40
_WORST = 10
_FINDINGS = 8
_PROBES = 7  # Of an output.
_WORST_CLASSES = 5  # Of a segmentation.
_ALSO = 3  # Names of further layers of a cause.
MISFIT = "THE SAMPLES DO NOT FIT"  # A warning that begins so is about every figure.
_GLUE = "\N{NO-BREAK SPACE}"  # Holds figures together that belong on one line.


def console(report: Mapping[str, Any], width: int = 80) -> list[str]:
    """The report as lines: verdict, metrics, flips, behaviour, causes with remedies, worst layers.

    Args:
      report: as `schema.json` describes it.
      width: columns that no line exceeds; at least 40.
    """
    width = max(width, _NARROWEST)
    rows: list[tuple[str, str]] = [("verdict", f"{report['verdict']['text']}")]
    rows += [("WARNING", w) for w in report["warnings"] if w.startswith(MISFIT)]
    rows += [("data", "; ".join([_data(report["data"]), *map(_task, report["tasks"])]))]
    rows += [("model", _model(m)) for m in report["models"]]
    lines = [line for name, text in rows for line in _row(name, text, width)]
    lines += _parts(report, width)
    for which in (1, 2):
        lines += _metrics(report, which, width)
    lines += _behaviour(report, width)
    lines += _improvements(report, width)
    lines += _findings(report, width)
    for analysis in report["layers"]:
        lines += _worst(analysis, width)
    others = [w for w in report["warnings"] if not w.startswith(MISFIT)]
    lines += [line for w in others for line in _row("WARNING", w, width)]
    return lines


def _row(name: str, text: str, width: int) -> list[str]:
    # Control characters in a tensor's name would drive the terminal.
    clean = "".join(c if c.isprintable() or c == _GLUE else " " for c in text)
    lines = textwrap.wrap(
        clean,
        width,
        initial_indent=f"  {name:<{_INDENT - 2}}",
        subsequent_indent=" " * _INDENT,
        break_on_hyphens=False,
    )
    return [line.replace(_GLUE, " ") for line in lines]


def _data(data: Mapping[str, Any]) -> str:
    return data["description"] + ("" if data["labelled"] else ", without labels")


def _task(task: Mapping[str, Any]) -> str:
    text = f"{task['name']} on output {task['output']}"
    if task.get("scores"):
        text += f" (scores are {task['scores']})"
    if task.get("data_range"):
        text += f" (range of values {task['data_range']:g})"
    if task.get("ignore_index") is not None:
        text += f" (label {task['ignore_index']} is ignored)"
    return text


def _start(report: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """The output that a row is about, where several are measured."""
    return f"{row['output']}: " if len(report["tasks"]) > 1 else ""


def _model(model: Mapping[str, Any]) -> str:
    parts = [model["kind"], "full integer" if model["full_integer"] else ""]
    size = model["bytes"]
    if size is not None:
        parts.append(f"{fixed(size / 1e6, 2)} MB" if size >= 1e6 else f"{fixed(size / 1e3, 1)} KB")
    parts.append("reference" if model["reference"] else "")
    return f"{model['name']}: {', '.join(p for p in parts if p)}"


def _metrics(report: Mapping[str, Any], which: int, width: int) -> list[str]:
    # Without labels there are metrics without values.
    metrics = [m for m in report["metrics"] if m["data"] == which and m["values"]]
    flips = [a for a in report["agreement"] if a["data"] == which]
    if not metrics and not flips:
        return []
    second = report["second_data"]
    lines = [""]
    if which == 2:
        lines += _row("second", _data(second) if second else "second data set", width)
    for metric in metrics:
        unit = f" [{metric['unit']}]" if metric["unit"] else ""
        lines += _row("metric", _start(report, metric) + metric["title"] + unit, width)
        digits = _decimals(metric)
        differences = {d["model"]: d for d in metric["differences"]}
        for value in metric["values"]:
            text = f"{value['model']}: {_interval(value, digits)}"
            d = differences.get(value["model"])
            if d is not None:
                text += f", {_difference(d, digits)}"
            lines += _row("", text, width)
    for a in flips:
        samples = f"{a['samples']} sample{'' if a['samples'] == 1 else 's'}"
        same = percent(a["same"]).replace(" ", _GLUE)
        text = f"{_start(report, a)}{a['model']}: the same answer on {same} of {samples}"
        if a["right_to_wrong"] is not None:
            lost, gained = a["right_to_wrong"], a["wrong_to_right"]
            text += f"; {lost} right now wrong, {gained} wrong now right"
        if a["p"] is not None:
            text += _p(a["p"])
        lines += _row("flips", text, width)
    for s in report["segmentation"]:
        lines += _classes(report, s, width) if s["data"] == which else []
    return lines


def _decimals(metric: Mapping[str, Any]) -> int:
    """Enough for two digits of the narrowest interval's half width, or three of the values where
    there is none; never more than four of a number of order 1, or four significant ones below.
    """
    rows = [*metric["values"], *metric["differences"]]
    halves = [(r["high"] - r["low"]) / 2 for r in rows if None not in (r["low"], r["high"])]
    sizes = [h for h in halves if h > 0]
    sizes = sizes or [abs(v["value"]) / 10 for v in metric["values"] if v["value"]]
    digits = 1 - math.floor(math.log10(min(sizes))) if sizes else 1
    largest = max((abs(v["value"]) for v in metric["values"] if v["value"]), default=1.0)
    most = (4 if largest >= 1 else 3) - math.floor(math.log10(largest))
    return max(int(metric["unit"] == "%"), min(digits, most), 0)


def _interval(row: Mapping[str, Any], digits: int, sign: str = "") -> str:
    if row["value"] is None:
        return "not defined"
    text = fixed(row["value"], digits, sign)
    if None in (row["low"], row["high"]):
        return text
    low, high = (fixed(row[k], digits, sign) for k in ("low", "high"))
    return f"{text} ({low}{_GLUE}to{_GLUE}{high})"


def _difference(row: Mapping[str, Any], digits: int) -> str:
    if row["value"] == row["low"] == row["high"] == 0:  # Every sample counted the same.
        return f"no{_GLUE}difference"
    return f"difference {_interval(row, digits, '+')}" + ("" if row["p"] is None else _p(row["p"]))


def _p(p: float) -> str:
    return ", " + f"p {chance(p)}".replace(" ", _GLUE)


def _parts(report: Mapping[str, Any], width: int) -> list[str]:
    """Outputs whose parts differ in range: what one figure would hide."""
    lines: list[str] = []
    for o in report["outputs"]:
        for p in o["parts"]:
            db = "exact" if p["sqnr_db"] is None else f"{fixed(p['sqnr_db'], 1)}{_GLUE}dB"
            text = f"{o['model']}: {o['output']}{p['part']} {db}, {short(p['low'])} to "
            text += short(p["high"])
            if p["steps"] is not None:
                text += f" in {short(p['steps'])} steps"
            lines += _row("part", text + (": LOST" if p["starved"] else ""), width)
    return ["", *lines] if lines else []


def _behaviour(report: Mapping[str, Any], width: int) -> list[str]:
    """Flips under each probe, mean confidence and generalisation: a line each, a figure a model."""
    known = [b for b in report["behaviour"] if any(v["value"] is not None for v in b["values"])]
    found = []
    for output in dict.fromkeys(b["output"] for b in known):
        own = [b for b in known if b["output"] == output]
        some = [b for b in own if b["name"].startswith(("flips_", "confidence"))]
        if not some:  # Outputs that are no classes have no answers to flip.
            some = [b for b in own if b["name"].startswith("moved_")]
        found += (some + [b for b in own if b["name"].startswith("gap_")])[:_PROBES]
    if not found:
        return []
    models = dict.fromkeys(v["model"] for b in found for v in b["values"])
    order = ", then ".join(models)
    lines = ["", *_row("behaviour", f"of {order}" if len(models) > 1 else order, width)]
    for b in found:
        values = {v["model"]: v["value"] for v in b["values"]}
        unit = f"{_GLUE}{b['unit']}" if b["unit"] else ""
        figures = ["-" if values.get(m) is None else f"{short(values[m])}{unit}" for m in models]
        lines += _row("", f"{_start(report, b)}{b['title']}: {', '.join(figures)}", width)
    return lines


def _improvements(report: Mapping[str, Any], width: int) -> list[str]:
    """What was tried when the models were made: a line for each improvement."""
    found: Sequence[Mapping[str, Any]] = report.get("improvements", ())
    lines = [""] if found else []
    several = len({i["model"] for i in found}) > 1
    for i in found:
        name = i["name"].replace("_", f"{_GLUE}")
        text = (f"{i['model']}: " if several else "") + f"{name}: {_outcome(i)}"
        lines += _row("tried", text, width)
    return lines


def _outcome(i: Mapping[str, Any]) -> str:
    """What became of the attempts of one improvement."""
    attempts = f"{i['tried']} attempt{'' if i['tried'] == 1 else 's'}"
    kept = f"{i['kept']} kept of {attempts}" if i["kept"] else f"nothing kept of {attempts}"
    texts = [kept] if i["tried"] or not i["note"] else []
    known = [e for e in i["outputs"] if None not in (e["before_db"], e["after_db"])]
    if i["kept"] and known:
        e = max(known, key=lambda e: abs(e["after_db"] - e["before_db"]))
        figures = f"{fixed(e['before_db'], 1)} -> {fixed(e['after_db'], 1)}{_GLUE}dB"
        texts.append(f"{_place(e)} {figures}")
    if (refused := i["refused"]) is not None:
        loss = f"{fixed(refused['loss_db'], 1)}{_GLUE}dB"
        texts.append(f"refused: {refused['what']}, {_place(refused)} would lose {loss}")
    return "; ".join([*texts, *filter(None, [i["note"]])])


def _place(row: Mapping[str, Any]) -> str:
    """An output, and which part of it."""
    part = row["part"]
    return row["output"] + (part if part.startswith("[") else f" {part}" if part else "")


def _classes(report: Mapping[str, Any], segmented: Mapping[str, Any], width: int) -> list[str]:
    """The classes of a segmentation that differ most from the reference's, or are worst."""
    models = [v["model"] for v in segmented["classes"][0]["values"]] if segmented["classes"] else []
    if not models:
        return []
    ious = [[v["iou"] for v in c["values"]] for c in segmented["classes"]]

    def loss(row: Sequence[float | None]) -> float:
        known = [v for v in row[1:] if v is not None]
        if row[0] is None or not known:
            return -math.inf if row[0] is None or len(row) > 1 else -row[0]
        return row[0] - min(known)

    worst = sorted(zip(segmented["classes"], ious, strict=True), key=lambda c: -loss(c[1]))
    what = "that lose most" if len(models) > 1 else "with the least"
    head = f"{_start(report, segmented)}IoU of the classes {what}, %"
    lines = _row("classes", f"{head}: {', then '.join(models)}", width)
    for c, row in worst[:_WORST_CLASSES]:
        figures = ", ".join("-" if v is None else fixed(v, 1) for v in row)
        share = percent(c["pixels"] / max(segmented["pixels"], 1)).replace(" ", _GLUE)
        lines += _row("", f"class {c['index']} ({share} of the pixels): {figures}", width)
    if len(worst) > _WORST_CLASSES:
        lines += _row("", f"and {len(worst) - _WORST_CLASSES} more classes", width)
    return lines


def _findings(report: Mapping[str, Any], width: int) -> list[str]:
    found: Sequence[Mapping[str, Any]] = report["verdicts"]
    lines = [""] if found else []
    several = len(report["models"]) > 2
    for v in found[:_FINDINGS]:
        where = v["layer"] or v["tensor"]
        model = f" ({v['model']})" if several else ""
        lines += _row("cause", v["title"] + (f": {where}" if where else "") + model, width)
        also = _also(v)
        if also:
            more = f" and {len(also) - _ALSO} more" if len(also) > _ALSO else ""
            lines += _row("", f"also of: {', '.join(also[:_ALSO])}{more}", width)
        lines += _row("", v["text"], width)
        remedy = v["remedy"]
        lines += _row("remedy", remedy["text"], width)
        if remedy["flag"]:
            lines += _row("", remedy["flag"], width)
    if len(found) > _FINDINGS:
        lines += _row("", f"and {len(found) - _FINDINGS} more causes", width)
    return lines


def _also(finding: Mapping[str, Any]) -> list[str]:
    """What else the cause covers, as a person calls it."""
    names = finding.get("layers") or finding.get("tensors") or []
    return [n for n in dict.fromkeys(names) if n not in (finding["layer"], finding["tensor"])]


def _worst(analysis: Mapping[str, Any], width: int) -> list[str]:
    """The layers with the least SQNR, isolated where that was measured."""
    tensors = analysis["tensors"]
    reading = "isolated" if any(t["isolated"] for t in tensors) else "accumulated"
    known = [t for t in tensors if t[reading] and t[reading]["sqnr_db"] is not None]
    ranked = sorted(known, key=lambda t: t[reading]["sqnr_db"])[:_WORST]
    if not ranked:
        return []
    ops = max(len(t["op"]) for t in ranked)
    room = width - 2 - 9 - 9 - 2 - ops - 2
    if room < 12:
        ops, room = 0, width - 2 - 9 - 9 - 2
    head = f"worst layers of {analysis['model']}, signal to quantization noise in dB"
    lines = ["", *textwrap.wrap(head, width, initial_indent="  ", subsequent_indent="  ")]
    lines.append(f"  {'isolated':>9}{'running':>9}  ".rstrip())
    for t in ranked:
        cells = "".join(f"{_db(t[r]):>9}" for r in ("isolated", "accumulated"))
        op = f"{t['op']:<{ops}}  " if ops else ""
        lines.append(f"  {cells}  {op}{_shorten(t['layer'] or t['name'], room)}".rstrip())
    return lines


def _db(reading: Mapping[str, Any] | None) -> str:
    if reading is None:
        return "-"
    if reading["sqnr_db"] is None:
        return "-" if reading["max_lsb"] or reading["mean_lsb"] is None else "exact"
    return fixed(rounded(reading["sqnr_db"], 6), 1)  # The page has 6 digits.


def _shorten(name: str, room: int) -> str:
    """The end of a path tells more than its beginning."""
    clean = "".join(c if c.isprintable() else " " for c in name)
    return clean if len(clean) <= room else "..." + clean[3 - room :]
