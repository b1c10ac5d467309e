"""Training jobs done by tensorflow-model-optimization on tf_keras, in an environment of its own."""

from __future__ import annotations

import os
import pathlib
import time
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
# Training may use both cores, as a user's does.
os.environ.pop("OMP_NUM_THREADS", None)

import jobs
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
import training_task as task


def _quantized(model: Any, contestant: str) -> Any:
    """int8 by the default scheme, W4A8 by the package's own n-bit scheme."""
    quantization = tfmot.quantization.keras
    if contestant == "int8":
        return quantization.quantize_model(model)
    scheme = quantization.experimental.default_n_bit.DefaultNBitQuantizeScheme(
        num_bits_weight=4, num_bits_activation=8
    )
    with quantization.quantize_scope(), keras.utils.custom_object_scope(_n_bit_objects()):
        return quantization.quantize_apply(quantization.quantize_annotate_model(model), scheme)


def _n_bit_objects() -> dict[str, Any]:
    """The n-bit scheme's classes, which `quantize_scope` leaves out."""
    from tensorflow_model_optimization.python.core.quantization.keras.experimental.default_n_bit import (  # noqa: E501
        default_n_bit_quantize_configs as configs,
    )

    return {k: v for k, v in vars(configs).items() if isinstance(v, type)}


def train(job: jobs.Job) -> dict:
    """One contestant from the pretrained weights to the emitted file `out`."""
    keras.utils.set_random_seed(1000 + job["seed"])
    x, y = (a[: job.get("images")] for a in task.load("train"))
    start = task.build(keras)
    task.load_weights(start, job["start"])
    model = _quantized(start, job["contestant"])
    steps = job["epochs"] * -(-len(x) // task.BATCH)
    task.compile_model(keras, model, steps, job.get("rate", task.RATE))
    started = time.perf_counter()
    history = model.fit(x, y, batch_size=task.BATCH, epochs=job["epochs"], verbose=0)
    seconds = time.perf_counter() - started
    xt, yt = task.load("t10k")
    simulated = float((model.predict(xt, batch_size=500, verbose=0).argmax(1) == yt).mean())
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    pathlib.Path(job["out"]).write_bytes(converter.convert())
    return {
        "seconds": seconds,
        "loss": [float(v) for v in history.history["loss"]],
        "simulated": 100 * simulated,
    }


def steps(job: jobs.Job) -> dict:
    """Milliseconds a training step, float and int8."""
    start = task.build(keras)
    models = {"float": start, "int8": _quantized(task.build(keras), "int8")}
    for model in models.values():
        task.compile_model(keras, model, 10_000)
    return {"ms": task.step_times(models, job["rounds"], job["steps"])}


if __name__ == "__main__":
    jobs.serve({"train": train, "steps": steps})
