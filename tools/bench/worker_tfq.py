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


if __name__ == "__main__":
    jobs.serve({"convert": convert, "calibrate": calibrate})
