"""Training jobs done by Keras 3 and tfq, from this checkout."""

from __future__ import annotations

import os
import pathlib
import sys
import time
import warnings
from typing import Any

sys.path.insert(0, os.environ["TFQ_BENCH_CHECKOUT"])
# Training may use both cores, as a user's does.
os.environ.pop("OMP_NUM_THREADS", None)

import jobs
import keras
import training_task as task

import tfq

_FINAL_SPARSITY = 0.7
_REMOVED = 0.5


def _steps(epochs: int, images: int) -> int:
    return epochs * -(-images // task.BATCH)


def pretrain(job: jobs.Job) -> dict:
    """The float model that all start from; its weights go to `out`."""
    keras.utils.set_random_seed(job["seed"])
    x, y = (a[: job.get("images")] for a in task.load("train"))
    model = task.build(keras)
    task.compile_model(keras, model, _steps(job["epochs"], len(x)), task.PRETRAINING_RATE)
    started = time.perf_counter()
    model.fit(x, y, batch_size=task.BATCH, epochs=job["epochs"], verbose=0)
    seconds = time.perf_counter() - started
    task.save_weights(model, pathlib.Path(job["out"]))
    return {"seconds": seconds, "parameters": model.count_params()}


def _student(kind: str, start: Any, data: Any) -> tuple[Any, Any, list[Any]]:
    """What is trained, the model it leaves behind, and callbacks."""
    from tfq.keras.pruning import PolynomialDecay, prune, remove_channels

    if kind == "float":
        return start, start, []
    schedule = [tfq.keras.Schedule()]
    if kind in ("int8", "w4a8", "binary"):
        model = tfq.keras.quantize(start, kind, data=data)
        return model, model, schedule
    if kind == "w4a8_distilled":
        model = tfq.keras.quantize(start, "w4a8", data=data)
        return tfq.keras.distill(start, model), model, schedule
    if kind == "pruned":
        model = tfq.keras.quantize(start, "int8", data=data)
        steps = _steps(task.EPOCHS, 60_000)
        decay = PolynomialDecay(0.0, _FINAL_SPARSITY, begin_step=0, end_step=steps // 2)
        return model, model, [*schedule, prune(model, schedule=decay)]
    if kind == "narrow":
        model = tfq.keras.quantize(remove_channels(start, _REMOVED), "int8", data=data)
        return model, model, schedule
    raise ValueError(f"Unknown contestant {kind!r}.")


def train(job: jobs.Job) -> dict:
    """One contestant from the pretrained weights to the emitted file `out`."""
    warnings.simplefilter("ignore")
    keras.utils.set_random_seed(1000 + job["seed"])
    x, y = (a[: job.get("images")] for a in task.load("train"))
    data = x[: task.CALIBRATION]
    start = task.build(keras)
    task.load_weights(start, job["start"])
    trained, model, callbacks = _student(job["contestant"], start, data)
    steps = _steps(job["epochs"], len(x))
    task.compile_model(keras, trained, steps, job.get("rate", task.RATE))
    started = time.perf_counter()
    history = trained.fit(
        x, y, batch_size=task.BATCH, epochs=job["epochs"], callbacks=callbacks, verbose=0
    )
    seconds = time.perf_counter() - started
    xt, yt = task.load("t10k")
    simulated = float((model.predict(xt, batch_size=500, verbose=0).argmax(1) == yt).mean())
    if job["contestant"] == "float":
        task.save_weights(model, pathlib.Path(job["weights"]))
    scheme = "float32" if job["contestant"] == "float" else "int8"
    result = tfq.convert_model(model, data, scheme=scheme)
    result.save(job["out"])
    return {
        "seconds": seconds,
        "loss": [float(v) for v in history.history["loss"]],
        "simulated": 100 * simulated,
    }


def post_training(job: jobs.Job) -> dict:
    """The float contestant's weights, rounded after training with `settings`."""
    start = task.build(keras)
    task.load_weights(start, job["weights"])
    started = time.perf_counter()
    data = task.load("train")[0][: task.CALIBRATION]
    tfq.convert_model(start, data, **job["settings"]).save(job["out"])
    return {"seconds": time.perf_counter() - started}


def steps(job: jobs.Job) -> dict:
    """Milliseconds a training step, float and int8."""
    start = task.build(keras)
    data = task.load("train")[0][: task.CALIBRATION]
    models = {"float": start, "int8": tfq.keras.quantize(start, data=data)}
    for model in models.values():
        task.compile_model(keras, model, 10_000)
    return {"ms": task.step_times(models, job["rounds"], job["steps"])}


if __name__ == "__main__":
    jobs.serve({"pretrain": pretrain, "train": train, "post": post_training, "steps": steps})
