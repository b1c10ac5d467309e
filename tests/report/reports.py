"""Reports as an evaluation would write them, of any size, seeded."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

NAMES = ["saved_model", "int8.tflite", "int16.tflite", "mixed.tflite", "qat.tflite", "old.tflite"]
BINS = 64
OUTPUT = "probabilities"

# Names that a page must show and never run: a tensor may be called anything.
NASTY = [
    "</script><script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 1">',
    "quotes \" ' ` and & < > signs",
    "überlänge/слой/層/🙂\u2028\u202e",
    "block/" * 33 + "x",
    "<!-- <script> -->",
]


def make_report(
    layers: int = 12, models: int = 2, classes: int = 10, analysed: int = 1, seed: int = 0
) -> dict[str, Any]:
    """A whole report of a classifier: every section has something in it."""
    rng = random.Random(seed)
    names = NAMES[:models]
    others = names[1:]
    report = {
        "format": "tfq-report",
        "version": 1,
        "title": f"{others[0]} against {names[0]}" if others else names[0],
        "command": f"python -m tfq.evaluate {' '.join(names)} --data=test.npz --report=report.html",
        "versions": {"tfq": "0.1.0", "ai-edge-litert": "2.3.0", "numpy": "2.4.1"},
        "data": {"description": "test.npz, 1000 samples", "samples": 1000, "labelled": True},
        "second_data": {"description": "shifted.npz", "samples": 500, "labelled": True},
        "models": [_model(rng, i, n) for i, n in enumerate(names)],
        "task": _task(classes),
        "tasks": [_task(classes)],
        "metrics": _metrics(rng, names),
        "agreement": [
            {
                "model": n,
                "output": OUTPUT,
                "data": d,
                "samples": samples,
                "same": 0.967 - 0.01 * i,
                "right_to_wrong": 25 - i,
                "wrong_to_right": 5 + i,
                "wrong_to_wrong": 3,
                "p": min(1.0, 0.0006 * 10**i),
            }
            for d, samples in ((1, 1000), (2, 500))
            for i, n in enumerate(others)
        ],
        "outputs": [
            {
                "model": n,
                "output": "probabilities",
                "sqnr_db": 24.31 + i,
                "max_abs": 0.1934,
                "mean_abs": 0.00312,
                "cosine": 0.99871,
                "parts": [
                    {
                        "part": part,
                        "low": 0.0,
                        "high": high,
                        "steps": steps,
                        "sqnr_db": db,
                        "spread_db": db,
                        "max_abs": 0.1934,
                        "starved": steps < 8,
                    }
                    for part, high, steps, db in (
                        ("[..., 0:4]", 640.0, 255.0, 51.2),
                        ("[..., 4:10]", 0.93, 0.37, -0.4),
                    )
                ]
                if i == 0
                else [],
            }
            for i, n in enumerate(others)
        ],
        "improvements": [i for n in others for i in _improvements(n)],
        "confusion": [
            {"model": n, "output": OUTPUT, "matrix": _confusion(rng, classes)} for n in names
        ],
        "segmentation": [_segmentation(names, d) for d in (1, 2)],
        "reliability": [
            {"model": n, "output": OUTPUT, **_reliability(rng, i)} for i, n in enumerate(names)
        ],
        "behaviour": [
            {
                "name": name,
                "title": title,
                "output": OUTPUT,
                "unit": unit,
                "better": better,
                "samples": 256,
                "values": [
                    {"model": n, "value": round(scale * (1 + 0.2 * i), 4)}
                    for i, n in enumerate(names)
                ],
            }
            for name, title, unit, better, scale in (
                ("flips_noise", "answers that flip under input noise of 1 LSB", "%", "lower", 0.4),
                (
                    "flips_brightness",
                    "answers that flip under 2 % more brightness",
                    "%",
                    "lower",
                    1.2,
                ),
                ("moved_noise", "how far the output moves under noise", "%", "lower", 2.1),
                ("confidence", "mean confidence in the answer", "%", "neither", 81.27),
                ("gap_top1", "generalisation: top-1 accuracy lost", "%", "lower", 6.6),
                ("roughness", "roughness of the output along a path", "", "lower", 0.0003),
            )
        ],
        "layers": [
            {"model": n, "samples": 32, "tensors": make_tensors(layers, seed + i)}
            for i, n in enumerate(others[:analysed])
        ],
        "verdicts": [],
        "verdict": {
            "text": "int8.tflite is not good enough: top-1 accuracy drops by 2.0 points "
            "(0.9 to 3.1, p = 0.0006), and one layer causes most of it.",
            "status": "bad",
        },
        "warnings": ["2 samples of test.npz appear twice.", "class 7 has only 4 samples."],
    }
    if report["layers"]:
        report["verdicts"] = _verdicts(report["layers"][0])
    return report


def _improvements(model: str) -> list[dict[str, Any]]:
    """One that is kept, one that is refused, one that was not tried."""

    def effect(part: str, before: float | None, after: float | None) -> dict[str, Any]:
        return {"output": OUTPUT, "part": part, "before_db": before, "after_db": after}

    refused = {"what": "12 of 12 layers", "output": OUTPUT, "part": "[..., 4:10]", "loss_db": 4.12}
    return [
        {
            "model": model,
            "name": "calibration",
            "kept": "percentile:99.99",
            "tried": 8,
            "outputs": [effect("", 24.3, 28.1), effect("before SOFTMAX", 21.0, 23.4)],
            "refused": refused | {"what": "octav", "part": "", "loss_db": 0.63},
            "note": "",
        },
        {
            "model": model,
            "name": "bias_correction",
            "kept": "",
            "tried": 5,
            "outputs": [effect("", 28.1, 30.2), effect("[..., 4:10]", None, 25.0)],
            "refused": refused,
            "note": "",
        },
        {
            "model": model,
            "name": "equalization",
            "kept": "",
            "tried": 0,
            "outputs": [],
            "refused": None,
            "note": "not tried: the statistics given are of the model as it is",
        },
    ]


def _segmentation(names: list[str], data: int) -> dict[str, Any]:
    """Thirty classes of falling size; of one some models have no IoU, of another no accuracy."""
    classes = []
    for c in range(30):
        values = [
            {"model": n, "iou": 90.0 - 2 * c - i * (c % 7), "accuracy": 95.0 - c, "pixels": 9000}
            for i, n in enumerate(names)
        ]
        if c == 28:
            values[-1]["iou"] = None
        if c == 29:
            values = [v | {"accuracy": None} for v in values]
        classes.append({"index": c, "pixels": 30000 - 1000 * c, "values": values})
    total = sum(c["pixels"] for c in classes)
    return {"output": OUTPUT, "data": data, "pixels": total, "ignored": 1234, "classes": classes}


def _task(classes: int) -> dict[str, Any]:
    return {
        "name": "classification",
        "output": OUTPUT,
        "classes": classes,
        "class_names": [f"class {i}" for i in range(classes)],
        "scores": "probabilities",
        "data_range": None,
    }


def bare_report() -> dict[str, Any]:
    """One model, no labels, nothing analysed: null and empty wherever the schema allows it."""
    report = make_report(models=1)
    report |= {
        "command": None,
        "second_data": None,
        "task": None,
        "tasks": [],
        "metrics": [],
        "agreement": [],
        "outputs": [],
        "improvements": [],
        "confusion": [],
        "segmentation": [],
        "reliability": [],
        "behaviour": [],
        "layers": [],
        "verdicts": [],
        "warnings": [],
        "verdict": {"text": "There is nothing to compare with.", "status": "doubtful"},
        "data": {"description": "random", "samples": 8, "labelled": False},
    }
    model = report["models"][0]
    model |= {"path": None, "bytes": None, "sha256": None, "min_runtime_version": None}
    model |= {"ops": [], "weights": []}
    return report


def null_report() -> dict[str, Any]:
    """Every section is there, and everything in it that may be null is null."""
    report = make_report(layers=5)
    for task in (report["task"], *report["tasks"]):
        task |= {"classes": None, "scores": None, "class_names": None}
    for model in report["models"]:
        for argument in model["inputs"] + model["outputs"]:
            argument |= {"scale": None, "zero_point": None}
    for metric in report["metrics"]:
        for v in metric["values"]:
            v |= {"value": None, "low": None, "high": None}
        for d in metric["differences"]:
            d |= {"value": None, "low": None, "high": None, "p": None}
    report["verdict"]["status"] = "none"
    for row in report["agreement"]:
        row |= dict.fromkeys(("p", "right_to_wrong", "wrong_to_right", "wrong_to_wrong"))
    for row in report["outputs"]:
        row |= {"sqnr_db": None, "max_abs": None, "mean_abs": None, "cosine": None}
        for part in row["parts"]:
            part |= {"sqnr_db": None, "spread_db": None, "steps": None}
    for row in report["improvements"]:
        row["refused"] = None
        for e in row["outputs"]:
            e |= {"before_db": None, "after_db": None}
    for row in report["reliability"]:
        row["ece"] = None
        for b in row["bins"]:
            b |= {"count": 0, "confidence": None, "accuracy": None}
    for row in report["behaviour"]:
        for v in row["values"]:
            v["value"] = None
    for row in report["segmentation"]:
        for c in row["classes"]:
            for v in c["values"]:
                v |= {"iou": None, "accuracy": None}
    for t in report["layers"][0]["tensors"]:
        t |= {"layer": None, "isolated": None, "accumulated": None, "channels": None}
        t |= {"weights": None, "histogram": None}
    # Some have a reading without figures, or weights without a histogram.
    nothing = dict.fromkeys(("sqnr_db", "mean_lsb", "max_lsb", "bias_lsb", "worst_bias_lsb"))
    last = report["layers"][0]["tensors"][-1]
    last["accumulated"] = nothing
    last["channels"] = {"count": 4, "imbalance": None, "dead": 0, "silenced": 0}
    last["weights"] = {
        "name": "w", "dtype": "int8", "bits": 8, "per_channel": True, "sqnr_db": None,
        "imbalance": None, "histogram": None,
    }  # fmt: skip
    for v in report["verdicts"]:
        v |= {"tensor": None, "layer": None}
        v["remedy"] |= {"flag": None, "call": None}
    return report


MISFIT = (
    "THE SAMPLES DO NOT FIT THE INPUT of int8.tflite: image takes 0 to 1, and 93% of the values "
    "lie beyond, which reach from 0 to 255. Scale them as in training."
)


def widespread_report() -> dict[str, Any]:
    """Causes of many layers, all of the second of three models, and samples that do not fit."""
    report = make_report(layers=16, models=4, analysed=3)
    report["verdicts"] = _verdicts(report["layers"][1])
    tensors = report["layers"][1]["tensors"]
    covered = [tensors[i] for i in range(3, 12)]
    report["verdicts"][0]["tensors"] = [t["name"] for t in covered]
    report["verdicts"][0]["layers"] = [t["layer"] for t in covered]
    report["verdicts"][1]["tensors"] = [tensors[7]["name"], tensors[12]["name"]]
    report["warnings"].insert(1, MISFIT)
    return report


def nasty_report() -> dict[str, Any]:
    """Names and texts that would break a careless page."""
    report = make_report(layers=len(NASTY) * 2, classes=len(NASTY))
    report["title"] = NASTY[0]
    report["command"] = NASTY[2]
    report["warnings"] = list(NASTY)
    for task in (report["task"], *report["tasks"]):
        task["class_names"] = list(NASTY)
    report["verdict"]["text"] = NASTY[1]
    for i, t in enumerate(report["layers"][0]["tensors"]):
        t["name"] = f"{NASTY[i % len(NASTY)]}{i}"
        t["layer"] = NASTY[(i + 1) % len(NASTY)]
        if t["weights"]:
            t["weights"]["name"] = NASTY[i % len(NASTY)]
    for i in report["improvements"]:
        i |= {"name": NASTY[0], "kept": i["kept"] and NASTY[1], "note": NASTY[2]}
        for row in (*i["outputs"], *filter(None, [i["refused"]])):
            row |= {"output": NASTY[3], "part": NASTY[4]}
    for v in report["verdicts"]:
        v |= {
            "title": NASTY[0],
            "text": NASTY[1],
            "tensor": report["layers"][0]["tensors"][0]["name"],
            "layers": [t["layer"] for t in report["layers"][0]["tensors"]],
        }
        v["remedy"] = {"text": NASTY[2], "flag": NASTY[0], "call": NASTY[1]}
    text = NASTY[1]
    renamed = copy.deepcopy(report)
    renamed["models"][1] |= {"name": text, "path": text}
    rows = (
        "agreement",
        "outputs",
        "improvements",
        "confusion",
        "reliability",
        "verdicts",
        "layers",
    )
    for section in rows:
        for row in renamed[section]:
            row["model"] = text if row["model"] == NAMES[1] else row["model"]
    for section in ("metrics", "behaviour", "segmentation"):
        for row in [r for s in renamed[section] for r in s.get("classes", [s])]:
            for v in row["values"] + row.get("differences", []):
                v["model"] = text if v["model"] == NAMES[1] else v["model"]
    return renamed


def make_tensors(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """A residual network of `n` tensors: stem, blocks with a shortcut each, pooling, answer."""
    rng = random.Random(seed)
    tensors: list[dict[str, Any]] = [_tensor(rng, "serving_default_input:0", None, "INPUT", [], 0)]
    shortcut = 0
    for i in range(1, n):
        step = i % 5
        block = f"resnet/stage_{i // 40}/block_{i // 5}"
        if i == n - 1:
            op, inputs = "SOFTMAX", [i - 1]
        elif step == 0 and i > 1:
            op, inputs = "ADD", sorted({i - 1, shortcut})
            shortcut = i
        elif step == 3 and rng.random() < 0.2:
            op, inputs = "MAX_POOL_2D", [i - 1]
        else:
            op, inputs = ("DEPTHWISE_CONV_2D" if step == 2 else "CONV_2D"), [i - 1]
        layer = f"{block}/{op.lower()}_{i}"
        name = f"{layer}/Relu6;{layer}/BiasAdd;{layer}/Conv2D" if "CONV" in op else layer
        tensors.append(_tensor(rng, name, layer, op, inputs, i / n))
    return tensors


def _tensor(
    rng: random.Random, name: str, layer: str | None, op: str, inputs: list[int], depth: float
) -> dict[str, Any]:
    isolated = rng.gauss(41, 5)
    outliers = rng.random() < 0.06
    if outliers:
        isolated -= 22
    low, high = (-3.1, 3.4) if op == "ADD" else (0.0, 6.0)
    observed = [low, high * (5.2 if outliers else 1.02)]
    grid = [low, observed[1] if outliers else high * rng.choice([0.8, 1.0, 1.0])]
    scale = (grid[1] - grid[0]) / 255
    exact = op in ("MAX_POOL_2D", "INPUT")
    return {
        "name": name,
        "layer": layer,
        "op": op,
        "dtype": "int8",
        "shape": [1, 16, 16, 32],
        "scale": scale,
        "zero_point": round(-128 - grid[0] / scale),
        "inputs": inputs,
        "isolated": None if op == "INPUT" else _reading(rng, None if exact else isolated),
        "accumulated": _reading(rng, min(isolated, 46) - 14 * depth - rng.random() * 3),
        "saturation": max(0.0, rng.gauss(0.0004, 0.001)),
        "used": min(1.0, rng.uniform(0.6, 1.1)),
        "observed": observed,
        "grid": grid,
        "channels": None
        if op == "INPUT"
        else {"count": 32, "imbalance": rng.uniform(1, 9), "dead": rng.randrange(2), "silenced": 0},
        "weights": {
            "name": f"{name.partition(';')[0]}/kernel",
            "dtype": "int8",
            "bits": 8,
            "per_channel": True,
            "sqnr_db": rng.gauss(43, 2),
            "imbalance": rng.uniform(1, 6),
            "histogram": _histogram(rng, -0.4, 0.4, 0.0, 0.11, 18432),
        }
        if "CONV" in op
        else None,
        "histogram": _histogram(
            rng, observed[0], observed[1], low + 0.8, 1.1 if not outliers else 1.6, 262144
        ),
    }


def _reading(rng: random.Random, sqnr: float | None) -> dict[str, Any]:
    if sqnr is None:
        return {"sqnr_db": None, "mean_lsb": 0.0, "max_lsb": 0.0, "bias_lsb": 0.0,
                "worst_bias_lsb": 0.0}  # fmt: skip
    mean = 0.3 * 10 ** ((42 - sqnr) / 20)
    return {
        "sqnr_db": sqnr,
        "mean_lsb": mean,
        "max_lsb": mean * rng.uniform(4, 12),
        "bias_lsb": mean * rng.uniform(0, 0.4),
        "worst_bias_lsb": mean * rng.uniform(0.4, 1.1),
    }


def _histogram(
    rng: random.Random, low: float, high: float, mean: float, deviation: float, n: int
) -> dict[str, Any]:
    width = (high - low) / BINS
    counts = []
    for i in range(BINS):
        z = (low + (i + 0.5) * width - mean) / deviation
        counts.append(
            round(n * width / deviation * 0.4 * math.exp(-z * z / 2) * rng.uniform(0.9, 1.1))
        )
    counts[0] += n // 8 if low == 0 else 0
    counts[-1] += 3
    quantized = [max(0, round(c * rng.uniform(0.85, 1.15))) for c in counts]
    return {"low": low, "high": high, "float": counts, "quantized": quantized}


def _model(rng: random.Random, i: int, name: str) -> dict[str, Any]:
    quantized = i > 0
    grid = (
        {"scale": 0.00390625, "zero_point": -128}
        if quantized
        else {"scale": None, "zero_point": None}
    )
    dtype = "int8" if quantized else "float32"
    return {
        "name": name,
        "path": name,
        "reference": i == 0,
        "kind": ["float32", "int8", "int16", "mixed", "int8", "int8"][i],
        "bytes": 98_304 if quantized else 351_232,
        "sha256": f"{rng.getrandbits(256):064x}",
        "full_integer": quantized and i != 3,
        "min_runtime_version": "2.3.0",
        "ops": [
            {"op": "CONV_2D", "count": 9 + i},
            {"op": "ADD", "count": 3},
            {"op": "SOFTMAX", "count": 1},
            *([{"op": "QUANTIZE", "count": i}] if quantized else []),
        ],
        "weights": [
            {"dtype": "int8", "values": 78_000, "bytes": 78_000},
            {"dtype": "int32", "values": 690, "bytes": 2760},
        ]
        if quantized
        else [{"dtype": "float32", "values": 78_690, "bytes": 314_760}],
        "inputs": [{"name": "input", "dtype": dtype, "shape": [1, 32, 32, 3], **grid}],
        "outputs": [{"name": "probabilities", "dtype": dtype, "shape": [1, 10], **grid}],
    }


def _metrics(rng: random.Random, names: list[str]) -> list[dict[str, Any]]:
    rows = [
        ("top1", "top-1 accuracy", "%", "higher", 1, 64.8, 2.4, -2.0, 1.1),
        ("roc_auc", "ROC AUC", "", "higher", 1, 0.9312, 0.01, -0.0041, 0.0052),
        ("ece", "expected calibration error", "", "lower", 1, 0.0003, 0.0002, 0.0001, 0.00008),
        ("top1", "top-1 accuracy", "%", "higher", 2, 58.2, 3.4, -1.1, 1.6),
    ]
    return [
        {
            "name": name,
            "title": title,
            "output": OUTPUT,
            "unit": unit,
            "better": better,
            "data": data,
            "values": [
                {"model": n, "value": v, "low": v - spread, "high": v + spread}
                for n, v in ((n, value + (change / i if i else 0)) for i, n in enumerate(names))
            ],
            "differences": [
                {
                    "model": n,
                    "value": change / i,
                    "low": change / i - half,
                    "high": change / i + half,
                    "p": min(1.0, 0.0006 * 9 ** (i - 1)),
                    "resamples": 2000,
                }
                for i, n in enumerate(names)
                if i
            ],
        }
        for name, title, unit, better, data, value, spread, change, half in rows
    ]


def _confusion(rng: random.Random, classes: int) -> list[list[int]]:
    matrix = [[int(rng.expovariate(0.7)) for _ in range(classes)] for _ in range(classes)]
    for i, row in enumerate(matrix):
        row[i] += rng.randrange(55, 90)
    return matrix


def _reliability(rng: random.Random, i: int) -> dict[str, Any]:
    bins = []
    for b in range(10):
        count = 0 if b == 0 else 20 + b * b * 4
        confidence = (b + 0.5) / 10
        bins.append(
            {
                "low": b / 10,
                "high": (b + 1) / 10,
                "count": count,
                "confidence": confidence if count else None,
                "accuracy": max(0.0, confidence - 0.05 - 0.03 * i + rng.uniform(-0.04, 0.04))
                if count
                else None,
            }
        )
    return {"ece": 0.031 + 0.012 * i, "bins": bins}


def _verdicts(analysis: dict[str, Any]) -> list[dict[str, Any]]:
    def finding(
        at: int, severity: float, cause: str, title: str, text: str, remedy: str, flag: str | None
    ) -> dict[str, Any]:
        tensor = analysis["tensors"][at % len(analysis["tensors"])]
        return {
            "model": analysis["model"],
            "tensor": tensor["name"],
            "layer": tensor["layer"],
            "cause": cause,
            "title": title,
            "severity": severity,
            "text": text,
            "remedy": {
                "text": remedy,
                "flag": flag,
                "call": None
                if flag is None
                else "tfq.convert_model(..., calibration='percentile')",
            },
        }

    return [
        finding(
            3, 0.92, "outlier_range", "outliers dominate the range",
            "The largest value is 31.2, but 99.99 % of the values are below 6.1: 80 % of the grid "
            "is spent on 3 values in 10 000.",
            "Clip the range to the middle 99.99 % of the values.", "--calibration=percentile:99.99",
        ),
        finding(
            7, 0.55, "channel_imbalance", "channels of very different size",
            "The widest channel is 8.7 times the median one, so the small ones have 4 bits left.",
            "Equalize the channels of this layer and the one before.", "--equalize",
        ),
        finding(
            9, 0.2, "dead_channels", "channels that are always zero",
            "1 of 32 channels is zero on all 32 samples.",
            "Prune the channel, or look at the training: it costs time and gives nothing.", None,
        ),
    ]  # fmt: skip
