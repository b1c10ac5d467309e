"""The process that runs one model in LiteRT and takes the time: `python -m ... FD`, JSON lines.

It reads a command a line from standard input and answers each with a line on standard output:

    {"do": "load", "model": PATH, "kernels": ..., "threads": N}
        -> {"init_us", "inputs": [...], "outputs": [...], "ops": [...]}
    {"do": "run", "inputs": [PATH, ...], "outputs": [PATH, ...]}  -> {"us", "memory", "shapes"}
    {"do": "warm_up", "seconds": S}  -> {}
    {"do": "measure", "runs": N, "seconds": S}  -> {"us": [...], "preempted": N}

or with {"error": TEXT} for what LiteRT refuses. Tensors are files of raw values, which are read to
where the model takes them: what this process needs beside the model would count as its memory.
Kernels may abort the process: that is why it is one.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfq.children import end_with_parent

# What the binding of LiteRT raises for models and values that it does not take.
_REFUSALS = (RuntimeError, ValueError, TypeError, LookupError, OverflowError, SystemError)


class Worker:
    """One model; a method a command."""

    def __init__(self) -> None:
        self._interpreter: Any = None
        self._before = 0

    def load(self, *, model: str, kernels: str, threads: int) -> dict[str, Any]:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = {
            "xnnpack": OpResolverType.AUTO,
            "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "reference": OpResolverType.BUILTIN_REF,
        }[kernels]
        self._before = _reset_peak()
        start = time.perf_counter_ns()
        self._interpreter = Interpreter(
            model_path=model, experimental_op_resolver_type=resolver, num_threads=threads
        )
        self._interpreter.allocate_tensors()
        taken = time.perf_counter_ns() - start
        ops = [
            {
                "name": op["op_name"],
                "inputs": [int(t) for t in op["inputs"]],
                "outputs": [int(t) for t in op["outputs"]],
            }
            for op in self._interpreter._get_ops_details()
        ]
        ends = {
            "inputs": self._interpreter.get_input_details(),
            "outputs": self._interpreter.get_output_details(),
        }
        described = {
            key: [
                {"name": d["name"], "shape": [int(n) for n in d["shape"]], "dtype": _name(d)}
                for d in details
            ]
            for key, details in ends.items()
        }
        return {"init_us": taken / 1e3, "ops": ops, **described}

    def run(self, *, inputs: list[str], outputs: list[str]) -> dict[str, Any]:
        # States begin as in a fresh interpreter, but for resources, which cannot be set back.
        self._interpreter.reset_all_variables()
        for d, path in zip(self._interpreter.get_input_details(), inputs, strict=True):
            with open(path, "rb", buffering=0) as file:
                file.readinto(self._bytes(d["index"]))
        start = time.perf_counter_ns()
        self._interpreter._interpreter.Invoke()
        taken = time.perf_counter_ns() - start
        memory = max(0, _status("VmHWM") - self._before)
        shapes = []
        for d, path in zip(self._interpreter.get_output_details(), outputs, strict=True):
            view = self._interpreter.tensor(d["index"])()
            shapes.append(list(view.shape))
            view.tofile(path)
        return {"us": taken / 1e3, "memory": memory, "shapes": shapes}

    def _bytes(self, index: int) -> memoryview:
        """The memory of a tensor. To be let go before the model runs."""
        return memoryview(self._interpreter.tensor(index)().reshape(-1).view(np.uint8))

    def warm_up(self, *, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while True:
            self._interpreter._interpreter.Invoke()
            if time.monotonic() > end:
                return {}

    def measure(self, *, runs: int, seconds: float) -> dict[str, Any]:
        invoke = self._interpreter._interpreter.Invoke  # Without Python's checks around it.
        clock = time.perf_counter_ns
        times = []
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        end = clock() + int(seconds * 1e9)
        for _ in range(runs):
            start = clock()
            invoke()
            stop = clock()
            times.append((stop - start) / 1e3)
            if stop > end:
                break
        after = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        return {"us": times, "preempted": after - before}


def _name(detail: Mapping[str, Any]) -> str:
    return np.dtype(detail["dtype"]).name


def _status(key: str) -> int:
    """Bytes, of a line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


def _reset_peak() -> int:
    """Sets the peak of resident memory to what is resident now; returns that, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        return _status("VmHWM")  # Memory taken below the peak of starting Python is not seen.
    return _status("VmRSS")


def main() -> int:
    end_with_parent(int(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # What kernels print is no answer.
    warnings.simplefilter("ignore")
    import ai_edge_litert.interpreter  # noqa: F401  # Its memory is not the model's.

    worker = Worker()
    commands: dict[str, Callable[..., dict[str, Any]]] = {
        "load": worker.load,
        "run": worker.run,
        "warm_up": worker.warm_up,
        "measure": worker.measure,
    }
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = commands[command.pop("do")](**command)
        except (*_REFUSALS, MemoryError) as e:
            answer = {"error": str(e) or type(e).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
