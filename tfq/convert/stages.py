"""The stages of a conversion, timed: each takes what the ones before it gave.

`tfq.convert.convert_model` says in which order.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfq.calibrate.run import calibrate
from tfq.calibrate.statistics import Statistics
from tfq.convert.labels import Labels, attach_labels
from tfq.convert.quality import TRIED, Quality
from tfq.convert.refusals import check_trained, refused, untrained, without_samples
from tfq.convert.samples import PROOF, Samples
from tfq.convert.summary import make_summary
from tfq.data import DataOptions, open_data, split
from tfq.data.synthetic import TRAINED, UNCALIBRATED
from tfq.equalize import has_changes, unchanged, with_changes
from tfq.errors import DataError, ModelError, TfqError, UsageError
from tfq.executors import Workers
from tfq.graph.check import UnresolvedOpError, check_runs, run_in_child
from tfq.graph.interface import read_interface
from tfq.graph.metadata import metadata_warnings
from tfq.graph.model import Model
from tfq.improve import Context, Improvement, Outcome, improve
from tfq.improve.cost import Cost, Speed, announcement
from tfq.improve.evidence import record
from tfq.improve.trials import affordable, multiplications
from tfq.plan import patterns
from tfq.plan.layout import Layout
from tfq.plan.plan import Plan, check_replay
from tfq.plan.scheme import Config
from tfq.quantize.candidate import Candidate, build, lay_out
from tfq.quantize.emit import emit
from tfq.rewrite.prepare import Prepared, prepare
from tfq.rewrite.split_output import split_outputs, splittable
from tfq.rewrite.trained_ranges import with_clamps
from tfq.sources import Cache, Source, load_source
from tfq.verify.accuracy import Accuracy, measure_accuracy
from tfq.verify.advice import Advice
from tfq.verify.input_range import grids_of, input_warnings
from tfq.verify.proof import Proof, check_full_integer, prove
from tfq.verify.same_model import same_model

Progress = Callable[[str, int, int | None], None]


class Run:
    """The stages, timed."""

    def __init__(self, config: Config, progress: Progress, workers: Workers):
        self.config = config
        self.workers = workers
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self.calibration = 0.0  # Seconds of the run over all samples; 0 where there was none.
        self.warnings: list[str] = []
        self.notes: dict[str, str] = {}
        self.batch = 1  # As asked for.
        self.outcomes: tuple[Outcome, ...] = ()

    def _timed(self, stage: str, start: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    @property
    def integer(self) -> bool:
        return self.config.scheme.compute == "integer"

    def source(
        self,
        source: Any,
        signature: str | None,
        batch: int,
        allow_code: bool,
        cache: Cache | None,
    ) -> Source:
        start = time.perf_counter()
        self.batch = batch
        self.progress("Loading the model", 0, None)
        loaded = load_source(
            source,
            signature=signature,
            batch=batch,
            allow_code=allow_code,
            cache=cache,
            progress=lambda stage: self.progress(stage, 0, None),
        )
        self.warnings += [*loaded.warnings, *filter(None, [loaded.unkept])]
        self._timed("source", start)
        return loaded

    def split(self, loaded: Source, plan: Plan | None) -> Source:
        """Parts of outputs as outputs of their own, where asked for now or when a plan was made."""
        names = self.config.split_output
        if plan is not None:
            names = names or tuple(map(str, plan.config.get("split_output") or ()))
        if not names:
            return loaded
        model = split_outputs(loaded.model, names, loaded.signature)
        return dataclasses.replace(loaded, model=model)

    def prepare(self, loaded: Source) -> Prepared:
        start = time.perf_counter()
        self.progress("Rewriting the graph", 0, None)
        activations = self.config.scheme.activations if self.integer else "int8"
        prepared = prepare(loaded.model, integer=self.integer, activations=activations)
        self._check_custom(prepared)
        if loaded.kind == "tflite" and prepared.single_steps:
            self.warnings.append(
                f"The recurrent layer at {prepared.single_steps[0]!r} runs a single step. In the "
                "source file its state goes on from one run to the next; in the result it starts "
                "at zero in every run. If runs follow one another, make the state an input and an "
                "output of the model."
            )
        self._timed("prepare", start)
        return prepared

    def _check_custom(self, prepared: Prepared) -> None:
        """Stops before a model with custom ops that would stay float, unless LiteRT has them."""
        custom = sorted(
            {op.label for g in prepared.model.graphs for op in g.ops if op.name == "CUSTOM"}
        )
        if not custom or (self.integer and not set(custom) <= set(self.config.allow_float)):
            return  # None, or planning names all that stand in the way.
        try:
            # Those that LiteRT has may answer what is damaged by ending the process.
            run_in_child(prepared.bytes, where="the model")
        except UnresolvedOpError:
            raise ModelError(
                f"LiteRT cannot run {', '.join(custom)}, so nothing could be proven of the result. "
                "Replace custom and Flex ops by builtin ones in the model, or convert the part "
                "before them."
            ) from None

    def resolve(
        self, loaded: Source, prepared: Prepared, allowed: Sequence[str], excluded: Sequence[str]
    ) -> None:
        """Binds what the user named to the graph; what is not there is said."""
        graph, layers = prepared.model.main, loaded.layer_names
        self.config = patterns.resolve(self.config, graph, layers)
        patterns.check_rules(graph, self.config.rules, excluded, layers)
        self.warnings += patterns.unused_allowances(graph, allowed, layers)

    def lay_out(self, loaded: Source, prepared: Prepared, plan: Plan | None) -> Layout | None:
        """Kernels and shared grids; None where nothing computes in integers, or a plan says all."""
        if not self.integer or (plan is not None and not prepared.trained.grids):
            return None
        layout = lay_out(prepared, self.config)
        if plan is None:
            check_trained(prepared, layout, self.config, loaded.layer_names)
        return layout

    def open(
        self,
        data: Any,
        loaded: Source,
        prepared: Prepared,
        layout: Layout | None,
        options: DataOptions | None,
        samples: int | None,
        *,
        needed: bool,
    ) -> Samples:
        """The samples.

        Args:
          needed: whether calibration needs any that training did not make needless.
        """
        interface = read_interface(prepared.model, loaded.signature, self.batch)
        if data is None and loaded.representative_data is not None:
            data = loaded.representative_data
        if data is None:
            grids = prepared.trained.grids
            trained = bool(grids) and layout is not None and not layout.sources
            if layout is not None and needed and not trained:
                if grids:
                    raise untrained(loaded, layout)
                raise without_samples(self.config)
            said = TRAINED if trained else UNCALIBRATED
            return Samples.random(interface, grids, said)
        stream = open_data(data, interface.inputs, options=options, limit=samples)
        if stream.synthetic and self.integer:
            self.warnings.append(
                "not calibrated: ranges come from random numbers, so accuracy is meaningless."
            )
        return Samples(stream, interface)

    def calibrate(
        self,
        prepared: Prepared,
        layout: Layout | None,
        data: Samples,
        statistics: Statistics | str | os.PathLike[str] | None,
        *,
        histograms: bool,
    ) -> Statistics | None:
        start = time.perf_counter()
        initial = None
        if statistics is not None:
            loaded = statistics if isinstance(statistics, Statistics) else None
            initial = loaded or Statistics.load(statistics)  # type: ignore[arg-type]
            initial.check_model(prepared.bytes)
        observed = set() if layout is None else layout.observed
        if not observed or (initial is not None and data.stream.synthetic):
            # A replayed plan reads all there is: it keeps what the first run kept.
            data.keep(few=not self.integer)
            self._timed("calibrate", start)
            return initial
        full = histograms or self.config.calibration.needs_histogram
        mode = initial.mode if initial is not None else ("full" if full else "minmax")
        total = data.stream.count
        began = time.perf_counter()
        result = calibrate(
            prepared.bytes,
            data.for_calibration(),
            tensors=set(initial) if initial is not None else observed,
            mode=mode,
            workers=self.workers,
            progress=lambda done: self.progress("Calibrating", done, total),
            initial=initial,
        )
        self.calibration = time.perf_counter() - began
        self._timed("calibrate", start)
        return result

    def build(
        self, prepared: Prepared, layout: Layout | None, statistics: Statistics | None
    ) -> Candidate:
        """The plan and the model, before any improvement."""
        start = time.perf_counter()
        self.progress("Planning", 0, None)
        candidate = build(prepared, layout, statistics, self.config)
        try:
            self._check_runs(candidate)
        except ModelError as e:
            graph = candidate.emitted.model.main
            raise TfqError(refused(str(e), candidate.plan, graph)) from None
        self._timed("build", start)
        return candidate

    def replay(self, prepared: Prepared, plan: Plan) -> Candidate:
        """The model that a plan of an earlier run says."""
        start = time.perf_counter()
        self.progress("Emitting", 0, None)
        names = {op.key for op in prepared.model.main.ops}
        if plan.improvements and plan.sha256 != plan.improved_sha256:
            self.notes["plan"] = (
                "edited since it was made; what its record says of improvements is left out"
            )
            plan = plan.with_improvements(())
        if has_changes(plan):
            check_replay(plan, "", names)
            prepared = with_changes(prepared, plan)
        check_replay(plan, prepared.sha256, names)
        try:
            emitted = emit(prepared.model, plan)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
            if isinstance(e, TfqError):
                raise
            raise UsageError(
                f"The plan contradicts itself or the model ({type(e).__name__}: {e}). Undo the "
                "last edit, or make a new plan with --plan_out."
            ) from None
        candidate = Candidate(prepared, None, None, self.config, plan, emitted)
        try:
            self._check_runs(candidate)
        except ModelError as e:
            raise UsageError(
                f"The plan's model does not run: {str(e).partition('. Export or')[0]}. "
                "Undo the last edit, or make a new plan with --plan_out."
            ) from None
        self._timed("build", start)
        return candidate

    def _check_runs(self, candidate: Candidate) -> None:
        if self.integer:
            # In a process that may die of it: kernels answer absurd scales by ending the process.
            check_runs(candidate.bytes, where="the integer model")

    def note_idle(self, asked: Mapping[str, object], prepared: Prepared, data: Samples) -> None:
        """Warns of options that were given, but that nothing can come of."""
        why = ""
        if not self.integer:
            why = f"scheme={self.config.scheme.name} computes in float"
        elif data.stream.synthetic:
            why = "there are no real samples to judge by"
        elif prepared.trained.grids:
            why = "the model was trained with its quantizers, and is left as it is"
        # What is done wherever it is possible needs no judge.
        always = ("cross_layer",) if prepared.trained.grids else ()
        self.warnings += [
            f"{name}={value} has no effect: {why}."
            for name, value in asked.items()
            if why and value in (*TRIED, *always)
        ]

    def note_left_out(self, wanted: Sequence[Improvement], tried: Sequence[Improvement]) -> None:
        """Says which improvements are not tried for want of samples to judge them by.

        Args:
          wanted: what would be tried with samples.
          tried: what is.
        """
        left = [i.name for i in wanted if i.name not in {t.name for t in tried}]
        if left:
            self.notes["left_out"] = (
                f"{', '.join(left)}: there are no real samples to judge by; give --data"
            )

    def improve(
        self,
        candidate: Candidate,
        improvements: Sequence[Improvement],
        data: Samples,
        quality: Quality,
    ) -> Candidate:
        """Goes through the improvements; what became of them is in `outcomes`."""
        if not improvements or candidate.statistics is None:
            return candidate
        ordinary = [
            [s for s in samples if candidate.plan.spans(s)] for samples in (data.fit, data.check)
        ]
        graph, mode = candidate.prepared.model.main, candidate.statistics.mode
        fit, check = affordable(graph, ordinary[0], ordinary[1], quality.pass_budget)
        kept = [*data.fit, *data.check]

        def measure(prepared: Prepared, tensors: Collection[str]) -> Statistics:
            again = (data.by_tensor(s) for s, back in split(data.stream, PROOF) if not back)
            return calibrate(
                prepared.bytes,
                again if data.stream.repeatable else kept,
                tensors=tensors,
                mode=mode,
                workers=self.workers,
                progress=lambda done: self.progress("Calibrating again", done, data.runs),
            )

        context = Context(fit, check, measure, quality.budget, self.progress)
        self._announce(candidate, improvements, context, data.runs)
        candidate, self.outcomes = improve(candidate, improvements, context)
        for outcome in self.outcomes:
            self.seconds[outcome.name] = outcome.seconds
        if not self.outcomes:
            return candidate
        return candidate.replanned(candidate.plan.with_improvements(record(self.outcomes)))

    def _announce(
        self,
        candidate: Candidate,
        improvements: Sequence[Improvement],
        context: Context,
        runs: int,
    ) -> None:
        """Says what the improvements take at most, before they begin."""
        cost = sum((i.cost(candidate, context) for i in improvements), Cost())
        speed = Speed(
            build=self.seconds["build"],
            calibration=self.calibration,
            sample=self.calibration * self.workers.count / max(runs, 1),
            multiplications=multiplications(candidate.prepared.model.main),
        )
        self.progress(announcement(cost, speed.seconds(cost, len(context.check))), 0, None)

    def write(
        self,
        candidate: Candidate,
        loaded: Source,
        labels: Labels | None,
        options: DataOptions | None,
    ) -> bytes:
        start = time.perf_counter()
        if self.integer:
            check_full_integer(candidate.emitted, candidate.plan)
        emitted = candidate.emitted.model
        if labels is not None:
            name = Path(loaded.path).stem if loaded.path else "model"
            emitted, self.notes["labels"], warnings = attach_labels(
                emitted, labels, name, candidate.plan, options
            )
            self.warnings += warnings
        self.warnings += metadata_warnings(emitted)
        model = emitted.to_bytes()
        self._timed("write", start)
        return model

    def prove(self, loaded: Source, prepared: Prepared, model: bytes, data: Samples) -> Proof:
        start = time.perf_counter()
        samples = data.unseen or data.check or data.fit
        if not samples:
            raise DataError("There is no sample to prove the model with. Give at least one.")
        if not prepared.trained.grids:
            # Trained quantizers were taken out: the source rounds where the prepared one does not.
            same_model(loaded.model, unchanged(prepared), samples[:2])
        proof = prove(
            with_clamps(unchanged(prepared), prepared.trained.grids),
            model,
            samples,
            held_back=bool(data.unseen),
            progress=lambda done, total: self.progress("Proving", done, total),
        )
        trained = {n: g.range() for n, g in prepared.trained.grids.items()}
        if not data.stream.synthetic:
            self.warnings += input_warnings(
                loaded.model,
                [*data.unseen, *data.fit][:PROOF],
                {**trained, **grids_of(model)},
                {a.tensor_name: a.name for a in data.interface.inputs},
            )
        self._timed("prove", start)
        return dataclasses.replace(proof, samples=data.proven)

    def accuracy(self, prepared: Prepared, model: bytes, data: Samples) -> Accuracy | None:
        if not data.stream.has_labels:
            return None
        if not data.stream.repeatable:
            self.notes["accuracy"] = "not measured: labelled samples that can be read only once"
            return None
        start = time.perf_counter()
        total = data.stream.count
        accuracy = measure_accuracy(
            with_clamps(unchanged(prepared), prepared.trained.grids),
            model,
            ((data.by_tensor(s), s) for s in data.stream),
            data.interface.outputs,
            batched=data.interface.batched,
            progress=lambda done: self.progress("Measuring accuracy", done, total),
        )
        if accuracy is None:
            self.notes["accuracy"] = (
                "not measured: it takes one output with a score for each class, and labels from 0 "
                "to classes - 1, one a sample (y/OUTPUT, if the model has several outputs); "
                "tfq evaluate measures other labels"
            )
        self._timed("accuracy", start)
        return accuracy

    def summary(
        self,
        loaded: Source,
        candidate: Candidate,
        model: bytes,
        data: Samples,
        proof: Proof,
        accuracy: Accuracy | None,
    ) -> dict[str, Any]:
        if not data.made_up:
            names = {a.tensor_name: a.name for a in data.interface.outputs}
            self.warnings += Advice(
                proof,
                candidate.prepared.model.main,
                names,
                loaded.layer_names,
                self.config,
                splittable(Model.from_bytes(loaded.model), loaded.signature),
            ).warnings()
        return make_summary(
            config=candidate.config,
            source=loaded,
            prepared=candidate.prepared,
            plan=candidate.plan,
            emitted=candidate.emitted.model,
            model=model,
            data=data.stream,
            calibrated=data.calibrated,
            outcomes=self.outcomes,
            proof=proof,
            accuracy=accuracy,
            seconds=self.seconds,
            warnings=self.warnings,
            notes=self.notes,
        )
