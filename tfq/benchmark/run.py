"""Measures models on targets, one beside the other."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tfq.benchmark.inputs import differences, random_inputs
from tfq.benchmark.loading import Candidate, load
from tfq.errors import ModelError, TfqError, UsageError
from tfq.files import write_atomic
from tfq.targets import Asked, Difference, Measurement, OpCost, Prepared, Target, get_target

Progress = Callable[[str, int, int | None], None]

_ROUNDS = 10
_SAMPLES = 3  # That outputs are compared on.


@dataclasses.dataclass(frozen=True)
class BenchmarkResult:
    """What was measured: every model on every target, targets in the order asked for."""

    measurements: tuple[Measurement, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain data, as `tfq/targets/schema.json` describes it."""
        return {
            "format": "tfq-benchmark",
            "version": 1,
            "measurements": [m.as_json() for m in self.measurements],
        }

    def save_json(self, path: str | os.PathLike[str]) -> None:
        """Writes `as_json` to `path`, all or nothing.

        Raises:
          TfqError: the file cannot be written.
        """
        text = json.dumps(self.as_json(), indent=1, allow_nan=False)
        write_atomic(path, text.encode("ascii") + b"\n")

    def lines(self) -> list[str]:
        """What the command prints."""
        from tfq.benchmark.console import console

        return console(self.measurements)


@dataclasses.dataclass
class _Lane:
    """One model on one target, ready to run."""

    candidate: Candidate
    target: Target
    prepared: Prepared
    samples: list[list[np.ndarray]]
    outputs: list[list[np.ndarray]] = dataclasses.field(default_factory=list)
    left: int = 0  # Runs.
    seconds: float = 0.0  # Measured so far.

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Says of errors which model they are about, and where it ran."""
        with _named(self.candidate, self.target):
            yield


def benchmark_model(
    models: Any,
    target: str | Target | Sequence[str | Target] = "cpu",
    *,
    data: Any = None,
    scheme: str = "int8",
    threads: int = 1,
    kernels: str = "xnnpack",
    runs: int = 200,
    seconds: float = 10.0,
    signature: str | None = None,
    allow_code: bool = False,
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> BenchmarkResult:
    """Runs models side by side, in rounds that go from one to the next, and takes the time.

    Args:
      models: one or several: `.tflite` paths or bytes, measured as they are; or sources as
        `convert_model` takes them, which are converted first, with the float model beside.
      target: where: "cpu", "package.module:TARGET", a `tfq.targets.Target`, or several.
      data, scheme, signature, allow_code, cache: of conversions, as for `convert_model`. Without
        data a SavedModel's own is taken, or random samples, which are enough for timing.
      threads: CPU threads.
      kernels: "xnnpack", "builtin" or "reference".
      runs: of each model, over all rounds.
      seconds: at most about so long for each model.
      progress: called with (stage, done, total).

    Raises:
      UsageError: an option is wrong, or a target is not to be had here.
      ModelError: a model is damaged, refused by a target, or fails or hangs there.
    """
    asked = Asked(threads=threads, kernels=kernels, runs=runs, seconds=seconds)
    _check(asked)
    tell = progress or (lambda stage, done, total: None)
    given = [target] if isinstance(target, str | Target) else target
    targets = [get_target(t) for t in given]
    if not targets:
        raise UsageError("There is no target to measure on. Give at least one.")
    for t in targets:
        if t.evidence is None:
            raise UsageError(f"The target {t.name} only holds models: nothing is measured on it.")
    candidates = load(
        models,
        data=data,
        scheme=scheme,
        signature=signature,
        allow_code=allow_code,
        cache=cache,
        progress=progress,
    )
    samples = {c.name: _samples(c) for c in candidates}
    with contextlib.ExitStack() as stack:
        lanes: list[_Lane] = []
        for t in targets:
            for c in candidates:
                tell("Preparing", len(lanes), len(targets) * len(candidates))
                with _named(c, t):
                    prepared = stack.enter_context(t.prepare(c.content, asked))
                lanes.append(_Lane(c, t, prepared, samples[c.name], left=runs))
        for done, lane in enumerate(lanes):
            tell("Running", done, len(lanes))
            with lane.named():
                lane.outputs = [lane.prepared.run(s) for s in lane.samples]
        reference = {c.name: _reference(c, samples[c.name], tell) for c in candidates}
        _measure(lanes, asked, tell)
        return BenchmarkResult(tuple(_finish(lane, asked, reference) for lane in lanes))


def _check(asked: Asked) -> None:
    for name in ("threads", "runs"):
        value = getattr(asked, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{name} must be a positive whole number. Received: {value!r}.")
    if not isinstance(asked.seconds, int | float) or not 0 < asked.seconds < float("inf"):
        raise UsageError(f"seconds must be a positive number. Received: {asked.seconds!r}.")


@contextlib.contextmanager
def _named(candidate: Candidate, target: Target) -> Iterator[None]:
    try:
        yield
    except ModelError as e:
        raise ModelError(f"{candidate.name} on {target.name}: {e}") from None


def _samples(candidate: Candidate) -> list[list[np.ndarray]]:
    try:
        return random_inputs(candidate.model, _SAMPLES)
    except ModelError as e:
        raise ModelError(f"{candidate.name}: {e}") from None


def _reference(
    candidate: Candidate, samples: list[list[np.ndarray]], tell: Progress
) -> list[list[np.ndarray]] | str:
    """The outputs of the reference kernels on this host, or why there are none."""
    tell("Reference kernels", 0, None)
    try:
        with get_target("cpu").prepare(candidate.content, Asked(kernels="reference")) as prepared:
            return [prepared.run(s) for s in samples]
    except ModelError as e:
        return str(e)


def _measure(lanes: Sequence[_Lane], asked: Asked, tell: Progress) -> None:
    """Warms every model up, then goes round: each round measures a part of every model's runs."""
    for done, lane in enumerate(lanes):
        tell("Warming up", done, len(lanes))
        with lane.named():
            lane.prepared.warm_up()
    for number in range(_ROUNDS):
        tell("Measuring", number, _ROUNDS)
        for lane in lanes:
            left = asked.seconds - lane.seconds
            if lane.left > 0 and left > 0:
                part = -(-lane.left // (_ROUNDS - number))
                start = time.monotonic()
                with lane.named():
                    lane.prepared.measure(part, min(left, asked.seconds / _ROUNDS))
                lane.left -= part
                lane.seconds += time.monotonic() - start


def _finish(
    lane: _Lane, asked: Asked, reference: dict[str, list[list[np.ndarray]] | str]
) -> Measurement:
    c, p = lane.candidate, lane.prepared
    truth = reference[c.name]
    warnings = [*c.warnings, *p.warnings]
    apart: tuple[Difference, ...] = ()
    if isinstance(truth, str):
        warnings.append(f"the outputs were not compared with the reference kernels': {truth}")
    else:
        apart = differences(c.model, lane.outputs, truth)
    ops: tuple[OpCost, ...] = ()
    if asked.per_op:
        try:
            with lane.named():
                ops = p.op_costs()
        except TfqError as e:
            warnings.append(f"the ops' own times are missing: {e}")
    return Measurement(
        model=c.name,
        sha256=hashlib.sha256(c.content).hexdigest(),
        size=len(c.content),
        target=lane.target.name,
        asked=asked,
        ran=p.ran,
        placement=p.placement,
        figures=p.figures(),
        ops=ops,
        differences=apart,
        fingerprint=p.fingerprint,
        warnings=tuple(dict.fromkeys(warnings)),
    )
