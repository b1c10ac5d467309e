"""The summary of a conversion, as data and as the few lines a person reads."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import importlib.metadata
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from tfq.data import SampleSource
from tfq.data.synthetic import TRAINED
from tfq.graph.describe import count_weights
from tfq.graph.integers import float_tensors
from tfq.graph.interface import ArgSpec, read_interface
from tfq.graph.model import Model, Tensor
from tfq.improve import Change, Outcome
from tfq.plan import evidence
from tfq.plan.plan import Plan
from tfq.plan.scheme import SCHEMES, Config
from tfq.plan.weight_grids import WEIGHT_WIDTHS, WIDER_WEIGHTS
from tfq.rewrite.prepare import Prepared
from tfq.sources import Source
from tfq.verify.accuracy import Accuracy
from tfq.verify.proof import Proof

VERSION = 1

_WIDTH = 80
_INDENT = 12  # Where the text of a row begins.
_ROWS = 16  # Rows of one kind that are shown; the summary has all of them.


def make_summary(
    *,
    config: Config,
    source: Source,
    prepared: Prepared,
    plan: Plan,
    emitted: Model,
    model: bytes,
    data: SampleSource,
    calibrated: int,
    outcomes: Sequence[Outcome],
    proof: Proof,
    accuracy: Accuracy | None,
    seconds: Mapping[str, float],
    warnings: Sequence[str],
    notes: Mapping[str, str],
) -> dict[str, Any]:
    """Everything known about a conversion as JSON-ready data; README lists the keys."""
    integer = config.scheme.compute == "integer"
    left = float_tensors(emitted)
    interface = read_interface(emitted, source.signature)
    names = collections.defaultdict(list)  # An output may have several names.
    for a in interface.outputs:
        names[a.tensor_name].append(a.name)
    counts = collections.Counter(op.label for g in emitted.graphs for op in g.ops)
    return {
        "version": VERSION,
        "source": {
            "kind": source.kind,
            "path": source.path,
            "signature": source.signature,
            "checks": dict(source.checks),
            "cached": source.cached,
            "float_bytes": len(source.model),
            "float_sha256": hashlib.sha256(source.model).hexdigest(),
        },
        "config": config.as_dict(),
        "model": {
            "bytes": len(model),
            "sha256": hashlib.sha256(model).hexdigest(),
            "full_integer": not left,
            "float_tensors": len(left),
            "min_runtime_version": emitted.metadata.get("min_runtime_version", b"")
            .rstrip(b"\0")
            .decode(),
            "ops": dict(sorted(counts.items())),
            "weights": count_weights(emitted),
            "inputs": [_argument(a, emitted.main.inputs) for a in interface.inputs],
            "outputs": [_argument(a, emitted.main.outputs) for a in interface.outputs],
        },
        "plan": {
            "modes": plan.count_modes(),
            "float_islands": {
                name: {"op": op.op, "reason": op.reason, "layer": source.layer_names.get(name)}
                for name, op in plan.float_ops.items()
            }
            if integer
            else {},
            "unusual": {
                name: {"op": op.op, "mode": op.mode, "reason": op.reason}
                for name, op in plan.ops.items()
                if op.reason and op.mode not in ("float", "inside")
            },
            "wider_weights": {
                name: part
                for name, op in plan.ops.items()
                for part in op.reason.split("; ")
                if part.startswith(WIDER_WEIGHTS)
            },
            "rewrites": dict(collections.Counter(a.rewrite for a in prepared.applied)),
            "improvements": evidence.to_json(plan.improvements),
        },
        "data": {
            "description": data.description,
            "calibration_samples": calibrated if integer else 0,
            "calibrated": integer and calibrated > 0 and not data.synthetic,
        },
        "improvements": {
            o.name: {
                "kept": o.kept,
                "tried": [
                    {"what": a.what, "kept": a.kept, "why": a.why, **_extremes(a.changes, names)}
                    for a in o.attempts
                ],
                "outputs": _changes(o.changes, names),
                "note": o.note,
            }
            for o in outcomes
        },
        "proof": {
            "samples": proof.samples,
            "held_back": proof.held_back,
            # Without unseen samples it is those that the improvements were judged by.
            "judged": not proof.held_back and any(a.changes for o in outcomes for a in o.attempts),
            "random": data.synthetic,
            "outputs": [
                {**_finite(dataclasses.asdict(o)), "name": name}
                for o in proof.outputs
                for name in names[o.name] or [o.name]
            ],
            "reference_kernels_lsb": {
                name: v for n, v in proof.kernels_lsb.items() for name in names[n] or [n]
            },
            "reference_note": proof.reference_note,
            "collapsed": [
                *(name for n in proof.collapsed for name in names[n] or [n]),
                *(
                    f"{name}{p.part}"
                    for o in proof.outputs
                    for p in o.parts
                    if p.collapsed and o.name not in proof.collapsed
                    for name in names[o.name] or [o.name]
                ),
            ],
            "starved": [
                {
                    **_finite(dataclasses.asdict(i)),
                    "outputs": [name for n in i.outputs for name in names[n] or [n]],
                    "moved_to": [name for n in i.moved_to for name in names[n] or [n]],
                }
                for i in proof.starved
            ],
            "worst_layers": [_finite(dataclasses.asdict(e)) for e in proof.worst_layers],
        },
        "accuracy": None if accuracy is None else dataclasses.asdict(accuracy),
        "seconds": {k: round(v, 4) for k, v in seconds.items()},
        "warnings": list(warnings),
        "notes": dict(notes),
        "versions": {p: _version(p) for p in ("tfq", "ai-edge-litert", "tensorflow", "numpy")},
    }


def _argument(spec: ArgSpec, tensors: Sequence[Tensor]) -> dict[str, Any]:
    """How to feed an input, or read an output: real = (integer - zero_point) * scale."""
    found = next((t for t in tensors if t.name == spec.tensor_name), None)
    quant = None if found is None else found.quant
    return {
        "name": spec.name,
        "tensor": spec.tensor_name,
        "dtype": spec.dtype,
        "shape": list(spec.shape),
        "scale": None if quant is None else float(quant.scale[0]),
        "zero_point": None if quant is None else int(quant.zero_point[0]),
    }


def _finite(record: Any) -> Any:
    """JSON has no infinity: an exact output has no noise to compare with."""
    if isinstance(record, dict):
        return {k: _finite(v) for k, v in record.items()}
    if isinstance(record, list | tuple):
        return [_finite(v) for v in record]
    return None if isinstance(record, float) and not math.isfinite(record) else record


def _changes(changes: Sequence[Change], names: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """What a trial did to each part of each output, by the outputs' names."""
    return [
        {**_finite(dataclasses.asdict(c)), "output": name}
        for c in changes
        for name in names.get(c.output) or [c.output]
    ]


def _extremes(changes: Sequence[Change], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The parts that an attempt would help and harm most."""
    if not changes:
        return {"best": None, "worst": None}
    ordered = _changes(sorted(changes, key=lambda c: c.loss_db), names)
    return {"best": ordered[0], "worst": ordered[-1]}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        if package == "tfq":
            import tfq

            return tfq.__version__
        return None


def lines(summary: Mapping[str, Any]) -> list[str]:
    """The summary as a person reads it at the end of `tfq convert`, at most 80 columns wide."""
    source, model, plan = summary["source"], summary["model"], summary["plan"]
    scheme = summary["config"]["scheme"]
    rows = [
        ("scheme", f"{scheme}: {_kind(scheme, model, summary['config']['weight_bits'])}"),
        ("size", _sizes(source["float_bytes"], model["bytes"])),
        *_interface(model),
        ("ops", _ops(model["ops"])),
        *(("weights", text) for text in _weights(model["weights"], plan["wider_weights"])),
    ]
    data = summary["data"]
    used = f"; {data['calibration_samples']} calibrated" if data["calibrated"] else ""
    trained = data["description"].startswith(TRAINED)
    if data["calibration_samples"] or trained or not summary["proof"]["random"]:
        rows.append(("data", data["description"] + used))
    if "plan" in summary["notes"]:
        rows.append(("plan", summary["notes"]["plan"]))
    elif plan["improvements"] and not summary["improvements"]:
        rows.append(("plan", _replayed(plan["improvements"])))
    if "labels" in summary["notes"]:
        rows.append(("labels", summary["notes"]["labels"]))
    rows += [_improvement(name, i) for name, i in summary["improvements"].items()]
    if "left_out" in summary["notes"]:
        rows.append(("left out", summary["notes"]["left_out"]))
    rows += [("error", text) for text in _errors(summary["proof"], model)]
    rows += [("runs on", text) for text in _kernels(summary["proof"], model)]
    accuracy = summary["accuracy"]
    if accuracy is not None:
        rows.append(
            (
                "accuracy",
                (f"of {accuracy['output']}: " if accuracy["output"] else "")
                + f"float {accuracy['float_top1']:.4f}, {scheme} {accuracy['top1']:.4f}; the same "
                f"answer on {accuracy['agreement']:.1%} of {accuracy['samples']} samples"
                + _counted(data, accuracy["samples"]),
            )
        )
    elif "accuracy" in summary["notes"]:
        rows.append(("accuracy", summary["notes"]["accuracy"]))
    islands = plan["float_islands"].items()
    for name, island in islands:
        where = f"layer {island['layer']}" if island["layer"] else name.partition(";")[0]
        rows.append(("float", f"{island['op']} of {where}: {island['reason']}"))
    spent = [
        f"{k.replace('_', ' ')} {v:.1f}{' (cached)' * (k == 'source' and source['cached'])}"
        for k, v in summary["seconds"].items()
        if v >= 0.05 or (k == "source" and source["cached"])
    ]
    total = f"{sum(summary['seconds'].values()):.1f}"
    rows.append(("seconds", f"{total}: {', '.join(spent)}" if spent else total))
    rows += [("WARNING", w) for w in summary["warnings"]]
    return [line for name, text in _shortened(rows) for line in _row(name, text)]


def _shortened(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    shown: list[tuple[str, str]] = []
    seen: collections.Counter[str] = collections.Counter()
    totals = collections.Counter(name for name, _ in rows)
    for name, text in rows:
        seen[name] += 1
        if seen[name] <= _ROWS or name == "WARNING":
            shown.append((name, text))
        elif seen[name] == _ROWS + 1:
            shown.append((name, f"and {totals[name] - _ROWS} more (--summary_json has them)"))
    return shown


def _row(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"  {name:<{_INDENT - 2}}",
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _kind(scheme: str, model: Mapping[str, Any], weight_bits: int) -> str:
    if SCHEMES[scheme].compute != "integer":
        return SCHEMES[scheme].help.replace("8-bit weights", f"{weight_bits}-bit weights")
    kind = "full integer"
    if not model["full_integer"]:
        kind = f"NOT full integer, {model['float_tensors']} float tensors"
    return kind if weight_bits == 8 else f"{kind}, {weight_bits}-bit weights"


def _sizes(before: int, after: int) -> str:
    ratio = before / after
    return f"{_size(before)} -> {_size(after)}" + (
        f" ({ratio:.1f} times smaller)" if ratio >= 1.05 else ""
    )


def _interface(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            what,
            f"{a['name']}: {a['dtype']} [{','.join(map(str, a['shape']))}]" + _grid(a),
        )
        for what, arguments in (("input", model["inputs"]), ("output", model["outputs"]))
        for a in arguments
    ]


def _grid(argument: Mapping[str, Any]) -> str:
    scale, zero = argument["scale"], argument["zero_point"]
    if scale is None:
        return ""
    q = "q" if zero == 0 else f"(q {'-' if zero > 0 else '+'} {abs(zero)})"
    return f", real = {q} * {scale:.6g}"


def _size(n: int) -> str:
    return f"{n / 1e6:.2f} MB" if n >= 1e6 else f"{n / 1e3:.1f} KB"


def _ops(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda c: (-c[1], c[0]))
    shown = ", ".join(f"{n} {c}" for n, c in ordered[:6])
    more = len(ordered) - 6
    return shown + (f", and {more} more kind{'s' * (more != 1)}" if more > 0 else "")


def _weights(weights: Mapping[str, Any], reasons: Mapping[str, str]) -> list[str]:
    """What weights below 8 bits take, and why some are stored in more; nothing if all have 8."""
    wider = collections.Counter(reasons.values())
    narrow = [t for t in WEIGHT_WIDTHS if t in weights]
    if not wider and narrow in ([], ["int8"]):
        return []
    sizes = ", ".join(
        f"{weights[t]['values']:,} in {t} ({_size(weights[t]['bytes'])})" for t in narrow
    )
    return [sizes, *(f"{why}: {n} layer{'s' * (n != 1)}" for why, n in wider.items())]


def _counted(data: Mapping[str, Any], samples: int) -> str:
    """How many of the samples that accuracy counts calibration has seen."""
    seen = data["calibration_samples"] if data["calibrated"] else 0
    if not seen:
        return ""
    return f", {'all' if seen >= samples else f'{seen} of them'} calibrated on"


# Others than a change was computed from. Calibration has seen them.
_JUDGED_ON = "on other samples"


# How rows call the improvements, what follows what is kept, and what is said where nothing is.
_WORDS = {
    "calibration": ("ranges", "", "as first read"),
    "equalization": ("equalized", " rescaled", "not rescaled"),
    "bias_absorption": ("absorbed", "", "no biases"),
    "own_grids": ("own grids", "", "none kept"),
    "int16": ("int16", "", "none"),
    "weight_scales": ("weights", " scales", "minmax scales"),
    "bias_correction": ("bias", " corrected", "not corrected"),
}


def _improvement(name: str, i: Mapping[str, Any]) -> tuple[str, str]:
    """The row of one improvement: what it did, or why it did not."""
    row, done, undone = _WORDS[name]
    if i["kept"]:
        return row, f"{i['kept']}{done}; {_gain(i['outputs']) if i['outputs'] else i['note']}"
    unbuilt = next((a["why"] for a in i["tried"] if a["why"]), "")
    why = i["note"] or (_refusal(i["outputs"]) if i["outputs"] or not unbuilt else unbuilt)
    return row, f"{undone}: {why}"


def _replayed(records: Sequence[Mapping[str, Any]]) -> str:
    """What the improvements did when a plan that was replayed was made."""
    kept = [
        f"{_WORDS[r['name']][0]} {r['kept']}" for r in records if r["kept"] and r["name"] in _WORDS
    ]
    return f"replayed; when it was made, improvements kept {'; '.join(kept) or 'nothing'}"


def _refusal(changes: Sequence[Mapping[str, Any]]) -> str:
    """Why a trial was not kept."""
    losers = [c for c in changes if c["loses"]]
    if not losers:
        return f"no output would gain {_JUDGED_ON}"
    worst = max(losers, key=lambda c: c["loss_db"])
    others = len({c["output"] for c in losers}) - 1
    more = f", and {others} other{'s' * (others != 1)} would lose" if others else ""
    return f"{_where(worst)} would lose {worst['loss_db']:.1f} dB {_JUDGED_ON}{more}"


def _gain(changes: Sequence[Mapping[str, Any]]) -> str:
    """What a trial that was kept gave."""
    best = min(changes, key=lambda c: c["loss_db"])
    losers = [c for c in changes if c["loses"]]
    text = f"{_where(best)} gains {-best['loss_db']:.1f} dB {_JUDGED_ON}"
    if losers:  # It was asked for.
        worst = max(losers, key=lambda c: c["loss_db"])
        text += f", {_where(worst)} LOSES {worst['loss_db']:.1f} dB"
    elif len(changes) > 1:
        text += ", none loses"
    return text


def _where(change: Mapping[str, Any]) -> str:
    """An output, and which part of it."""
    part = change["part"]
    return change["output"] + (part if part.startswith("[") else f" {part}" if part else "")


def _errors(proof: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    kind = "random " if proof["random"] else "unseen " if proof["held_back"] else ""
    where = f"{kind}sample{'s' * (proof['samples'] != 1)}"
    counts = {a["name"] for a in model["outputs"] if a["dtype"][:3] in ("int", "uin", "boo")}
    counts -= {a["name"] for a in model["outputs"] if a["scale"] is not None}
    texts = []
    for o in proof["outputs"]:
        if o["name"] in counts and o["agreement"] is not None:
            texts.append(f"{o['name']}: the same in {o['agreement']:.1%} of places")
            continue
        db = "exact" if o["sqnr_db"] is None else f"{o['sqnr_db']:.1f} dB"
        if o["max_lsb"] is None:
            texts.append(f"{o['name']}: {db}, at most {o['max_abs']:.3g}")
        else:
            texts.append(
                f"{o['name']}: {db}, mean {o['mean_lsb']:.2f} LSB, max {o['max_lsb']:.1f} LSB"
            )
        if o["constant"]:
            texts[-1] += ", less than a step between samples"
        texts += [_part(o["name"], p) for p in o["parts"]]
    if texts:
        judged = ", which improvements were judged by" if proof["judged"] else ""
        texts[0] += f" on {proof['samples']} {where}{judged}"
    return texts


def _part(output: str, p: Mapping[str, Any]) -> str:
    db = "exact" if p["sqnr_db"] is None else f"{p['sqnr_db']:.1f} dB"
    text = f"{output}{p['part']}: {db}, {p['low']:.3g} to {p['high']:.3g}"
    return text if p["steps"] is None else f"{text} in {p['steps']:.2g} steps"


def _kernels(proof: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    runtime = model["min_runtime_version"]
    base = f"runtime {runtime} and newer; XNNPACK" if runtime else "XNNPACK"
    if proof["reference_note"]:
        return [f"{base}; not compared with reference kernels: {proof['reference_note']}"]
    far = max(proof["reference_kernels_lsb"].values(), default=0.0)
    if model["full_integer"]:
        return [f"{base} and reference kernels, at most {far:.0f} LSB apart"]
    return [f"{base} and reference kernels, at most {far:.2g} apart"]
