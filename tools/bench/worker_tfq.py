"""Jobs done by tfq; runs in the environment of the benchmark itself, from this checkout."""

from __future__ import annotations

import os
import pathlib
import sys
import time

sys.path.insert(0, os.environ["TFQ_BENCH_CHECKOUT"])

import jobs


def _subset(job: jobs.Job) -> dict:
    """The `.npz` as arrays, labels left out, cut to `samples`."""
    import numpy as np

    with np.load(job["data"]) as file:
        return {k: file[k][: job.get("samples")] for k in file.files if k != "y"}


def convert(job: jobs.Job) -> dict:
    """Float `.tflite` -> int8 with the default settings."""
    started = time.perf_counter()
    import tfq

    result = tfq.convert_model(job["model"], _subset(job), **job.get("settings", {}))
    result.save(job["out"])
    seconds = time.perf_counter() - started
    pathlib.Path(job["out"]).stat()
    return {
        "seconds": seconds,
        "peak_rss_mb": jobs.peak_rss_mb(),
        "tensorflow_imported": "tensorflow" in sys.modules,
    }


def calibrate(job: jobs.Job) -> dict:
    """Calibration alone, every tensor; `mode` is "full" (sketches) or "minmax"."""
    from tfq.calibrate.run import calibrate as run
    from tfq.graph.interface import read_interface
    from tfq.graph.model import Model

    model = pathlib.Path(job["model"]).read_bytes()
    names = {a.name: a.tensor_name for a in read_interface(Model.from_bytes(model)).inputs}
    samples = jobs.Samples(job["data"], job["samples"])
    # One thread, like the others.
    feed = ({names[k]: v for k, v in s.items()} for s in samples)
    run(model, feed, mode=job["mode"], threads=1)
    return {"ms": samples.ms_per_sample(job["warmup"]), "peak_rss_mb": jobs.peak_rss_mb()}


def _crew(job: jobs.Job, scheduler: str | None) -> dict:
    """How the work is shared: a cluster, processes, or this process."""
    return {"scheduler": scheduler} if scheduler else {"workers": job["workers"]}


def evaluate(job: jobs.Job) -> dict:
    """Evaluation alone: samples a second between the first and the last block, and peak memory.

    `samples` beyond those of the file repeat them. With `dask`, on a cluster of `workers` processes
    that this job starts and ends.
    """
    import contextlib

    if job.get("one_core"):
        os.sched_setaffinity(0, {0})
    import numpy as np
    import worker_cluster

    from tfq.evaluate import evaluate_model

    with np.load(job["data"]) as file:
        x, y = file["x0"], file["y"]

    def samples():  # type: ignore[no-untyped-def]
        for start in range(0, job["samples"], len(x)):
            count = min(len(x), job["samples"] - start)
            yield x[:count], y[:count]

    marks: list[tuple[float, int]] = []

    def progress(stage: str, done: int, total: int | None) -> None:
        if stage.startswith("Running") and done:
            marks.append((time.perf_counter(), done))

    cluster = worker_cluster.start(job["workers"]) if job["dask"] else contextlib.nullcontext()
    with cluster as scheduler:
        started = time.perf_counter()
        result = evaluate_model(
            job["out"],
            {"x0": x, "y": y} if job["samples"] <= len(x) else samples,
            samples=job["samples"],
            probes=0,
            layers=False,
            progress=progress,
            **_crew(job, scheduler),
        )
        seconds = time.perf_counter() - started
    (first, skipped), (last, done) = marks[0], marks[-1]
    return {
        "per_second": (done - skipped) / (last - first),
        "seconds": seconds,
        "top1": result.report["metrics"][0]["values"][0]["value"],
        "peak_rss_mb": jobs.peak_rss_mb(),
    }


def analyse(job: jobs.Job) -> dict:
    """Layer analysis alone, both readings: seconds for `samples` samples."""
    from tfq.evaluate.layers import analyse_layers
    from tfq.graph.interface import read_interface
    from tfq.graph.model import Model
    from tfq.rewrite.prepare import prepare

    source = pathlib.Path(job["model"]).read_bytes()
    quantized = pathlib.Path(job["out"]).read_bytes()
    prepared = prepare(source, integer=True, activations="int8").bytes
    names = {a.name: a.tensor_name for a in read_interface(Model.from_bytes(prepared)).inputs}
    samples = [
        {names[k]: v for k, v in s.items()} for s in jobs.Samples(job["data"], job["samples"])
    ]
    analyse_layers(prepared, quantized, samples[:1])  # Warms up, as the float interpreter does.
    started = time.perf_counter()
    analysis = analyse_layers(prepared, quantized, samples)
    seconds = time.perf_counter() - started
    both = sum(t.isolated is not None and t.accumulated is not None for t in analysis.tensors)
    return {
        "seconds": seconds,
        "tensors": len(analysis.tensors),
        "both": both,
        "peak_rss_mb": jobs.peak_rss_mb(),
    }


def page(job: jobs.Job) -> dict:
    """The page of a model of `layers` layers, converted and evaluated: seconds to build it, each of
    `rounds` times, and its bytes; the last is left in `out`."""
    import deep_model
    import numpy as np

    import tfq
    from tfq.report import page as build

    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (64, deep_model.SIZE, deep_model.SIZE, 3)).astype(np.float32)
    source = deep_model.build(job["layers"])
    quantized = tfq.convert_model(source, {"x0": x}).model
    data = {"x0": x, "y": rng.integers(0, deep_model.CLASSES, len(x))}
    report = tfq.evaluate_model([source, quantized], data).report
    seconds = []
    for _ in range(job["rounds"]):
        started = time.perf_counter()
        made = build(report)
        seconds.append(time.perf_counter() - started)
    pathlib.Path(job["out"]).write_bytes(made)
    return {
        "seconds": seconds,
        "bytes": len(made),
        "tensors": len(report["layers"][0]["tensors"]),
        "histograms": sum(t["histogram"] is not None for t in report["layers"][0]["tensors"]),
    }


if __name__ == "__main__":
    actions = {
        "convert": convert,
        "calibrate": calibrate,
        "evaluate": evaluate,
        "analyse": analyse,
        "page": page,
    }
    jobs.serve(actions)
