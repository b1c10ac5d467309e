"""Samples a second of an evaluation: ResNet8 in int8 on 10,000 samples of CIFAR's shape.

The peer is what a user writes: one interpreter, one sample after the other, with its input
quantized and its output read. tfq evaluates the same file in one process (all cores), on one
core, with two processes, and on a Dask cluster of two processes of one thread each. Rates count
from the first block to the last; starting processes is told apart, in seconds of the whole. Every
figure is taken in a process of its own, one variant after the other, and medians are compared.
"""

from __future__ import annotations

import harness
import models
import numpy as np
import stats

SAMPLES = 10_000
# Worker and job of each variant.
VARIANTS = {
    "plain loop": ("judge", {"action": "one_by_one"}),
    "tfq, 1 process": ("tfq", {"action": "evaluate", "workers": 1, "dask": False}),
    "tfq, 2 processes": ("tfq", {"action": "evaluate", "workers": 2, "dask": False}),
    "tfq, Dask with 2": ("tfq", {"action": "evaluate", "workers": 2, "dask": True}),
    "tfq, 1 core": ("tfq", {"action": "evaluate", "workers": 1, "dask": False, "one_core": True}),
}
# Numerator, denominator, and the ratio that has to be reached.
TARGETS = (
    ("tfq, 1 process", "plain loop", 1.8),
    ("tfq, 2 processes", "tfq, 1 process", 1.8),
    ("tfq, 2 processes", "tfq, 1 core", 1.8),
    ("tfq, Dask with 2", "tfq, 2 processes", 0.8),
)


def _run(variant: str, model: str, samples: int) -> dict:
    worker, job = VARIANTS[variant]
    data = str(models.Prepared("resnet8").test)
    answer = harness.run_job(worker, {**job, "out": model, "data": data, "samples": samples})
    if not answer["ok"]:
        raise SystemExit(f"{variant}: {answer['error']}")
    return answer


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5; quick: 1)")
    parser.add_argument("--no_memory", action="store_true", help="leave the memory runs out")
    flags = harness.start(parser)
    prepared = models.prepare("resnet8")
    model = str(prepared.folder / "tfq.tflite")
    job = {"action": "convert", "model": str(prepared.float_model), "out": model}
    made = harness.run_job("tfq", {**job, "data": str(prepared.calibration), "samples": 100})
    if not made["ok"]:
        raise SystemExit(made["error"])
    rates: dict[str, list[float]] = {v: [] for v in VARIANTS}
    whole: dict[str, list[float]] = {v: [] for v in VARIANTS}
    scores = set()
    for _ in range(1 if flags.quick else flags.rounds):
        for variant in VARIANTS:
            answer = _run(variant, model, SAMPLES)
            rates[variant].append(answer["per_second"])
            whole[variant].append(answer["seconds"])
            scores.add(round(answer["top1"], 6))
    if len(scores) != 1:
        raise SystemExit(f"The variants do not agree: top-1 {sorted(scores)}")
    rows = [
        [v, f"{np.median(r):,.0f}", f"{min(r):,.0f}-{max(r):,.0f}", f"{np.median(whole[v]):.2f}",
         f"{stats.ratio_of_medians(r, rates['plain loop']):.2f}"]
        for v, r in rates.items()
    ]  # fmt: skip
    header = ["10,000 samples, ResNet8 int8", "samples/s", "range", "s in all", "x plain loop"]
    print(stats.table(header, rows))
    ratios = []
    for ours, theirs, goal in TARGETS:
        ratio = stats.ratio_of_medians(rates[ours], rates[theirs])
        verdict = "reached" if ratio >= goal else "missed"
        ratios.append([f"{ours} / {theirs}", f"{ratio:.2f}", f">= {goal}", verdict])
    print("\n" + stats.table(["ratio of medians", "", "goal", "verdict"], ratios))
    figures = {"per_second": rates, "seconds": whole, "ratios": ratios}
    if not flags.no_memory:
        counts = (10_000, 20_000) if flags.quick else (10_000, 200_000)
        peaks = {n: _run("tfq, 1 process", model, n)["peak_rss_mb"] for n in counts}
        rows = [[f"{n:,} samples", f"{mb:.0f} MB"] for n, mb in peaks.items()]
        print("\n" + stats.table(["peak memory of one process", ""], rows))
        figures["peak_rss_mb"] = peaks
    harness.write_json(flags, figures)


if __name__ == "__main__":
    main()
