"""Times of single ops by LiteRT's own profiler: `python -m ... JSON`, in a process of its own.

No Python interface of LiteRT reads a profile, so its C functions are called, with structures as
version 2.3 has them: the caller compares the version (`VERSION`) before.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfq.children import end_with_parent

# Of ai-edge-litert: what this was written for, and tested with.
VERSION = "2.3."

KERNEL_MODES = {"xnnpack": 0, "reference": 1, "builtin": 2}  # LiteRtCpuKernelMode.
DELEGATED, BUILT_IN = 8, 2  # Kinds of events; one of kind 1 tagged Invoke begins a run.
_INVOKE = (1, b"Invoke")
_CPU = 1  # LiteRtHwAcceleratorSet
_WRITE = 1  # LiteRtTensorBufferLockMode
_RANKED_TYPE_BYTES = 512  # More than LiteRtRankedTensorType takes.

_Handle = ctypes.c_void_p


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_size_t * 6),
        ("op", ctypes.c_uint64),
        ("graph", ctypes.c_uint64),
        ("source", ctypes.c_int),
    )


class _Model:
    """A model compiled with profiling on, with its buffers; it lives as long as the process."""

    def __init__(self, path: str, inputs: Sequence[str], threads: int, kernels: str) -> None:
        import ai_edge_litert

        folder = Path(ai_edge_litert.__file__).parent
        self._lib = ctypes.CDLL(str(folder / "libLiteRt.so"))
        self._kept: list[Any] = []
        env = self._new("LiteRtCreateEnvironment", 0, None)
        self._model = self._new("LiteRtCreateModelFromFile", env, path.encode())
        options = self._new("LiteRtCreateOptions")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, _CPU)
        self._add(options, "runtime_options_string", "enable_profiling = true\n")
        mode = KERNEL_MODES[kernels]
        self._add(options, "xnnpack", f"num_threads = {threads}\nkernel_mode = {mode}\n")
        self._compiled = self._new("LiteRtCreateCompiledModel", env, self._model, options)
        self._graph = self._new("LiteRtGetModelSubgraph", self._model, ctypes.c_size_t(0))
        self._inputs = self._buffers("Input", env)
        self._outputs = self._buffers("Output", env)
        for buffer, file in zip(self._inputs, inputs, strict=True):
            values = Path(file).read_bytes()
            memory = _Handle()
            self._call("LiteRtLockTensorBuffer", _Handle(buffer), ctypes.byref(memory), _WRITE)
            ctypes.memmove(memory, values, len(values))
            self._call("LiteRtUnlockTensorBuffer", _Handle(buffer))
        self._profiler = self._new("LiteRtCompiledModelGetProfiler", self._compiled)

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._lib, name)
        function.restype = ctypes.c_int
        status = function(*arguments)
        if status:
            raise RuntimeError(f"{name} failed with status {status}")

    def _new(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """What a function gives through its last argument."""
        handle = _Handle()
        self._call(name, *arguments, ctypes.byref(handle))
        return handle

    def _add(self, options: ctypes.c_void_p, name: str, toml: str) -> None:
        payload = ctypes.create_string_buffer(toml.encode("ascii"))
        destroy = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
        self._kept += [payload, destroy]
        added = self._new(
            "LiteRtCreateOpaqueOptions", name.encode(), ctypes.cast(payload, _Handle), destroy
        )
        self._call("LiteRtAddOpaqueOptions", options, added)

    def _buffers(self, kind: str, env: ctypes.c_void_p) -> ctypes.Array[ctypes.c_void_p]:
        count = ctypes.c_size_t()
        self._call(f"LiteRtGetNumSubgraph{kind}s", self._graph, ctypes.byref(count))
        made = []
        for i in range(count.value):
            index = ctypes.c_size_t(i)
            tensor = self._new(f"LiteRtGetSubgraph{kind}", self._graph, index)
            ranked = ctypes.create_string_buffer(_RANKED_TYPE_BYTES)
            self._call("LiteRtGetRankedTensorType", tensor, ranked)
            for at in range(8, 40, 4):  # Eight dimensions; open ones become 1.
                dimension = ctypes.c_int32.from_buffer(ranked, at)
                dimension.value = dimension.value if dimension.value >= 0 else 1
            wanted = self._new(
                f"LiteRtGetCompiledModel{kind}BufferRequirements",
                self._compiled,
                ctypes.c_size_t(0),
                index,
            )
            made.append(
                self._new("LiteRtCreateManagedTensorBufferFromRequirements", env, ranked, wanted)
            )
        return (_Handle * len(made))(*made)

    def run(self) -> None:
        self._call(
            "LiteRtRunCompiledModel",
            self._compiled,
            ctypes.c_size_t(0),
            ctypes.c_size_t(len(self._inputs)),
            self._inputs,
            ctypes.c_size_t(len(self._outputs)),
            self._outputs,
        )

    def profile(self, runs: int) -> list[list[_Event]]:
        """The ops' events of each of so many runs, in the order in which they ran."""
        self._call("LiteRtResetProfiler", self._profiler)
        self._call("LiteRtStartProfiler", self._profiler)
        for _ in range(runs):
            self.run()
        self._call("LiteRtStopProfiler", self._profiler)
        count = ctypes.c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(count))
        events = (_Event * count.value)()
        self._call("LiteRtGetProfilerEvents", self._profiler, count, events)
        found: list[list[_Event]] = []
        for e in events:
            if (e.kind, e.tag) == _INVOKE:
                found.append([])
            elif e.kind in (DELEGATED, BUILT_IN) and found:
                found[-1].append(e)
        return found


def _keys(run: Sequence[_Event]) -> list[tuple[int, str, int]]:
    return [(e.kind, e.tag.decode("utf-8", "replace"), e.op) for e in run]


def profile(
    model: str, inputs: Sequence[str], threads: int, kernels: str, batches: int, seconds: float
) -> dict[str, Any]:
    """Each op's microseconds as means over batches of runs: the profiler counts whole ones.

    Returns:
      "events": (kind, tag, number) of each op in the order of running; "us": for each batch, the
      means of them.
    """
    ready = _Model(model, inputs, threads, kernels)
    end = time.monotonic() + seconds
    for _ in range(3):
        ready.run()
    keys = _keys(ready.profile(1)[0])
    runs = max(1, min(20, 2000 // max(1, len(keys))))
    means: list[list[float]] = []
    while len(means) < batches and (not means or time.monotonic() < end):
        found = ready.profile(runs)
        if len(found) != runs or any(_keys(run) != keys for run in found):
            raise RuntimeError("the profile has other ops in some runs than in others")
        means.append([sum(run[i].elapsed_us for run in found) / runs for i in range(len(keys))])
    return {"events": keys, "us": means}


def main() -> int:
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # What LiteRT prints is no answer.
    try:
        answer = profile(**json.loads(sys.argv[1]))
    except (RuntimeError, AttributeError, OSError, ValueError) as e:
        answer = {"error": f"{type(e).__name__}: {e}"}
    answers.write(json.dumps(answer))
    answers.flush()
    os._exit(0)  # LiteRT's objects are not taken down one by one.


if __name__ == "__main__":
    sys.exit(main())
