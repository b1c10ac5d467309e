"""Calibration speed and memory on MobileNetV2-224, batch 1, one thread.

Per sample, milliseconds: plain inference, tfq's full sketches and its min/max path, TensorFlow's
calibrator, litert-quantizer's default and profiler modes. Every figure is taken in a process of its
own, the processes of one round one after the other, and the medians over the rounds are compared.
Peak memory is that of a process that only calibrates, with 100 and with 2,000 samples.
"""

from __future__ import annotations

import harness
import models
import numpy as np
import stats

WARMUP = 5

# What is measured: the worker, its action and mode.
VARIANTS = {
    "plain inference": ("judge", {"action": "latency"}),
    "tfq sketches": ("tfq", {"action": "calibrate", "mode": "full"}),
    "tfq min/max": ("tfq", {"action": "calibrate", "mode": "minmax"}),
    "TensorFlow calibrator": ("tensorflow", {"action": "calibrate"}),
    "litert-quantizer default": ("litert-quantizer", {"action": "calibrate", "mode": "default"}),
    "litert-quantizer profiler": ("litert-quantizer", {"action": "calibrate", "mode": "profiler"}),
}
# Numerator, denominator, and the ratio that tfq must not exceed.
TARGETS = (
    ("tfq sketches", "TensorFlow calibrator", 0.5),
    ("tfq sketches", "litert-quantizer default", 0.7),
    ("tfq min/max", "litert-quantizer profiler", 1.0),
)


def _job(variant: str, samples: int) -> tuple[str, dict]:
    prepared = models.Prepared("mobilenet_v2")
    worker, job = VARIANTS[variant]
    files = {"model": str(prepared.float_model), "out": str(prepared.float_model)}
    return worker, {
        **job,
        **files,
        "data": str(prepared.calibration),
        "samples": samples,
        "warmup": WARMUP,
    }


def times(variants: list[str], rounds: int, samples: int) -> dict[str, list[float]]:
    """Milliseconds per sample of each variant, one figure a round."""
    found: dict[str, list[float]] = {v: [] for v in variants}
    for _ in range(rounds):
        for variant in variants:
            worker, job = _job(variant, samples)
            answer = harness.run_job(worker, job)
            if not answer["ok"]:
                raise SystemExit(f"{variant}: {answer['error']}")
            found[variant].append(answer["ms"])
    return found


def memory(variants: list[str], counts: tuple[int, ...]) -> dict[str, dict[int, float]]:
    """Peak resident memory in MB by variant and number of samples."""
    found: dict[str, dict[int, float]] = {v: {} for v in variants}
    for count in counts:
        for variant in variants:
            worker, job = _job(variant, count)
            answer = harness.run_job(worker, job)
            if not answer["ok"]:
                raise SystemExit(f"{variant}: {answer['error']}")
            found[variant][count] = answer["peak_rss_mb"]
    return found


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5; quick: 1)")
    parser.add_argument("--samples", type=int, default=60, help="samples a round (default 60)")
    parser.add_argument("--no_memory", action="store_true", help="leave the memory runs out")
    flags = harness.start(parser)
    models.prepare("mobilenet_v2")
    wanted = {*flags.converters, "judge"}
    variants = [v for v, (worker, _) in VARIANTS.items() if worker in wanted]
    rounds, samples = (1, 25) if flags.quick else (flags.rounds, flags.samples)
    found = times(variants, rounds, samples)
    plain = found["plain inference"]
    rows = [
        [v, f"{np.median(ms):.2f}", f"{min(ms):.2f}-{max(ms):.2f}",
         f"{stats.ratio_of_medians(ms, plain):.2f}"]
        for v, ms in found.items()
    ]  # fmt: skip
    header = ["calibration, one sample", "ms (median)", "range over rounds", "x inference"]
    print(stats.table(header, rows))
    ratios = []
    for ours, theirs, limit in TARGETS:
        if ours in found and theirs in found:
            ratio = stats.ratio_of_medians(found[ours], found[theirs])
            verdict = "reached" if ratio <= limit else "missed"
            # What the least disturbed rounds say, for a machine that was not quiet.
            least = f"{min(found[ours]) / min(found[theirs]):.3f}"
            ratios.append([f"{ours} / {theirs}", f"{ratio:.3f}", least, f"<= {limit}", verdict])
    if ratios:
        header = ["ratio", "of medians", "of the least", "goal", "verdict"]
        print("\n" + stats.table(header, ratios))
    figures = {"ms": found, "ratios": ratios}
    if not flags.no_memory:
        counts = (30, 100) if flags.quick else (100, 2000)
        measured = [v for v in ("tfq sketches", "litert-quantizer default") if v in variants]
        peaks = memory(measured, counts)
        rows = [
            [v, *(f"{peaks[v][c]:.0f}" for c in counts),
             f"{peaks[v][counts[1]] / peaks[v][counts[0]]:.3f}"]
            for v in measured
        ]  # fmt: skip
        print("\n" + stats.table(["peak memory, MB", *map(str, counts), "growth"], rows))
        if len(measured) == 2:
            ours, theirs = (peaks[v][counts[1]] for v in measured)
            print(f"\ntfq / litert-quantizer at {counts[1]} samples: {ours / theirs:.3f}")
        figures["peak_rss_mb"] = peaks
    harness.write_json(flags, figures)


if __name__ == "__main__":
    main()
