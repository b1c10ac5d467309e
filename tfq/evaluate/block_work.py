"""What is done with a block of samples: every model runs it, and little is kept of the outputs.

One work for all models, so that a block is decoded once and outputs meet those of the reference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfq.data import Block
from tfq.errors import DataError
from tfq.evaluate.batching import Evaluated, Runnable
from tfq.evaluate.behaviour import PROBES, Steps, changed, chosen, distance
from tfq.evaluate.metrics import Classification, Labels
from tfq.evaluate.scorer import Outputs, Scorer
from tfq.parts import ChannelSums


@dataclasses.dataclass(frozen=True)
class WorkerModel:
    """A model as workers need it.

    Attributes:
      name: in messages.
      runnable: what is run.
      inputs, outputs: the reference's argument names -> this model's tensor names.
    """

    name: str
    runnable: Runnable
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class ProbeSettings:
    """Which samples are probed, and how.

    Attributes:
      limit: about how many samples; 0: none.
      total: samples of the data set, or None if unknown.
      steps: sizes of the changes.
      seed: of the noise and of the choice.
      retained: about how many samples are handed back for the analysis of layers.
    """

    limit: int
    total: int | None
    steps: Steps
    seed: int
    retained: int = 0


@dataclasses.dataclass
class Distance:
    """How far an output is from the reference's: sums that add up over blocks.

    Attributes:
      error, power: sum of (y - r)^2 and of r^2.
      absolute, largest: sum and maximum of |y - r|.
      cosine: sum over samples of the cosine between y and r.
      values, samples: how many.
      channels: the same by channel, for parts that differ in range; None for integers.
    """

    error: float = 0.0
    power: float = 0.0
    absolute: float = 0.0
    largest: float = 0.0
    cosine: float = 0.0
    values: int = 0
    samples: int = 0
    channels: ChannelSums | None = None

    @staticmethod
    def between(reference: np.ndarray, other: np.ndarray) -> Distance:
        r = reference.reshape(len(reference), -1).astype(np.float64)
        y = other.reshape(len(other), -1).astype(np.float64)
        off = np.abs(y - r)
        norms = np.sqrt(np.sum(r * r, axis=1) * np.sum(y * y, axis=1))
        dots = np.sum(r * y, axis=1)
        same = np.all(r == y, axis=1)  # Two zero vectors point the same way.
        cosine = np.where(same, 1.0, dots / np.maximum(norms, 1e-300))
        channels = None
        if reference.dtype.kind == "f" and reference.shape == other.shape:
            channels = ChannelSums(reference.shape)
            channels.add(reference, other)
        return Distance(
            float(np.sum(off * off)),
            float(np.sum(r * r)),
            float(off.sum()),
            float(off.max(initial=0.0)),
            float(cosine.sum()),
            off.size,
            len(off),
            channels,
        )

    def add(self, other: Distance) -> None:
        if self.channels is None:
            self.channels = other.channels
        elif other.channels is not None:
            self.channels.merge(other.channels)
        for field in dataclasses.fields(self)[:-1]:
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            both = max(mine, theirs) if field.name == "largest" else mine + theirs
            setattr(self, field.name, both)


@dataclasses.dataclass
class ProbeEffect:
    """What a probe did to one model: sums that add up over blocks.

    Attributes:
      samples: how many were probed.
      flips: sum of the shares of answers that changed; 0 where outputs hold none.
      moved: sum of |dy| / |y|.
      rough: sum of |dy| / |dx|.
    """

    samples: int = 0
    flips: float = 0.0
    moved: float = 0.0
    rough: float = 0.0

    def add(self, other: ProbeEffect) -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


@dataclasses.dataclass(frozen=True)
class BlockScores:
    """What one scorer found in a block.

    Attributes:
      kept: (model's number, `Metric.kept_as`) -> what the metric keeps.
      answers: of a classifier, model's number -> int32 [n].
      labels: class numbers [n] of a classifier, or None.
      confidences: of a classifier, model's number -> float32 [n].
      probe_effects: (model's number, probe) -> what it did.
    """

    kept: Mapping[tuple[int, str], Mapping[str, np.ndarray]]
    answers: Mapping[int, np.ndarray]
    labels: np.ndarray | None
    confidences: Mapping[int, np.ndarray]
    probe_effects: Mapping[tuple[int, str], ProbeEffect]


@dataclasses.dataclass(frozen=True)
class BlockResult:
    """The result of one block.

    Attributes:
      rows: samples.
      scored: what each scorer found.
      distances: (model's number, output) -> distance from the reference.
      retained: numbers and inputs of samples for the analysis of layers.
    """

    rows: int
    scored: tuple[BlockScores, ...]
    distances: Mapping[tuple[int, str], Distance]
    retained: list[tuple[int, dict[str, np.ndarray]]]


class BlockWork:
    """Scores blocks; picklable, and keeps its interpreters where it works.

    Args:
      models: the models, the reference first.
      scorers: what is measured; the models are run once for all.
      probing: which samples are probed.
    """

    def __init__(
        self, models: tuple[WorkerModel, ...], scorers: tuple[Scorer, ...], probing: ProbeSettings
    ):
        self.models = models
        self.scorers = scorers
        self.probing = probing
        self._running: list[Evaluated] = []
        self._threads = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_running": [], "_threads": 0}

    def __call__(self, block: Block, threads: int) -> BlockResult:
        self.start(threads)
        decoded = block.decode()
        samples = decoded.inputs
        every = [self.run(i, samples) for i in range(len(self.models))]
        distances = {
            (i, name): Distance.between(every[0][name], value)
            for i in range(1, len(every))
            for name, value in every[i].items()
        }
        probe_effects, retained = self._probe(block, samples, every)
        scored = tuple(
            _scored(scorer, every, decoded.labels, block.start, moved)
            for scorer, moved in zip(self.scorers, probe_effects, strict=True)
        )
        return BlockResult(block.rows, scored, distances, retained)

    def start(self, threads: int) -> None:
        """Makes the interpreters, if they are not there yet."""
        if not self._running or threads != self._threads:
            self._running = [Evaluated(e.runnable, threads) for e in self.models]
            self._threads = threads

    def run(self, model: int, samples: Mapping[str, np.ndarray]) -> Outputs:
        """Argument name -> real values [n, ...], in and out."""
        runner = self.models[model]
        given = {runner.inputs[name]: value for name, value in samples.items()}
        found = self._running[model](given)
        outputs = {name: found[tensor] for name, tensor in runner.outputs.items()}
        if model == 0:
            _require_finite(outputs, runner.name)
        return outputs

    def _probe(
        self, block: Block, samples: Mapping[str, np.ndarray], before: list[Outputs]
    ) -> tuple[list[dict[tuple[int, str], ProbeEffect]], list[tuple[int, dict[str, np.ndarray]]]]:
        p = self.probing
        at = chosen(block.start, block.rows, p.total, p.limit, p.seed)
        few = {name: values[at] for name, values in samples.items()}
        probe_effects: list[dict[tuple[int, str], ProbeEffect]] = [{} for _ in self.scorers]
        for probe in PROBES if len(at) else ():
            asked = [s for s in self.scorers if s.task is None or s.task.probed(probe.name)]
            if (probe.images and not p.steps.images) or not asked:
                continue
            moved = changed(probe, few, block.start + at, p.steps, p.seed)
            given = _distances(few, moved)
            for i in range(len(self.models)):
                after = self.run(i, moved)
                old = {name: values[at] for name, values in before[i].items()}
                for scorer, found in zip(self.scorers, probe_effects, strict=True):
                    if scorer in asked:
                        found[i, probe.name] = _stirred(scorer, old, after, given)
        keep = chosen(block.start, block.rows, p.total, p.retained, p.seed + 1)
        retained = [
            (block.start + int(k), {name: values[k].copy() for name, values in samples.items()})
            for k in keep
        ]
        return probe_effects, retained


def _scored(
    scorer: Scorer,
    every: list[Outputs],
    labels: Labels,
    start: int,
    probe_effects: dict[tuple[int, str], ProbeEffect],
) -> BlockScores:
    """What a scorer finds in the outputs of all models."""
    task = scorer.task
    own = scorer.labels(labels, start)
    measured = [scorer.outputs(outputs) for outputs in every]
    checked = None
    answers: dict[int, np.ndarray] = {}
    confidences: dict[int, np.ndarray] = {}
    kept: dict[tuple[int, str], Mapping[str, np.ndarray]] = {}
    read: list[Mapping[str, np.ndarray]] = []
    for i, outputs in enumerate(measured):
        if task is not None:
            with scorer.naming():
                found = task.check(outputs, own, start)
            checked = found if i == 0 else checked
        read.append(outputs if task is None else task.read(outputs, checked))
        for metric in scorer.metrics:
            place = (i, metric.kept_as or metric.name)
            if place in kept or (metric.needs_labels and checked is None):
                continue
            form = measured if metric.raw else read
            kept[place] = metric.keep(form[i], checked, form[0])
        if isinstance(task, Classification):
            answers[i] = task.answers(outputs)
            confidences[i] = task.confidences(outputs)
    classes = checked if isinstance(task, Classification) else None
    return BlockScores(kept, answers, classes, confidences, probe_effects)


def _stirred(scorer: Scorer, before: Outputs, after: Outputs, given: np.ndarray) -> ProbeEffect:
    before, after = scorer.outputs(before), scorer.outputs(after)
    y = np.concatenate([v.reshape(len(v), -1) for v in before.values()], axis=1)
    z = np.concatenate([v.reshape(len(v), -1) for v in after.values()], axis=1)
    off = distance(y, z)
    # How strongly the output moves for the input's move: a local Lipschitz estimate.
    rough = off / np.maximum(given, 1e-30)
    size = np.sqrt(np.sum(np.square(y, dtype=np.float64), axis=1))
    flipped = None if scorer.task is None else scorer.task.flipped(before, after)
    return ProbeEffect(
        len(y),
        0.0 if flipped is None else float(np.sum(flipped)),
        float(np.sum(off / np.maximum(size, 1e-30))),
        float(np.sum(rough)),
    )


def _distances(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> np.ndarray:
    """|dx| of every sample over all inputs, [n]."""
    squares = [distance(x, after[name]) ** 2 for name, x in before.items()]
    return np.sqrt(np.sum(squares, axis=0))


def _require_finite(outputs: Outputs, model: str) -> None:
    for name, values in outputs.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise DataError(
                f"The output {name!r} of {model}, the reference, is NaN or infinite on some "
                "samples. Check their values and preprocessing; the reference itself fails on them."
            )
