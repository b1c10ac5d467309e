"""An evaluation from its beginning to its report.

    models -> blocks of samples -> scores -> statistics -> layers -> causes -> report

Every block goes to a worker, which runs all models on it (`block_work`); what comes back is small,
and is put together in the order of the samples. So the result does not depend on who worked.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from typing import Any

from tfq.data import Block, DataOptions, Decoded, SampleSource, check_data, open_data
from tfq.data.fit import Fitter
from tfq.errors import DataError, UsageError
from tfq.evaluate import report_data
from tfq.evaluate.batching import in_batches
from tfq.evaluate.behaviour import Steps
from tfq.evaluate.block_work import BlockWork, ProbeSettings, WorkerModel
from tfq.evaluate.causes import Finding, find_causes
from tfq.evaluate.dataset_scores import DatasetScores, collect
from tfq.evaluate.figures import LayerAnalysis
from tfq.evaluate.layers.analyse_models import analyse_models
from tfq.evaluate.metrics import Classification
from tfq.evaluate.models import Comparison, load_models
from tfq.evaluate.request import Metrics, Request, make_request, make_scorers
from tfq.evaluate.samples import misfits, one_by_one, rows_of_a_block, steps_of
from tfq.evaluate.scorer import Scorer
from tfq.executors import Shard, Workers, open_workers
from tfq.graph.model import Model
from tfq.plan.config_record import read_config
from tfq.plan.evidence import read_evidence
from tfq.sources import open_cache

Progress = Callable[[str, int, int | None], None]

_LAYER_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found.

    Attributes:
      report: everything as plain data; `tfq/report/schema.json` describes it.
      analyses: the error of every tensor by name of the model.
      findings: causes of error with their remedies by name of the model, the worst first.
      cached: names of the models whose float conversion was made by an earlier run.
    """

    report: Mapping[str, Any]
    analyses: Mapping[str, LayerAnalysis]
    findings: Mapping[str, tuple[Finding, ...]]
    cached: tuple[str, ...] = ()

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
    task: str | Mapping[str, str] | None = None,
    metrics: Metrics = None,
    output: str | None = None,
    scores: str | None = None,
    data_range: float | None = None,
    ignore_index: int | None = None,
    second_data: Any = None,
    data_options: DataOptions | None = None,
    samples: int | None = None,
    signature: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    allow_code: bool = False,
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
      task: "classification", "segmentation", "regression", "image", "embedding", "detection" or
        "signal"; where several outputs have labels, a dict of these by output; default: what
        outputs and labels speak for.
      metrics: names that fit the task, functions (labels, outputs) -> number or one a sample, or
        "package.module:callable"; or a dict of them by output; default: the task's.
      output: the output that is measured, where the model has several and the labels do not say
        whose they are.
      scores: of a classification or a segmentation by one score, "probabilities" or "logits";
        default: what the first block shows.
      data_range: of the task image, the span of the values (1, 2 or 255); default: the same.
      ignore_index: of a segmentation, the label of pixels that do not count; default: 255, unless
        that is a class.
      second_data: another set, in the same forms, to see whether the cost is the same there.
      data_options: how images become arrays.
      samples: use at most so many samples.
      signature: which signature of the models.
      cache: the folder where float conversions of files are kept for the next time, or "none";
        default: tfq in $XDG_CACHE_HOME or ~/.cache.
      allow_code: run code that model files contain, instead of refusing them; only for files that
        you trust.
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
      ModelError: a model is damaged or holds code, or its inputs are not those of the reference.
      DataError: samples or labels do not fit the models.
    """
    counts = (("layer_samples", layer_samples, 1), ("probes", probes, 0), ("seed", seed, 0))
    for name, count, least in counts:
        if isinstance(count, bool) or not isinstance(count, int) or count < least:
            raise UsageError(f"{name} is a whole number from {least} on. Received: {count!r}.")
    facts = {"scores": scores, "data_range": data_range, "ignore_index": ignore_index}
    asked = make_request(task, metrics, output, facts)
    for given in (data, second_data):
        if given is not None:
            check_data(given, options=data_options, limit=samples)
    conversions = open_cache(cache)
    report = progress or (lambda stage, done, total: None)
    with open_workers(workers, scheduler, executor) as crew:
        run = _Run(crew, report, seed, samples, data_options)
        report("Loading models", 0, None)
        comparison = load_models(
            models,
            reference,
            signature=signature,
            cache=conversions,
            allow_code=allow_code,
            progress=lambda s: report(s, 0, None),
        )
        run.warnings += comparison.warnings
        tried = {m.name: read_evidence(Model.from_bytes(m.file)) for m in comparison.models}
        first = run.open(data, comparison)
        setup = run.prepare(comparison, first, asked)
        found = run.score(first, setup, comparison, probes, layer_samples if layers else 0)
        second = None
        if second_data is not None:
            other = run.open(second_data, comparison)
            run.check_second(first, other, setup)
            second = run.score(other, setup, comparison, 0, 0)
        analyses: dict[str, LayerAnalysis] = {}
        if layers:
            kept = found.samples(layer_samples, seed + 1, _LAYER_BYTES)
            analyses, notes = analyse_models(comparison, kept, crew, report)
            run.warnings += notes
    made_with = {m.name: read_config(Model.from_bytes(m.model)) for m in comparison.models}
    named = {m.name: {t: name for name, t in m.outputs.items()} for m in comparison.models}
    findings = {
        n: find_causes(
            analysis,
            options={**made_with[n], "improvements": {e.name: e.kept for e in tried[n] if e.tried}},
            outputs=named[n],
        )
        for n, analysis in analyses.items()
    }
    made = report_data.make_report(
        comparison=comparison,
        scorers=setup.scorers,
        sources=(first.source, None if second is None else other.source),
        scores=(found, second),
        analyses=analyses,
        findings=findings,
        improvements=tried,
        seed=seed,
        command=command,
        warnings=run.warnings,
    )
    found.close()
    if second is not None:
        second.close()
    return EvaluationResult(
        made, analyses, findings, tuple(m.name for m in comparison.models if m.cached)
    )


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A data set, and its first block, which was read to learn from."""

    source: SampleSource
    blocks: Iterator[Block]
    first: Decoded


@dataclasses.dataclass(frozen=True)
class _Setup:
    """What is measured, and how each model is run."""

    models: tuple[WorkerModel, ...]
    scorers: tuple[Scorer, ...]
    steps: Steps


class _Run:
    def __init__(
        self,
        crew: Workers,
        progress: Progress,
        seed: int,
        samples: int | None,
        options: DataOptions | None,
    ):
        self.crew = crew
        self.progress = progress
        self.seed = seed
        self.samples = samples
        self.options = options
        self.warnings: list[str] = []

    def open(self, data: Any, comparison: Comparison) -> _Opened:
        specs = one_by_one(comparison.specs)
        source = open_data(data, specs, options=self.options, limit=self.samples)
        if source.synthetic:
            self.warnings.append("Samples are random numbers: nothing here is about accuracy.")
        blocks = source.blocks(rows_of_a_block(specs))
        first = next(blocks)
        return _Opened(source, itertools.chain([first], blocks), first.decode())

    def prepare(self, comparison: Comparison, opened: _Opened, asked: Request) -> _Setup:
        """Learns from the first block what the outputs mean, and how fast models can be run."""
        self.progress("Trying the models", 0, None)
        batched = Fitter(comparison.specs).batched
        few = {name: values[:4] for name, values in opened.first.inputs.items()}
        models = []
        for m in comparison.models:
            given = {m.inputs[name]: values for name, values in few.items()}
            models.append(
                WorkerModel(m.name, in_batches(m.model, batched, given), m.inputs, m.outputs)
            )
        some = {name: values[:64] for name, values in opened.first.inputs.items()}
        labels = opened.first.labels
        work = BlockWork(tuple(models), (), _no_probes(steps_of(comparison, some)))
        work.start(self.crew.threads if self.crew.count == 1 else 1)
        scorers, warnings = make_scorers(
            asked,
            work.run(0, some),
            comparison.outputs,
            None if labels is None else labels[:64],
            opened.source.description,
        )
        self.warnings += warnings
        self.warnings += misfits(comparison, opened.first.inputs)
        setup = _Setup(tuple(models), scorers, work.probing.steps)
        self.check_labels(opened, setup)
        return setup

    def check_labels(self, opened: _Opened, setup: _Setup) -> None:
        """Class folders must be the model's classes."""
        names = opened.source.class_names
        for scorer in setup.scorers:
            if names and isinstance(scorer.task, Classification):
                scorer.task.check_classes(names, scorer.task.classes)

    def check_second(self, first: _Opened, other: _Opened, setup: _Setup) -> None:
        """The second data set must label the same classes, if it labels any."""
        self.check_labels(other, setup)
        names, others = first.source.class_names, other.source.class_names
        if names and others and names != others:
            odd = sorted(set(names) ^ set(others))
            raise DataError(
                f"{other.source.name} has other classes than {first.source.name}: "
                f"{', '.join(map(repr, odd[:5]))} in one of them only. Labels would mean "
                "different things: name the classes alike."
            )
        fields = [_fields(o.first.labels) for o in (first, other)]
        if other.source.has_labels and first.source.has_labels and fields[0] != fields[1]:
            raise DataError(
                f"{other.source.name} has labels for {_listed(fields[1])} and {first.source.name} "
                f"for {_listed(fields[0])}. Give both data sets labels for the same outputs."
            )
        if first.source.has_labels and not other.source.has_labels:
            self.warnings.append(
                f"The second data set, {other.source.name}, has no labels: only its outputs are "
                "compared."
            )

    def score(
        self, opened: _Opened, setup: _Setup, comparison: Comparison, probes: int, retained: int
    ) -> DatasetScores:
        total = opened.source.count
        probing = ProbeSettings(probes, total, setup.steps, self.seed, retained)
        work = BlockWork(setup.models, setup.scorers, probing)
        shards = (
            Shard(i, f"samples {b.start} to {b.start + b.rows - 1}", b)
            for i, b in enumerate(opened.blocks)
        )
        stage = f"Running {len(setup.models)} models" if len(setup.models) > 1 else "Running"
        self.progress(stage, 0, total)
        return collect(
            self.crew.map(work, shards), functools.partial(self._progress_of, stage, total)
        )

    def _progress_of(self, stage: str, total: int | None, done: int) -> None:
        self.progress(stage, done, total)


def _fields(labels: Any) -> set[str]:
    """The outputs that labels name; none where they are one output's."""
    return set() if labels is None else set(labels[0].dtype.names or ())


def _listed(fields: set[str]) -> str:
    return ", ".join(map(repr, sorted(fields))) or "one output"


def _no_probes(steps: Steps) -> ProbeSettings:
    return ProbeSettings(0, 0, steps, 0)
