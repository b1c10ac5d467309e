"""The summary of a conversion, as data and as the few lines a person reads."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfq.data import SampleSource
from tfq.graph.integers import float_tensors
from tfq.graph.model import Model
from tfq.plan.plan import Plan
from tfq.plan.planner import count_modes
from tfq.plan.scheme import Config
from tfq.quantize.bias import Correction
from tfq.rewrite.prepare import Prepared
from tfq.sources import Source
from tfq.verify.accuracy import Accuracy
from tfq.verify.proof import Proof

VERSION = 1


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
    correction: Correction | None,
    proof: Proof,
    accuracy: Accuracy | None,
    seconds: Mapping[str, float],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """Everything known about a conversion as JSON-ready data; README lists the keys."""
    integer = config.scheme.compute == "integer"
    left = float_tensors(emitted)
    counts = collections.Counter(op.label for g in emitted.graphs for op in g.ops)
    return {
        "version": VERSION,
        "source": {
            "kind": source.kind,
            "path": source.path,
            "signature": source.signature,
            "checks": dict(source.checks),
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
        },
        "plan": {
            "modes": count_modes(plan),
            "float_islands": {
                name: {"op": op.op, "reason": op.reason} for name, op in plan.float_ops.items()
            }
            if integer
            else {},
            "unusual": {
                name: {"op": op.op, "mode": op.mode, "reason": op.reason}
                for name, op in plan.ops.items()
                if op.reason and op.mode not in ("float", "inside")
            },
            "rewrites": dict(collections.Counter(a.rewrite for a in prepared.applied)),
        },
        "data": {
            "description": data.description,
            "calibration_samples": calibrated if integer else 0,
            "calibrated": integer and not data.synthetic,
        },
        "bias_correction": None
        if correction is None
        else {
            "layers": correction.layers,
            "rounds_kept": correction.rounds[0],
            "rounds_tried": correction.rounds[1],
            "error_before": correction.error_before,
            "error_after": correction.error_after,
        },
        "proof": {
            "samples": proof.samples,
            "held_back": proof.held_back,
            "outputs": [_finite(dataclasses.asdict(o)) for o in proof.outputs],
            "reference_kernels_lsb": dict(proof.kernels_lsb),
            "reference_note": proof.reference_note,
            "collapsed": list(proof.collapsed),
            "worst_layers": [_finite(dataclasses.asdict(e)) for e in proof.worst_layers],
        },
        "accuracy": None if accuracy is None else dataclasses.asdict(accuracy),
        "seconds": {k: round(v, 4) for k, v in seconds.items()},
        "warnings": list(warnings),
        "versions": {p: _version(p) for p in ("tfq", "ai-edge-litert", "tensorflow", "numpy")},
    }


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: an exact output has no noise to compare with."""
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        if package == "tfq":
            import tfq

            return tfq.__version__
        return None


def lines(summary: Mapping[str, Any]) -> list[str]:
    """The summary as a person reads it at the end of `tfq convert`."""
    source, model, plan = summary["source"], summary["model"], summary["plan"]
    scheme = summary["config"]["scheme"]
    ratio = source["float_bytes"] / model["bytes"]
    kind = "full integer" if model["full_integer"] else f"{model['float_tensors']} float tensors"
    rows = [
        ("scheme", f"{scheme}: {kind}"),
        (
            "size",
            f"{_size(source['float_bytes'])} -> {_size(model['bytes'])} ({ratio:.1f} times smaller)"
            if ratio >= 1
            else f"{_size(source['float_bytes'])} -> {_size(model['bytes'])}",
        ),
        ("ops", _ops(model["ops"])),
    ]
    data = summary["data"]
    if data["calibration_samples"]:
        rows.append(("data", f"{data['description']}; {data['calibration_samples']} calibrated"))
    correction = summary["bias_correction"]
    if correction is not None:
        rows.append(("bias", _correction(correction)))
    rows += [("error", text) for text in _errors(summary["proof"])]
    rows += [("runs on", text) for text in _kernels(summary["proof"], model)]
    accuracy = summary["accuracy"]
    if accuracy is not None:
        rows.append(
            (
                "accuracy",
                f"float {accuracy['float_top1']:.4f}, {scheme} {accuracy['top1']:.4f}; the same "
                f"answer on {accuracy['agreement']:.1%} of {accuracy['samples']} samples",
            )
        )
    out = [f"  {name:<9} {text}" for name, text in rows]
    for name, island in list(plan["float_islands"].items())[:20]:
        out.append(f"  float     {island['op']} at {name}: {island['reason']}")
    out += [f"  WARNING   {w}" for w in summary["warnings"]]
    spent = ", ".join(f"{k} {v:.1f}" for k, v in summary["seconds"].items() if v >= 0.05)
    out.append(f"  seconds   {sum(summary['seconds'].values()):.1f}: {spent}")
    return out


def _size(n: int) -> str:
    return f"{n / 1e6:.2f} MB" if n >= 1e6 else f"{n / 1e3:.1f} KB"


def _ops(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda c: (-c[1], c[0]))
    shown = ", ".join(f"{n} {c}" for n, c in ordered[:6])
    more = len(ordered) - 6
    return shown + (f", and {more} more kinds" if more > 0 else "")


def _correction(c: Mapping[str, Any]) -> str:
    if not c["layers"]:
        return "correction did not lower the error on unseen samples; none kept"
    gain = (1 - c["error_after"] / c["error_before"]) * 100 if c["error_before"] else 0.0
    return f"{c['layers']} layers corrected; output error power {gain:.0f}% lower on unseen samples"


def _errors(proof: Mapping[str, Any]) -> list[str]:
    where = "samples that calibration did not see" if proof["held_back"] else "samples"
    texts = []
    for o in proof["outputs"]:
        db = "exact" if o["sqnr_db"] is None else f"{o['sqnr_db']:.1f} dB"
        if o["max_lsb"] is None:
            texts.append(f"{o['name']}: {db}, at most {o['max_abs']:.3g}")
        else:
            texts.append(
                f"{o['name']}: {db}, mean {o['mean_lsb']:.2f} LSB, max {o['max_lsb']:.1f} LSB"
            )
    if texts:
        texts[0] += f" on {proof['samples']} {where}"
    return texts


def _kernels(proof: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    runtime = model["min_runtime_version"]
    base = f"runtime {runtime} and newer; XNNPACK" if runtime else "XNNPACK"
    if proof["reference_note"]:
        return [f"{base}; not compared with reference kernels: {proof['reference_note']}"]
    far = max(proof["reference_kernels_lsb"].values(), default=0.0)
    if model["full_integer"]:
        return [f"{base} and reference kernels, at most {far:.0f} LSB apart"]
    return [f"{base} and reference kernels, at most {far:.2g} apart"]
