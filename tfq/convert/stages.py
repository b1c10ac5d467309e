"""The stages of a conversion, timed: each takes what the ones before it gave.

`tfq.convert.convert_model` says in which order.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfq.calibrate.run import calibrate
from tfq.calibrate.statistics import Statistics
from tfq.convert.refusals import check_trained, refused, untrained, without_samples
from tfq.convert.samples import PROOF, Samples
from tfq.convert.summary import make_summary
from tfq.data import DataOptions, open_data, split
from tfq.data.synthetic import TRAINED, UNCALIBRATED
from tfq.equalize import Equalization, imbalances, rescale_prepared
from tfq.errors import DataError, ModelError, TfqError, UsageError
from tfq.executors import Workers
from tfq.graph.check import UnresolvedOpError, check_runs, run_in_child
from tfq.graph.interface import read_interface
from tfq.graph.model import Model
from tfq.plan import patterns
from tfq.plan.float_schemes import plan_float
from tfq.plan.layout import Layout, make_layout
from tfq.plan.plan import Plan, check_replay
from tfq.plan.planner import make_plan
from tfq.plan.scheme import Config
from tfq.quantize.bias import (
    Correction,
    affordable,
    correct_biases,
    drop_idle_biases,
)
from tfq.quantize.emit import Emitted, emit
from tfq.quantize.output_errors import output_errors
from tfq.rewrite.prepare import Prepared, prepare
from tfq.rewrite.split_output import split_outputs, splittable
from tfq.rewrite.trained_ranges import with_clamps
from tfq.sources import Cache, Source, load_source
from tfq.trial import judge_change
from tfq.verify.accuracy import Accuracy, measure_accuracy
from tfq.verify.advice import Advice
from tfq.verify.input_range import grids_of, input_warnings
from tfq.verify.proof import Proof, check_full_integer, prove
from tfq.verify.same_model import same_model

if TYPE_CHECKING:
    import numpy as np

Progress = Callable[[str, int, int | None], None]

_TOO_FEW = "too few samples to keep one to judge it by"


class Run:
    """The stages, timed."""

    def __init__(self, config: Config, progress: Progress, workers: Workers):
        self.config = config
        self.workers = workers
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []
        self.notes: dict[str, str] = {}
        self.batch = 1  # As asked for.
        self.equalization: Equalization | None = None

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
        if self.integer:
            check_trained(prepared, self.config, layers)
        self.warnings += patterns.unused_allowances(graph, allowed, layers)

    def open(
        self,
        data: Any,
        loaded: Source,
        prepared: Prepared,
        options: DataOptions | None,
        samples: int | None,
        plan: Plan | None,
        statistics: object,
    ) -> Samples:
        interface = read_interface(prepared.model, loaded.signature, self.batch)
        if data is None and loaded.representative_data is not None:
            data = loaded.representative_data
        if data is None:
            trained = self.integer and self._all_trained(prepared)
            if self.integer and plan is None and statistics is None and not trained:
                if prepared.trained.grids:
                    raise untrained(loaded, self._layout(prepared))
                raise without_samples(self.config)
            said = TRAINED if trained else UNCALIBRATED
            return Samples.random(interface, prepared.trained.grids, said)
        stream = open_data(data, interface.inputs, options=options, limit=samples)
        if stream.synthetic and self.integer:
            self.warnings.append(
                "not calibrated: ranges come from random numbers, so accuracy is meaningless."
            )
        return Samples(stream, interface)

    def _all_trained(self, prepared: Prepared) -> bool:
        return bool(prepared.trained.grids) and not self._layout(prepared).sources

    def _layout(self, prepared: Prepared) -> Layout:
        grids, left = prepared.trained.grids, dict(prepared.left)
        return make_layout(prepared.model.main, self.config, grids, left)

    def calibrate(
        self,
        prepared: Prepared,
        data: Samples,
        statistics: Statistics | str | os.PathLike[str] | None,
        plan: Plan | None,
        keep_histograms: bool,
    ) -> Statistics | None:
        start = time.perf_counter()
        initial = None
        if statistics is not None:
            loaded = statistics if isinstance(statistics, Statistics) else None
            initial = loaded or Statistics.load(statistics)  # type: ignore[arg-type]
            initial.check_model(prepared.bytes)
        planned = not self.integer or plan is not None
        observed = set() if planned else self._layout(prepared).observed
        if not observed or (initial is not None and data.stream.synthetic):
            # A replayed plan reads all there is: it keeps what the first run kept.
            data.keep(few=not self.integer)
            self._timed("calibrate", start)
            return initial
        full = keep_histograms or self.config.calibration.needs_histogram
        mode = initial.mode if initial is not None else ("full" if full else "minmax")
        total = data.stream.count
        result = calibrate(
            prepared.bytes,
            data.for_calibration(),
            tensors=set(initial) if initial is not None else observed,
            mode=mode,
            workers=self.workers,
            progress=lambda done: self.progress("Calibrating", done, total),
            initial=initial,
        )
        self._timed("calibrate", start)
        return result

    def plan(self, prepared: Prepared, stats: Statistics | None, given: Plan | None) -> Plan:
        start = time.perf_counter()
        graph, sha = prepared.model.main, prepared.sha256
        if given is not None:
            check_replay(given, sha, {op.key for op in graph.ops})
            return given
        self.progress("Planning", 0, None)
        if self.integer:
            grids = prepared.trained.grids
            plan = make_plan(
                graph, self._layout(prepared), stats, self.config, grids, model_sha256=sha
            )
        else:
            plan = plan_float(graph, self.config, model_sha256=sha)
        self._timed("plan", start)
        return plan

    def emit(self, prepared: Prepared, plan: Plan, *, replayed: bool) -> Emitted:
        start = time.perf_counter()
        self.progress("Emitting", 0, None)
        try:
            emitted = emit(prepared.model, plan, spare_biases=True)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
            if not replayed or isinstance(e, TfqError):
                raise
            raise UsageError(
                f"The plan contradicts itself or the model ({type(e).__name__}: {e}). Undo the "
                "last edit, or make a new plan with --plan_out."
            ) from None
        if self.integer:
            # In a process that may die of it: kernels answer absurd scales by ending the process.
            try:
                check_runs(emitted.model.to_bytes(), where="the integer model")
            except ModelError as e:
                if replayed:
                    raise UsageError(
                        f"The plan's model does not run: {str(e).partition('. Export or')[0]}. "
                        "Undo the last edit, or make a new plan with --plan_out."
                    ) from None
                raise TfqError(refused(str(e), plan, emitted.model.main)) from None
        self._timed("emit", start)
        return emitted

    def _affordable(
        self, prepared: Prepared, plan: Plan, data: Samples
    ) -> tuple[Sequence[Mapping[str, np.ndarray]], Sequence[Mapping[str, np.ndarray]]]:
        """Samples to compute corrections from, and others to judge them on."""
        ordinary = [[s for s in samples if plan.spans(s)] for samples in (data.fit, data.check)]
        return affordable(prepared.model.main, *ordinary)

    def replay_equalization(self, prepared: Prepared, plan: Plan | None) -> Prepared:
        if plan is None or not plan.equalization:
            return prepared
        check_replay(plan, "", {op.key for op in prepared.model.main.ops})
        self.equalization = Equalization(len(plan.equalization))
        return rescale_prepared(prepared, plan.equalization)

    def equalize(
        self,
        prepared: Prepared,
        plan: Plan,
        emitted: Emitted,
        stats: Statistics | None,
        data: Samples,
        *,
        fresh: bool,
    ) -> tuple[Prepared, Plan, Emitted]:
        """What to go on with: the same again, or all three with channels equalized.

        Args:
          fresh: whether all statistics are of this run's samples, so that there can be others.
        """
        always = self.config.equalization == "cross_layer"
        wanted = self.config.equalization != "none" and not prepared.trained.grids
        if not wanted or stats is None:
            return prepared, plan, emitted
        if not fresh:
            self.notes["equalization"] = "not tried: the statistics given are of the model as it is"
        if not fresh or (data.stream.synthetic and not always):
            return prepared, plan, emitted
        start, before = time.perf_counter(), sum(self.seconds.values())
        fit, check = self._affordable(prepared, plan, data)
        found = None
        scales = imbalances(
            prepared,
            fit,
            dtypes=self._layout(prepared).dtypes,
            per_tensor=lambda op: self.config.granularity_of(op.name, op.key) == "per_tensor",
            weight_bits=lambda op: self.config.weight_bits_of(op.key),
            every=always,
            progress=lambda done, total: self.progress("Measuring channels", done, total),
        )
        if scales:
            try:
                found = self._equalized(prepared, scales, stats, data)
            except TfqError:
                if always:
                    raise
        if found is not None:
            kept = always
            self.equalization = Equalization(len(scales) if kept else 0)
            if check:
                was, now = (
                    output_errors(p.model, p.bytes, e, check)
                    for p, e in ((prepared, emitted), (found[0], found[2]))
                )
                verdict = judge_change(was, now)
                kept |= verdict.kept
                self.equalization = Equalization(len(scales) if kept else 0, verdict.changes)
            else:
                self.notes["equalization"] = f"its effect not measured: {_TOO_FEW}"
            if kept:
                prepared, plan, emitted = found
        # The stages it went through again have counted their own time.
        inside = sum(self.seconds.values()) - before
        self._timed("equalize", start + inside)
        return prepared, plan, emitted

    def _equalized(
        self,
        prepared: Prepared,
        scales: Mapping[str, tuple[float, ...]],
        stats: Statistics,
        data: Samples,
    ) -> tuple[Prepared, Plan, Emitted]:
        """The same stages once more, of the rescaled model."""
        start = time.perf_counter()
        rescaled = rescale_prepared(prepared, scales)
        kept = iter([*data.fit, *data.check])
        again = (data.by_tensor(s) for s, back in split(data.stream, PROOF) if not back)
        other = calibrate(
            rescaled.bytes,
            again if data.stream.repeatable else kept,
            tensors=set(stats),
            mode=stats.mode,
            workers=self.workers,
            progress=lambda done: self.progress("Calibrating equalized channels", done, data.runs),
        )
        self._timed("calibrate", start)
        plan = dataclasses.replace(self.plan(rescaled, other, None), equalization=scales)
        return rescaled, plan, self.emit(rescaled, plan, replayed=False)

    def correct(
        self, prepared: Prepared, plan: Plan, emitted: Emitted, how: str, data: Samples
    ) -> Correction | None:
        # What was trained with its quantizers has learned to live with them: nothing is moved.
        if how == "none" or not self.integer or data.stream.synthetic or prepared.trained.grids:
            return None
        start = time.perf_counter()
        fit, check = self._affordable(prepared, plan, data)
        if not check:
            self.notes["bias_correction"] = f"not corrected: {_TOO_FEW}"
        correction = correct_biases(
            prepared.model,
            prepared.bytes,
            emitted,
            fit,
            check,
            progress=lambda done, total: self.progress("Correcting biases", done, total),
        )
        self._timed("bias_correction", start)
        return correction

    def write(self, emitted: Emitted, plan: Plan) -> bytes:
        start = time.perf_counter()
        if self.integer:
            drop_idle_biases(emitted)
            check_full_integer(emitted, plan)
        model = emitted.model.to_bytes()
        self._timed("write", start)
        return model

    def prove(self, loaded: Source, prepared: Prepared, model: bytes, data: Samples) -> Proof:
        start = time.perf_counter()
        samples = data.unseen or data.check or data.fit
        if not samples:
            raise DataError("There is no sample to prove the model with. Give at least one.")
        if not prepared.trained.grids:
            # Trained quantizers were taken out: the source rounds where the prepared one does not.
            same_model(loaded.model, prepared.bytes, samples[:2])
        proof = prove(
            with_clamps(prepared.bytes, prepared.trained.grids),
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
            with_clamps(prepared.bytes, prepared.trained.grids),
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
        prepared: Prepared,
        plan: Plan,
        emitted: Emitted,
        model: bytes,
        data: Samples,
        correction: Correction | None,
        proof: Proof,
        accuracy: Accuracy | None,
    ) -> dict[str, Any]:
        if not data.made_up:
            names = {a.tensor_name: a.name for a in data.interface.outputs}
            self.warnings += Advice(
                proof,
                prepared.model.main,
                names,
                loaded.layer_names,
                self.config,
                splittable(Model.from_bytes(loaded.model), loaded.signature),
            ).warnings()
        return make_summary(
            config=self.config,
            source=loaded,
            prepared=prepared,
            plan=plan,
            emitted=emitted.model,
            model=model,
            data=data.stream,
            calibrated=data.calibrated,
            equalization=self.equalization,
            correction=correction,
            proof=proof,
            accuracy=accuracy,
            seconds=self.seconds,
            warnings=self.warnings,
            notes=self.notes,
        )
