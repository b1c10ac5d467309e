"""Jobs done by litert-quantizer; runs in the `litert-quantizer` environment."""

from __future__ import annotations

import pathlib
import time

import jobs


def _signature_of(model: str) -> str:
    from ai_edge_litert.interpreter import Interpreter

    return next(iter(Interpreter(model_path=model).get_signature_list()))


def convert(job: jobs.Job) -> dict:
    """Float `.tflite` -> static int8 with the default recipe and the default calibration."""
    started = time.perf_counter()
    from litert_quantizer import quantizer, recipe

    samples = jobs.Samples(job["data"], job.get("samples"))
    work = quantizer.Quantizer(job["model"], recipe.static_wi8_ai8())
    ranges = work.calibrate({_signature_of(job["model"]): samples}, num_threads=1)
    result = work.quantize(ranges, enable_progress_report=False)
    pathlib.Path(job["out"]).write_bytes(bytes(result.quantized_model))
    return {"seconds": time.perf_counter() - started, "peak_rss_mb": jobs.peak_rss_mb()}


def calibrate(job: jobs.Job) -> dict:
    """Calibration alone; `mode` is "default" (every tensor kept) or "profiler"."""
    from litert_quantizer import calibrator, quantizer, recipe

    samples = jobs.Samples(job["data"], job["samples"])
    work = quantizer.Quantizer(job["model"], recipe.static_wi8_ai8())
    mode = {
        "default": calibrator.CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS,
        "profiler": calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED,
    }[job["mode"]]
    work.calibrate({_signature_of(job["model"]): samples}, num_threads=1, mode=mode)
    return {"ms": samples.ms_per_sample(job["warmup"]), "peak_rss_mb": jobs.peak_rss_mb()}


if __name__ == "__main__":
    jobs.serve({"convert": convert, "calibrate": calibrate})
