"""An evaluation from its beginning to its report.

    models -> blocks of samples -> scores -> statistics -> layers -> causes -> report

Every block goes to a worker, which runs all models on it (`scoring`); what comes back is small, and
is put together in the order of the samples. So the result does not depend on who worked.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from tfq.data import Block, DataOptions, Decoded, SampleSource, check_name, open_data
from tfq.data.fit import Fitter
from tfq.errors import DataError, UsageError
from tfq.evaluate import account
from tfq.evaluate.batching import in_batches
from tfq.evaluate.behaviour import Steps
from tfq.evaluate.contestants import Field, load_field
from tfq.evaluate.figures import LayerAnalysis
from tfq.evaluate.judge import Finding, judge
from tfq.evaluate.layering import analyse_field
from tfq.evaluate.metrics import (
    Classification,
    Metric,
    Task,
    get_task,
    guess_task,
    load_metric,
    tasks,
)
from tfq.evaluate.samples import misfits, one_by_one, rows_of_a_block, steps_of
from tfq.evaluate.scores import Scores, collect
from tfq.evaluate.scoring import Entrant, Probing, ScoreWork
from tfq.executors import Shard, Workers, open_workers
from tfq.graph.model import Model
from tfq.plan.plan import read_config

Progress = Callable[[str, int, int | None], None]

_LAYER_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found.

    Attributes:
      report: everything as plain data; `tfq/report/schema.json` describes it.
      analyses: the error of every tensor by name of the model.
      findings: causes of error with their remedies by name of the model, the worst first.
    """

    report: Mapping[str, Any]
    analyses: Mapping[str, LayerAnalysis]
    findings: Mapping[str, tuple[Finding, ...]]

    def lines(self) -> list[str]:
        """The report as a person reads it in a terminal."""
        from tfq.report import console

        return console(self.report)

    def save_page(self, path: str | os.PathLike[str]) -> None:
        """Writes the page, one HTML file without anything beside it.

        Raises:
          TfqError: the file cannot be written.
        """
        from tfq.files import write_atomic
        from tfq.report import page

        write_atomic(path, page(self.report))

    def save_json(self, path: str | os.PathLike[str]) -> None:
        """Writes the report as JSON.

        Raises:
          TfqError: the file cannot be written.
        """
        from tfq.files import write_atomic
        from tfq.report import to_json

        write_atomic(path, to_json(self.report))


def evaluate_model(
    models: Any,
    data: Any,
    *,
    reference: Any = None,
    task: str | None = None,
    metrics: str | Sequence[str | Callable[..., Any]] | None = None,
    output: str | None = None,
    scores: str | None = None,
    data_range: float | None = None,
    second_data: Any = None,
    data_options: DataOptions | None = None,
    samples: int | None = None,
    signature: str | None = None,
    layers: bool = True,
    layer_samples: int = 32,
    probes: int = 256,
    workers: int = 1,
    scheduler: str | None = None,
    executor: Executor | None = None,
    seed: int = 0,
    command: str | None = None,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Runs models side by side on labelled data.

    Args:
      models: one model or several: `.tflite` paths or bytes, and any source that `convert_model`
        takes (its float conversion is run).
      data: samples with labels, in any form `tfq.data.open_data` takes. Without labels, outputs
        are compared with the reference's alone.
      reference: the model that the others are compared with; default: the first float one.
      task: "classification", "regression", "image", "embedding", "detection" or "signal"; default:
        what outputs and labels speak for.
      metrics: names that fit the task, functions (labels, outputs) -> number or one a sample, or
        "package.module:callable"; default: the task's.
      output: the output that is measured, where the model has several.
      scores: of a classification, "probabilities" or "logits"; default: what the first block shows.
      data_range: of the task image, the span of the values (1, 2 or 255); default: the same.
      second_data: another set, in the same forms, to see whether the cost is the same there.
      data_options: how images become arrays.
      samples: use at most so many samples.
      signature: which signature of the models.
      layers: whether tensors are compared one by one (needs a float reference).
      layer_samples: about how many samples for that.
      probes: about how many samples are changed a little to see whether answers are stable.
      workers: processes to share the work with.
      scheduler: address of a Dask scheduler to share the work with.
      executor: the same, as an executor (`client.get_executor()`).
      seed: of probes and resampling.
      command: the command line, for the report.
      progress: called with (stage, done, total).

    Raises:
      UsageError: an option is wrong, or a metric does not fit the task.
      ModelError: a model is damaged, or its inputs are not those of the reference.
      DataError: samples or labels do not fit the models.
    """
    counts = (("layer_samples", layer_samples, 1), ("probes", probes, 0), ("seed", seed, 0))
    for name, count, least in counts:
        if isinstance(count, bool) or not isinstance(count, int) or count < least:
            raise UsageError(f"{name} is a whole number from {least} on. Received: {count!r}.")
    if isinstance(metrics, str):
        metrics = [name.strip() for name in metrics.split(",")]
    facts = {"scores": scores, "data_range": data_range}
    known = {k: v for k, v in facts.items() if v is not None}
    _check_names(task, metrics, known)
    for given in (data, second_data):
        check_name(given)
    report = progress or (lambda stage, done, total: None)
    with open_workers(workers, scheduler, executor) as crew:
        run = _Run(crew, report, seed, samples, data_options, known)
        report("Loading models", 0, None)
        field = load_field(
            models, reference, signature=signature, progress=lambda s: report(s, 0, None)
        )
        if output is not None and output not in [o.name for o in field.outputs]:
            names = ", ".join(o.name for o in field.outputs)
            raise UsageError(f"The models have no output {output!r}. Choose among: {names}.")
        run.warnings += field.warnings
        first = run.open(data, field)
        judged = run.prepare(field, first, task, metrics, output)
        found = run.score(first, judged, field, probes, layer_samples if layers else 0)
        second = None
        if second_data is not None:
            other = run.open(second_data, field)
            run.check_second(first, other, judged)
            second = run.score(other, judged, field, 0, 0)
        analyses: dict[str, LayerAnalysis] = {}
        if layers:
            kept = found.samples(layer_samples, seed + 1, _LAYER_BYTES)
            analyses, notes = analyse_field(field, kept, crew, report)
            run.warnings += notes
    made_with = {m.name: read_config(Model.from_bytes(m.model)) for m in field.models}
    findings = {n: judge(analysis, options=made_with[n]) for n, analysis in analyses.items()}
    made = account.make_report(
        field=field,
        task=judged.task,
        measured=judged.metrics,
        output=output,
        sources=(first.source, None if second is None else other.source),
        scores=(found, second),
        analyses=analyses,
        findings=findings,
        seed=seed,
        command=command,
        warnings=run.warnings,
    )
    found.close()
    if second is not None:
        second.close()
    return EvaluationResult(made, analyses, findings)


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A data set, and its first block, which was read to learn from."""

    source: SampleSource
    blocks: Iterator[Block]
    first: Decoded


@dataclasses.dataclass(frozen=True)
class _Judged:
    """What is measured, and how each model is run."""

    entrants: tuple[Entrant, ...]
    task: Task | None
    metrics: tuple[Metric, ...]
    output: str | None
    steps: Steps


class _Run:
    def __init__(
        self,
        crew: Workers,
        progress: Progress,
        seed: int,
        samples: int | None,
        options: DataOptions | None,
        facts: Mapping[str, Any],
    ):
        self.crew = crew
        self.progress = progress
        self.seed = seed
        self.samples = samples
        self.options = options
        self.facts = facts
        self.warnings: list[str] = []

    def open(self, data: Any, field: Field) -> _Opened:
        specs = one_by_one(field.specs)
        source = open_data(data, specs, options=self.options, limit=self.samples)
        if source.synthetic:
            self.warnings.append("Samples are random numbers: nothing here is about accuracy.")
        blocks = source.blocks(rows_of_a_block(specs))
        first = next(blocks)
        return _Opened(source, itertools.chain([first], blocks), first.decode())

    def prepare(
        self,
        field: Field,
        opened: _Opened,
        task: str | None,
        names: Sequence[Any] | None,
        output: str | None,
    ) -> _Judged:
        """Learns from the first block what the outputs mean, and how fast models can be run."""
        self.progress("Trying the models", 0, None)
        batched = Fitter(field.specs).batched
        few = {name: values[:4] for name, values in opened.first.inputs.items()}
        entrants = []
        for m in field.models:
            given = {m.inputs[name]: values for name, values in few.items()}
            entrants.append(
                Entrant(m.name, in_batches(m.model, batched, given), m.inputs, m.outputs)
            )
        some = {name: values[:64] for name, values in opened.first.inputs.items()}
        labels = opened.first.labels
        work = ScoreWork(tuple(entrants), None, (), output, _no_probes(steps_of(field, some)))
        work.start(self.crew.threads if self.crew.count == 1 else 1)
        outputs = work.measured(work.run(0, some))
        fitted = self._task(task, outputs, None if labels is None else labels[:64])
        if fitted is None and self.facts:
            raise UsageError(
                f"{', '.join(self.facts)} say something of a task, and neither labels nor outputs "
                f"say which it is. Choose one: {', '.join(tasks())}."
            )
        chosen = _metrics(fitted, names)
        needy = [m.name for m in chosen if m.needs_labels]
        if labels is None and names and needy:
            raise DataError(
                f"No labels in {opened.source.description}, which {', '.join(needy)} cannot do "
                "without. Give labels ('y' in a .npz, a folder for each class, a CSV)."
            )
        if labels is None:
            chosen = tuple(m for m in chosen if not m.needs_labels)
        self.warnings += misfits(field, opened.first.inputs)
        judged = _Judged(tuple(entrants), fitted, chosen, output, work.probing.steps)
        self.check_labels(opened, judged)
        return judged

    def _task(
        self, name: str | None, outputs: Mapping[str, np.ndarray], labels: Any
    ) -> Task | None:
        if name is None and labels is None:
            self.warnings.append(
                "The data has no labels: outputs are compared with the reference's alone."
            )
            values = next(iter(outputs.values()))
            plain = len(outputs) == 1 and values.ndim == 2 and values.shape[1] > 1
            sums = np.abs(values.sum(axis=-1) - 1).max() if plain else 1.0
            # Without labels, probabilities alone are sure to be those of classes.
            if not plain or sums > 0.02 or values.min() < 0:
                return None
            name = "classification"
        if name is None:
            array = labels if isinstance(labels, np.ndarray) else np.asarray(labels[0])[None]
            name = guess_task(
                {n: v.shape[1:] for n, v in outputs.items()},
                {n: v.dtype for n, v in outputs.items()},
                array.shape[1:],
                array.dtype,
                array,
            )
        return get_task(name, **self.facts).fit(outputs, labels)

    def check_labels(self, opened: _Opened, judged: _Judged) -> None:
        """Class folders must be the model's classes."""
        names = opened.source.class_names
        if names and isinstance(judged.task, Classification):
            judged.task.check_classes(names, judged.task.classes)

    def check_second(self, first: _Opened, other: _Opened, judged: _Judged) -> None:
        """The second data set must label the same classes, if it labels any."""
        self.check_labels(other, judged)
        names, others = first.source.class_names, other.source.class_names
        if names and others and names != others:
            odd = sorted(set(names) ^ set(others))
            raise DataError(
                f"{other.source.name} has other classes than {first.source.name}: "
                f"{', '.join(map(repr, odd[:5]))} in one of them only. Labels would mean "
                "different things: name the classes alike."
            )
        if first.source.has_labels and not other.source.has_labels:
            self.warnings.append(
                f"The second data set, {other.source.name}, has no labels: only its outputs are "
                "compared."
            )

    def score(
        self, opened: _Opened, judged: _Judged, field: Field, probes: int, retained: int
    ) -> Scores:
        total = opened.source.count
        probing = Probing(probes, total, judged.steps, self.seed, retained)
        work = ScoreWork(judged.entrants, judged.task, judged.metrics, judged.output, probing)
        shards = (
            Shard(i, f"samples {b.start} to {b.start + b.rows - 1}", b)
            for i, b in enumerate(opened.blocks)
        )
        stage = f"Running {len(judged.entrants)} models" if len(judged.entrants) > 1 else "Running"
        self.progress(stage, 0, total)
        return collect(
            self.crew.map(work, shards), functools.partial(self._progress_of, stage, total)
        )

    def _progress_of(self, stage: str, total: int | None, done: int) -> None:
        self.progress(stage, done, total)


def _check_names(task: str | None, names: Sequence[Any] | None, facts: Mapping[str, Any]) -> None:
    """Fails before any model is converted for names that fit nothing.

    Raises:
      UsageError: there is no such task, or no such metric of it or of any.
    """
    plain = [n for n in names or () if isinstance(n, str) and ":" not in n]
    for name in names or ():
        if name not in plain:
            load_metric(name)
    if task is not None:
        get_task(task, **facts).require(plain)
        return
    every = {t: get_task(t) for t in tasks()}
    for name in plain:
        if not any(t.has(name) for t in every.values()):
            listed = "; ".join(f"{t}: {', '.join(k.all_metrics)}" for t, k in every.items())
            hint = " Did you mean 'top1'?" if name.lower().startswith("acc") else ""
            raise UsageError(
                f"Unknown metric {name!r}. There are, by task, {listed}; and one's own as "
                f"package.module:callable.{hint}"
            )


def _metrics(task: Task | None, names: Sequence[Any] | None) -> tuple[Metric, ...]:
    """What is measured: the task's metrics by name, and functions of the user's own.

    Raises:
      UsageError: a name fits no metric of the task, or there is no task.
    """
    if names is None:
        return () if task is None else task.metrics()
    found = []
    for name in dict.fromkeys(names):
        if callable(name) or ":" in name:
            found.append(load_metric(name))
        elif task is not None:
            found.append(task.metric(name))
        else:
            raise UsageError(
                f"The metric {name!r} needs a task, and neither labels nor outputs say which. "
                f"Choose one: {', '.join(tasks())}."
            )
    return tuple(found)


def _no_probes(steps: Steps) -> Probing:
    return Probing(0, 0, steps, 0)
