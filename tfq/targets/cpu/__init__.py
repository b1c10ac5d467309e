"""This host's processor: LiteRT with XNNPACK, with its built-in or its reference kernels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from tfq.errors import ModelError, UsageError, unknown_option
from tfq.graph.model import Model
from tfq.runtime import KERNELS
from tfq.targets.cpu.costs import op_costs
from tfq.targets.cpu.host import doubts, fingerprint
from tfq.targets.cpu.placement import place
from tfq.targets.cpu.process import Process
from tfq.targets.measurement import Asked, Evidence, Figure, OpCost
from tfq.targets.placement import Placement
from tfq.targets.target import Target

_WIDE_SPREAD = 0.1
_OFTEN = 0.05


def make(rest: str) -> CpuTarget:
    """The target `cpu`; there is nothing to say behind a colon."""
    if rest:
        raise UsageError(f"The target cpu has no variants. Received: 'cpu:{rest}'.")
    return CpuTarget(name="cpu", title="this host's processor", evidence=Evidence.HOST)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CpuTarget(Target):
    """See the module."""

    def check(self, model: bytes) -> Placement:
        with self.prepare(model, Asked()) as prepared:
            return prepared.placement

    def prepare(self, model: bytes, asked: Asked) -> CpuModel:
        if asked.kernels not in KERNELS:
            raise unknown_option("kernels", asked.kernels, KERNELS)
        if asked.delegate or asked.cpus:
            what = "delegate" if asked.delegate else "cpus"
            raise UsageError(f"The target cpu has no {what} to choose. Leave it out.")
        return CpuModel(model, asked)


class CpuModel:
    """A model that is loaded in a process of its own. See `tfq.targets.target.Prepared`."""

    def __init__(self, model: bytes, asked: Asked) -> None:
        self._model = Model.from_bytes(model)
        if any(t.dtype in ("string", "resource", "variant") for t in self._model.main.inputs):
            raise ModelError("The model takes text or resources, which cannot be made up here.")
        self._asked = asked
        self._fingerprint = fingerprint()
        self._files: list[Path] = []  # Of the last inputs.
        self._times: list[float] = []
        self._first: float | None = None
        self._memory = 0
        self._preempted = 0
        self._process = Process(
            model, kernels=asked.kernels, threads=asked.threads, timeout=asked.timeout
        )
        self._placement = place(self._model, self._process.loaded["ops"], asked.kernels)

    @property
    def placement(self) -> Placement:
        return self._placement

    @property
    def ran(self) -> Mapping[str, str]:
        threads = self._asked.threads
        said = {"threads": str(threads), "kernels": self._asked.kernels}
        if self._asked.kernels == "xnnpack":
            total = len(self._placement.ops)
            said["delegate"] = f"XNNPACK, {self._placement.fast} of {total} ops"
        return said

    @property
    def fingerprint(self) -> Mapping[str, object]:
        return self._fingerprint

    @property
    def warnings(self) -> tuple[str, ...]:
        found = doubts(self._fingerprint, self._asked.threads)
        if self._times:
            steady = Figure.of(self._times, "us", Evidence.HOST)
            if steady.spread > _WIDE_SPREAD:
                found.append(
                    f"runs differ: the middle half spans {steady.spread:.0%} of the median"
                )
            if self._preempted > _OFTEN * len(self._times):
                found.append(
                    f"other work took the processor away {self._preempted} times in "
                    f"{len(self._times)} runs"
                )
        return tuple(found)

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        wanted = self._process.loaded["inputs"]
        if len(inputs) != len(wanted):
            raise UsageError(f"The model has {len(wanted)} inputs. Received: {len(inputs)}.")
        for value, d in zip(inputs, wanted, strict=True):
            if (value.dtype.name, list(value.shape)) != (d["dtype"], d["shape"]):
                raise UsageError(
                    f"The input {d['name']!r} is {d['dtype']} {d['shape']}. "
                    f"Received: {value.dtype.name} {list(value.shape)}."
                )
        folder = self._process.folder
        self._files = [folder / f"input_{i}" for i in range(len(inputs))]
        for value, file in zip(inputs, self._files, strict=True):
            file.write_bytes(np.ascontiguousarray(value).tobytes())
        outputs = self._process.loaded["outputs"]
        results = [folder / f"output_{i}" for i in range(len(outputs))]
        answer = self._process.ask(
            "run", inputs=[*map(str, self._files)], outputs=[*map(str, results)]
        )
        if self._first is None:
            self._first = answer["us"]
        self._memory = max(self._memory, answer["memory"])
        return [
            np.fromfile(file, d["dtype"]).reshape(shape)
            for file, shape, d in zip(results, answer["shapes"], outputs, strict=True)
        ]

    def warm_up(self) -> None:
        seconds = self._asked.warmup_seconds
        self._process.ask("warm_up", wait=seconds, seconds=seconds)

    def measure(self, runs: int, seconds: float) -> int:
        answer = self._process.ask("measure", wait=seconds, runs=runs, seconds=seconds)
        self._times += answer["us"]
        self._preempted += answer["preempted"]
        return len(answer["us"])

    def figures(self) -> Mapping[str, Figure]:
        found = {"init": Figure.of([self._process.loaded["init_us"]], "us", Evidence.HOST)}
        if self._first is not None:
            found["first"] = Figure.of([self._first], "us", Evidence.HOST)
            found["memory"] = Figure.of([self._memory], "bytes", Evidence.HOST)
        if self._times:
            found["steady"] = Figure.of(self._times, "us", Evidence.HOST)
        return found

    def op_costs(self) -> tuple[OpCost, ...]:
        steady = self.figures()["steady"].median if self._times else 0.0
        files = [*map(str, self._files)]
        return op_costs(self._process, files, self._placement, self._model, self._asked, steady)

    def close(self) -> None:
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
