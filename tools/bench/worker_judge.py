"""Judges emitted models: error against the float source, task scores; a bad one may abort it."""

from __future__ import annotations

import collections
import pathlib
import time

import jobs
import litert_model
import notes
import numpy as np

TIE_LSB = 1 / 16


def _lsb(grid: litert_model.Grid | None, reference: np.ndarray) -> float:
    """What one LSB of an output is: its grid's step; 1 for integers; 1/255 of a float's range."""
    if grid is not None:
        return grid.scale
    if not np.issubdtype(reference.dtype, np.floating):
        return 1.0
    return float(np.ptp(reference)) / 255 or 1.0


def _nudged(
    sample: dict[str, np.ndarray], grids: dict[str, litert_model.Grid | None], lsb: float
) -> dict[str, np.ndarray]:
    """Real inputs moved by `lsb` of their grids, every other input the other way."""
    moved = {}
    for i, (name, value) in enumerate(sample.items()):
        grid = grids[name]
        step = 0.0 if grid is None else (-lsb if i % 2 else lsb) * grid.scale
        moved[name] = (value + step).astype(value.dtype)
    return moved


def errors(job: jobs.Job) -> dict:
    """Largest and mean output error in LSB on `samples` samples of `data` put on the input grid.

    Where the function `jumps`, an output may also be what the float model gives for inputs up to
    `TIE_LSB` away: two inputs on different grids come so close that only rounding orders them.
    """
    judged = litert_model.LiteRtModel(pathlib.Path(job["out"]))
    source = litert_model.LiteRtModel(pathlib.Path(job["model"]))
    differences: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    references: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    for sample in jobs.Samples(job["data"], job["samples"]):
        grids = judged.input_grids
        inputs = {k: v if (grid := grids[k]) is None else grid.snap(v) for k, v in sample.items()}
        got = judged.run(inputs)
        nudges = (0.0, TIE_LSB, -TIE_LSB) if job["jumps"] else (0.0,)
        for_inputs = [source.run(_nudged(inputs, grids, lsb)) for lsb in nudges]
        for name, value in for_inputs[0].items():
            apart = [
                np.abs(got[name].astype(np.float64) - expected[name].astype(np.float64)).ravel()
                for expected in for_inputs
            ]
            differences[name].append(np.min(apart, axis=0))
            references[name].append(value.ravel())
    in_lsb = np.concatenate(
        [
            np.concatenate(differences[k])
            / _lsb(judged.output_grids[k], np.concatenate(references[k]))
            for k in differences
        ]
    )
    if not np.isfinite(in_lsb).all():
        raise ValueError("the outputs are not finite")
    return {"max_lsb": float(in_lsb.max()), "mean_lsb": float(in_lsb.mean())}


def score(job: jobs.Job) -> dict:
    """Per test sample the counts that a metric is made of; `task` is "top1" or "notes"."""
    model = litert_model.LiteRtModel(pathlib.Path(job["out"]))
    with np.load(job["data"]) as file:
        x, truth = file["x0"][: job["samples"]], file["y"][: job["samples"]]
    counts = []
    for i, label in enumerate(truth):
        outputs = model.run({"x0": x[i : i + 1]})
        if job["task"] == "notes":
            found = notes.transcribe(outputs["note"][0], outputs["onset"][0])
            counts.append(notes.match(label, found))
        else:
            counts.append((int(np.argmax(outputs["y0"])) == int(label), 1))
    return {"counts": np.array(counts, int).tolist()}


def outputs(job: jobs.Job) -> dict:
    """Each output against that of the float `model`, per sample of `data`.

    Returns:
      `power`: for each output by name [samples, 2], the summed squares of the float output and of
      the difference from it. Of a classifier, which has one output [1, classes], `same` and, where
      `data` has labels, `right`: 0 or 1 per sample, whether the largest value is at the float
      output's place, or at the label.
    """
    judged = litert_model.LiteRtModel(pathlib.Path(job["out"]))
    source = litert_model.LiteRtModel(pathlib.Path(job["model"]))
    with np.load(job["data"]) as file:
        labels = file["y"] if "y" in file.files else None
    power: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
    same, right = [], []
    for i, sample in enumerate(jobs.Samples(job["data"])):
        if i == job["samples"]:
            break
        expected = {k: v.astype(np.float64) for k, v in source.run(sample).items()}
        got = {k: v.astype(np.float64) for k, v in judged.run(sample).items()}
        for name, value in expected.items():
            error = got[name].reshape(value.shape) - value
            power[name].append((float(np.square(value).sum()), float(np.square(error).sum())))
        if [v.ndim for v in expected.values()] != [2]:
            continue
        ((name, value),) = expected.items()
        answer = int(got[name].argmax())
        same.append(int(answer == value.argmax()))
        if labels is not None:
            right.append(int(answer == labels[i]))
    return {"power": power, "same": same, "right": right}


def classify(job: jobs.Job) -> dict:
    """Whether the only output's largest value is the label, for each test sample: bits as hex."""
    model = litert_model.LiteRtModel(pathlib.Path(job["out"]))
    (name,) = model.input_grids
    with np.load(job["data"]) as file:
        x, y = file["x0"][: job.get("samples")], file["y"][: job.get("samples")]
    right = []
    for i, label in enumerate(y):
        (scores,) = model.run({name: x[i : i + 1]}).values()
        right.append(int(scores.argmax()) == int(label))
    kinds = litert_model.kinds(pathlib.Path(job["out"]))
    return {
        "right": np.packbits(right).tobytes().hex(),
        "cases": len(right),
        "bytes": model.size,
        "integer_inside": kinds.integer_inside,
    }


def zeros(job: jobs.Job) -> dict:
    """Elements and zeros of the weights of each convolution and fully connected layer."""
    return {"weights": litert_model.weight_zeros(pathlib.Path(job["out"]))}


def latency(job: jobs.Job) -> dict:
    """Milliseconds per invocation with a new sample each time; `out` is the model."""
    model = litert_model.LiteRtModel(pathlib.Path(job["out"]))
    samples = jobs.Samples(job["data"], job["samples"])
    for sample in samples:
        model.run(sample)
    return {"ms": samples.ms_per_sample(job["warmup"]), "peak_rss_mb": jobs.peak_rss_mb()}


def interleaved(job: jobs.Job) -> dict:
    """Milliseconds per invocation of `files` in turn: `blocks` figures for each of them."""
    loaded = {k: litert_model.LiteRtModel(pathlib.Path(p)) for k, p in job["files"].items()}
    ms: dict[str, list[float]] = {k: [] for k in loaded}
    for block in range(job["blocks"] + 1):
        for name, model in loaded.items():
            started = time.perf_counter()
            for _ in range(job["per_block"]):
                model.invoke()
            if block:  # The first one warms up.
                ms[name].append(1000 * (time.perf_counter() - started) / job["per_block"])
    return {"ms": ms}


def one_by_one(job: jobs.Job) -> dict:
    """Top-1 of an int8 classifier by the loop that a user writes: samples a second."""
    from ai_edge_litert.interpreter import Interpreter

    with np.load(job["data"]) as file:
        x, y = file["x0"][: job["samples"]], file["y"][: job["samples"]]
    interpreter = Interpreter(model_path=job["out"])
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    (scale, zero), (step, offset) = taken["quantization"], given["quantization"]
    right = 0
    started = time.perf_counter()
    for image, label in zip(x, y, strict=True):
        quantized = np.clip(np.round(image[None] / scale + zero), -128, 127).astype(np.int8)
        interpreter.set_tensor(taken["index"], quantized)
        interpreter.invoke()
        scores = (interpreter.get_tensor(given["index"]).astype(np.float32) - offset) * step
        right += int(scores.argmax() == label)
    seconds = time.perf_counter() - started
    return {"per_second": len(x) / seconds, "seconds": seconds, "top1": 100 * right / len(x)}


def float_time(job: jobs.Job) -> dict:
    """Seconds that the float model takes for the samples; threads as tfq has them."""
    import os

    from ai_edge_litert.interpreter import Interpreter

    threads = min(4, os.cpu_count() or 1)
    interpreter = Interpreter(model_path=job["model"], num_threads=threads)
    interpreter.allocate_tensors()
    index = interpreter.get_input_details()[0]["index"]
    samples = list(jobs.Samples(job["data"], job["samples"]))
    for _ in range(2):  # The first pass warms up.
        started = time.perf_counter()
        for sample in samples:
            interpreter.set_tensor(index, sample["x0"])
            interpreter.invoke()
        seconds = time.perf_counter() - started
    return {"seconds": seconds}


if __name__ == "__main__":
    actions = {
        "one_by_one": one_by_one,
        "float_time": float_time,
        "classify": classify,
        "outputs": outputs,
        "zeros": zeros,
        "errors": errors,
        "score": score,
        "latency": latency,
        "interleaved": interleaved,
    }
    jobs.serve(actions)
