"""Training with tfq on Fashion-MNIST: accuracy, the peer, time a step, pruning, distillation.

The network is MobileNet-style, some 103,000 parameters (`training_task.py`). For each seed one
float model is trained for 8 epochs. From its weights every contestant trains 4 epochs more, by the
same optimizer, learning rate, batches and number of steps; the float model, too, so that
quantization alone makes the difference. "float" below is that one, and quantization after training
starts from it. The teacher of the distilled contestant is the model that all start from.

tensorflow-model-optimization trains the equal tf_keras model from the same weights in a process and
an environment of its own: int8 by `quantize_model`, W4A8 by its own n-bit scheme.

Accuracy is that of the emitted `.tflite` in LiteRT on the 10,000 test images; no test image is used
in training, and the last epoch counts, not the best. Steps are timed without XLA, which slows
depthwise convolutions on a CPU, in blocks in turns, in fresh processes in turns.

What is trained is kept in `~/.cache/tfq-bench/training` and taken from there again; `--redo` names
what to train again.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

import harness
import models
import numpy as np
import stats
import training_task as task

# Contestants, and seconds each takes for one seed on two quiet cores.
OURS = {
    "float": 60,
    "int8": 95,
    "w4a8": 110,
    "binary": 110,
    "w4a8_distilled": 130,
    "pruned": 100,
    "narrow": 70,
}
PEERS = {"int8": 100, "w4a8": 100}
POST = {
    "w4a8_ptq": {
        "weight_bits": 4,
        "weights": "minmax",
        "calibration": "minmax",
        "bias_correction": "none",
        "equalization": "none",
    },
    "w4a8_ptq_mse": {"weight_bits": 4, "weights": "mse"},
    "int8_ptq": {},
}
PRETRAINING_SECONDS = 110
POST_SECONDS = 15
STEPS_SECONDS = 300
SPEED_SECONDS = 10
PARTS = ("accuracy", "peer", "steps", "pruning", "distillation")
_NEEDS = {
    "accuracy": ["float", "int8", "w4a8", "binary", *POST],
    "peer": ["int8", "w4a8", "tfmot/int8", "tfmot/w4a8"],
    "steps": [],
    "pruning": ["float", "int8", "pruned", "narrow"],
    "distillation": ["float", "w4a8", "w4a8_distilled"],
}


class Cache:
    """Results of one recipe, in a folder named after it."""

    def __init__(self, quick: bool):
        self.images, self.epochs, self.first = (
            (3_000, 1, 1) if quick else (None, task.EPOCHS, task.PRETRAINING)
        )
        recipe = hashlib.sha256(str((task.RECIPE, quick)).encode()).hexdigest()[:12]
        self.folder = models.CACHE / "training" / recipe
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, seed: int, name: str, ending: str) -> pathlib.Path:
        return self.folder / f"{name.replace('/', '_')}_{seed}.{ending}"

    def get(self, seed: int, name: str) -> dict[str, Any] | None:
        path = self.path(seed, name, "json")
        return json.loads(path.read_text()) if path.exists() else None

    def put(self, seed: int, name: str, result: dict[str, Any]) -> dict[str, Any]:
        path = self.path(seed, name, "json")
        work = path.with_suffix(".part")
        work.write_text(json.dumps(result))
        work.replace(path)
        return result


def _do(worker: str, job: dict[str, Any]) -> dict[str, Any]:
    answer = harness.run_job(worker, job, timeout=7200)
    if not answer.pop("ok"):
        raise SystemExit(f"{worker}, {job.get('contestant', job['action'])}: {answer['error']}")
    return answer


def _test_data(cache: Cache) -> pathlib.Path:
    path = cache.folder / "test.npz"
    if not path.exists():
        x, y = task.load("t10k")
        np.savez(path, x0=x, y=y)
    return path


def train(cache: Cache, seed: int, name: str) -> dict[str, Any]:
    """The result of one contestant, from the cache or made now, with what it starts from."""
    found = cache.get(seed, name)
    if found is not None:
        return found
    common = {"seed": seed, "images": cache.images}
    start = cache.path(seed, "start", "npz")
    if not start.exists():
        answer = _do("training", {"action": "pretrain", "epochs": cache.first, "out": str(start),
                                  **common})  # fmt: skip
        cache.put(seed, "start", answer)
    out = str(cache.path(seed, name, "tflite"))
    weights = str(cache.path(seed, "float", "npz"))
    if name in POST:
        train(cache, seed, "float")
        job = {"action": "post", "weights": weights, "settings": POST[name], "out": out}
        answer = _do("training", job)
    else:
        worker, _, contestant = name.rpartition("/")
        job = {"action": "train", "contestant": contestant, "epochs": cache.epochs, "out": out,
               "start": str(start), "weights": weights, **common}  # fmt: skip
        answer = _do(worker or "training", job)
    judged = _do("judge", {"action": "classify", "out": out, "data": str(_test_data(cache))})
    right = np.unpackbits(np.frombuffer(bytes.fromhex(judged["right"]), np.uint8))
    judged["top1"] = 100 * float(right[: judged["cases"]].mean())
    print(f"  seed {seed}, {name}: {judged['top1']:.2f} % ({answer['seconds']:.0f} s)", flush=True)
    return cache.put(seed, name, {**answer, **judged})


def _seconds(cache: Cache, seeds: Sequence[int], parts: Sequence[str]) -> float:
    """What is not in the cache takes so long, on two quiet cores."""
    names = {n for p in parts for n in _NEEDS[p]}
    if names & POST.keys():
        names.add("float")
    costs = {
        **OURS,
        **{f"tfmot/{n}": seconds for n, seconds in PEERS.items()},
        **dict.fromkeys(POST, POST_SECONDS),
    }
    total = 0.0
    for seed in seeds:
        missing = [n for n in names if cache.get(seed, n) is None]
        total += sum(costs[n] for n in missing)
        if missing and not cache.path(seed, "start", "npz").exists():
            total += PRETRAINING_SECONDS
    total += STEPS_SECONDS * ("steps" in parts) + SPEED_SECONDS * ("pruning" in parts)
    return total


def _top1(cache: Cache, seeds: Sequence[int], name: str) -> np.ndarray:
    return np.array([train(cache, s, name)["top1"] for s in seeds])


def _spread(values: np.ndarray) -> str:
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{values.mean():+.2f} ± {deviation:.2f}"


def _rows_right(cache: Cache, seeds: Sequence[int], name: str) -> np.ndarray:
    """[seeds * cases, 2]: right or wrong, and 1."""
    rows = []
    for seed in seeds:
        result = train(cache, seed, name)
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(result["right"]), np.uint8))
        rows.append(bits[: result["cases"]])
    right = np.concatenate(rows).astype(float)
    return np.stack([right, np.ones_like(right)], 1)


def _goal(what: str, figure: str, goal: str, reached: bool) -> list[str]:
    return [what, figure, goal, "reached" if reached else "MISSED"]


def accuracy(cache: Cache, seeds: Sequence[int]) -> tuple[list[list[str]], dict[str, Any]]:
    top1 = {n: _top1(cache, seeds, n) for n in _NEEDS["accuracy"]}
    rows = []
    for name, most in (("int8", 0.2), ("w4a8", 0.7), ("binary", 4.0)):
        lost = top1["float"] - top1[name]
        rows.append(_goal(f"{name} QAT below float, points", _spread(lost), f"<= {most}",
                          lost.mean() <= most))  # fmt: skip
    above = top1["w4a8"] - top1["w4a8_ptq"]
    rows.append(_goal("w4a8 QAT above post-training min/max, points", _spread(above), ">= 3",
                      above.mean() >= 3))  # fmt: skip
    return rows, {n: v.tolist() for n, v in top1.items()}


def peer(cache: Cache, seeds: Sequence[int]) -> tuple[list[list[str]], dict[str, Any]]:
    rows, figures = [], {}
    for name, better in (("int8", False), ("w4a8", True)):
        apart = _top1(cache, seeds, name) - _top1(cache, seeds, f"tfmot/{name}")
        paired = stats.bootstrap_difference(
            _rows_right(cache, seeds, name),
            _rows_right(cache, seeds, f"tfmot/{name}"),
            lambda sums: sums[..., 0] / sums[..., 1],
        )
        interval = f" [{100 * paired.low:+.2f}, {100 * paired.high:+.2f}]"
        reached = paired.low > 0 if better else not paired.significantly_below
        goal = "above 0, significantly" if better else "not significantly below 0"
        what = f"{name} QAT minus tensorflow-model-optimization, points"
        rows.append(_goal(what, _spread(apart) + interval, goal, reached))
        figures[name] = {"difference": apart.tolist(), "low": paired.low, "high": paired.high}
    return rows, figures


def steps(rounds: int) -> tuple[list[list[str]], dict[str, Any]]:
    """Fresh processes in turns; in each, float and int8 in turns."""
    ms: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for worker in ("training", "tfmot"):
            found = _do(worker, {"action": "steps", "rounds": 5, "steps": 20})["ms"]
            for name, values in found.items():
                ms.setdefault(worker, {}).setdefault(name, []).append(float(np.median(values)))
    ratios = {w: stats.ratio_of_medians(v["int8"], v["float"]) for w, v in ms.items()}
    for worker, values in ms.items():
        shown = ", ".join(f"{k} {np.median(v):.1f}" for k, v in values.items())
        print(f"  ms a step of 128 images, {worker}: {shown}", flush=True)
    ours, theirs = ratios["training"], ratios["tfmot"]
    rows = [
        _goal("int8 step / float step", f"{ours:.2f}", "<= 1.6", ours <= 1.6),
        _goal("... of tensorflow-model-optimization", f"{theirs:.2f}", f">= {ours:.2f}",
              ours <= theirs),
    ]  # fmt: skip
    return rows, {"ms": ms, "ratios": ratios}


def pruning(cache: Cache, seeds: Sequence[int], quick: bool) -> tuple[list[list[str]], dict]:
    lost = _top1(cache, seeds, "float") - _top1(cache, seeds, "pruned")
    shares = []
    for seed in seeds:
        job = {"action": "zeros", "out": str(cache.path(seed, "pruned", "tflite"))}
        shares.append(_do("judge", job)["weights"])
    # tfq leaves depthwise kernels alone unless a rule says otherwise.
    pruned = [k for kernels in shares for k in kernels if k[0] != "DEPTHWISE_CONV_2D"]
    least = min(zeros / size for _, size, zeros in pruned)
    exact = all(zeros >= round(0.7 * size) for _, size, zeros in pruned)
    narrow = _top1(cache, seeds, "float") - _top1(cache, seeds, "narrow")
    files = {n: str(cache.path(seeds[0], n, "tflite")) for n in ("int8", "narrow")}
    blocks = 5 if quick else 41
    job = {"action": "interleaved", "files": files, "blocks": blocks, "per_block": 500}
    ms = _do("judge", job)["ms"]
    faster = stats.ratio_of_medians(ms["int8"], ms["narrow"])
    rows = [
        _goal("least share of zeros in a kernel of the int8 file", f"{100 * least:.2f} %",
              "70 % of each", exact),
        _goal("70 % pruned int8 below float, points", _spread(lost), "<= 0.5", lost.mean() <= 0.5),
        _goal("50 % of channels removed: times faster", f"{faster:.2f}", ">= 1.6", faster >= 1.6),
        ["... and int8 below float, points", _spread(narrow), "", ""],
    ]  # fmt: skip
    return rows, {"kernels": shares, "lost": lost.tolist(), "ms": ms, "narrow": narrow.tolist()}


def distillation(cache: Cache, seeds: Sequence[int]) -> tuple[list[list[str]], dict[str, Any]]:
    float_, alone, taught = (_top1(cache, seeds, n) for n in _NEEDS["distillation"])
    lost, regained = float_ - alone, taught - alone
    rows = [
        ["w4a8 QAT alone below float, points", _spread(lost), "", ""],
        _goal("w4a8 QAT distilled above alone, points", _spread(regained), "half of that",
              regained.mean() >= lost.mean() / 2),
    ]  # fmt: skip
    return rows, {"lost": lost.tolist(), "regained": regained.tolist()}


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... (default 3)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="processes a side for the time a step"
    )
    parser.add_argument("--redo", default="", help="contestants to train again, or 'all'")
    flags = harness.start(parser)
    parts = flags.only.split(",")
    unknown = set(parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown parts {sorted(unknown)}; known: {', '.join(PARTS)}")
    task.check_data()
    cache = Cache(flags.quick)
    seeds = range(1 if flags.quick else flags.seeds)
    if flags.redo == "all":
        shutil.rmtree(cache.folder)
        cache = Cache(flags.quick)
    for name in filter(None, flags.redo.split(",")):
        for seed in seeds:
            cache.path(seed, name, "json").unlink(missing_ok=True)
    left = _seconds(cache, seeds, parts)
    if not flags.quick:
        print(f"About {left / 60:.0f} minutes on two quiet cores; {cache.folder} keeps the rest.")
    started = time.perf_counter()
    do: dict[str, Callable[[], tuple[list[list[str]], dict]]] = {
        "accuracy": lambda: accuracy(cache, seeds),
        "peer": lambda: peer(cache, seeds),
        "steps": lambda: steps(1 if flags.quick else flags.rounds),
        "pruning": lambda: pruning(cache, seeds, flags.quick),
        "distillation": lambda: distillation(cache, seeds),
    }
    rows, figures = [], {}
    for part in parts:
        more, figures[part] = do[part]()
        rows += more
    trained = [n for p in parts for n in _NEEDS[p]]
    table = [
        [n, f"{v.mean():.2f}", f"{v.std(ddof=1) if len(v) > 1 else 0:.2f}",
         " ".join(f"{t:.2f}" for t in v)]
        for n in dict.fromkeys(trained)
        for v in [_top1(cache, seeds, n)]
    ]  # fmt: skip
    if table:
        print("\n" + stats.table(["top-1 in LiteRT, %", "mean", "deviation", "seeds"], table))
    print("\n" + stats.table(["", "measured", "goal", ""], rows))
    print(f"\n{(time.perf_counter() - started) / 60:.0f} minutes.")
    harness.write_json(flags, figures)


if __name__ == "__main__":
    main()
