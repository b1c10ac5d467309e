"""Jobs done by TensorFlow's own converter and calibrator; runs in the `tensorflow` environment."""

from __future__ import annotations

import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jobs


def convert(job: jobs.Job) -> dict:
    """SavedModel -> int8 file; `seconds` counts from before TensorFlow is imported.

    Without a SavedModel, what the converter does after its own conversion to float: the calibrator
    and the quantizer on the float `.tflite`.
    """
    if job.get("saved_model") is None:
        return quantize(job)
    started = time.perf_counter()
    import tensorflow as tf

    samples = jobs.Samples(job["data"], job.get("samples"))
    converter = tf.lite.TFLiteConverter.from_saved_model(job["saved_model"])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: iter(samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    model = converter.convert()
    pathlib.Path(job["out"]).write_bytes(model)
    return {"seconds": time.perf_counter() - started, "peak_rss_mb": jobs.peak_rss_mb()}


def quantize(job: jobs.Job) -> dict:
    """Float `.tflite` -> int8 by the calibrator; ops that have no int8 form are an error."""
    started = time.perf_counter()
    import tensorflow as tf
    from tensorflow.lite.python.optimize import calibrator

    samples = jobs.Samples(job["data"], job.get("samples"))
    engine = calibrator.Calibrator(pathlib.Path(job["model"]).read_bytes())
    model = engine.calibrate_and_quantize(
        lambda: iter(samples), tf.int8, tf.int8, allow_float=False
    )
    pathlib.Path(job["out"]).write_bytes(model)
    return {"seconds": time.perf_counter() - started, "peak_rss_mb": jobs.peak_rss_mb()}


def calibrate(job: jobs.Job) -> dict:
    """The calibrator that the converter runs, alone on the float `.tflite`."""
    from tensorflow.lite.python.optimize import calibrator

    samples = jobs.Samples(job["data"], job["samples"])
    engine = calibrator.Calibrator(pathlib.Path(job["model"]).read_bytes())
    engine.calibrate(lambda: iter(samples))
    return {"ms": samples.ms_per_sample(job["warmup"]), "peak_rss_mb": jobs.peak_rss_mb()}


if __name__ == "__main__":
    jobs.serve({"convert": convert, "calibrate": calibrate})
