"""The stages of a conversion, timed: each takes what the ones before it gave.

`tfq.convert.convert_model` says in which order.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfq.calibrate.run import calibrate
from tfq.calibrate.statistics import Statistics
from tfq.data import (
    DataOptions,
    RetainedSamples,
    Sample,
    SampleSource,
    open_data,
    split,
    synthetic,
)
from tfq.errors import DataError, ModelError, TfqError, UsageError
from tfq.graph.check import check_runs
from tfq.graph.interface import Interface, read_interface
from tfq.plan import patterns
from tfq.plan.layout import Layout, make_layout
from tfq.plan.patterns import short_name
from tfq.plan.plan import Plan, check_replay
from tfq.plan.planner import make_plan
from tfq.plan.scheme import Config
from tfq.plan.storage import plan_float
from tfq.quantize.bias import Correction, affordable, correct_biases, drop_idle_biases
from tfq.quantize.emit import Emitted, emit
from tfq.rewrite.prepare import Prepared, prepare
from tfq.runtime import Runner
from tfq.sources import Source, load_source
from tfq.summary import make_summary
from tfq.verify.accuracy import Accuracy, measure_accuracy
from tfq.verify.proof import Proof, check_full_integer, prove, same_model

if TYPE_CHECKING:
    import numpy as np

Progress = Callable[[str, int, int | None], None]

# Samples kept for bias correction and proof: as many as say something, as few as memory allows.
_RETAINED = 256
_PROOF = 32

# A sample that reaches so many times beyond its input's grid is not what the grid was made for.
_ABSURD = 2.0


@dataclasses.dataclass
class Samples:
    """The representative data of a run: the stream, and what is kept of it."""

    stream: SampleSource
    interface: Interface
    tensor_names: Mapping[str, str]
    fit: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    check: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    unseen: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    seen: int = 0
    made_up: bool = False  # Random ones, because the scheme, plan or statistics need none.

    def by_tensor(self, sample: Sample) -> dict[str, np.ndarray]:
        return {self.tensor_names[n]: v for n, v in sample.inputs.items()}


class Run:
    """The stages, timed."""

    def __init__(self, config: Config, progress: Progress):
        self.config = config
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []
        self.notes: dict[str, str] = {}

    def _timed(self, stage: str, start: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    @property
    def integer(self) -> bool:
        return self.config.scheme.compute == "integer"

    def source(self, source: Any, signature: str | None, batch: int) -> Source:
        start = time.perf_counter()
        self.progress("Loading the model", 0, None)
        loaded = load_source(
            source,
            signature=signature,
            batch=batch,
            progress=lambda stage: self.progress(stage, 0, None),
        )
        self.warnings += loaded.warnings
        self._timed("source", start)
        return loaded

    def prepare(self, loaded: Source) -> Prepared:
        start = time.perf_counter()
        self.progress("Rewriting the graph", 0, None)
        activations = self.config.scheme.activations if self.integer else "int8"
        prepared = prepare(loaded.model, integer=self.integer, activations=activations)
        self._check_custom(prepared)
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
            Runner(prepared.bytes)
        except ModelError:
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
        interface = read_interface(prepared.model, loaded.signature)
        if data is None and loaded.representative_data is not None:
            data = loaded.representative_data
        if data is None:
            trained = self.integer and self._all_trained(prepared)
            if self.integer and plan is None and statistics is None and not trained:
                raise UsageError(
                    f"Scheme {self.config.scheme.name} needs representative samples to choose "
                    "ranges, and the model carries none. Give some with --data=FILE, or use "
                    "--scheme=dynamic, which needs none, or say --data=synthetic for ranges from "
                    "random numbers (not calibrated: fit for timing only)."
                )
            stream = synthetic(interface.inputs, count=4)
        else:
            stream = open_data(data, interface.inputs, options=options, limit=samples)
            if stream.synthetic and self.integer:
                self.warnings.append(
                    "not calibrated: ranges come from random numbers, so accuracy is meaningless."
                )
        names = {a.name: a.tensor_name for a in interface.inputs}
        return Samples(stream, interface, names, made_up=data is None)

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
        if not self.integer or plan is not None:
            for _ in self._stream(data, calibrating=False):
                pass
            self._timed("calibrate", start)
            return initial
        layout = self._layout(prepared)
        observed = layout.observed
        if not observed or (initial is not None and data.stream.synthetic):
            for _ in self._stream(data, calibrating=False):
                pass
            self._timed("calibrate", start)
            return initial
        full = keep_histograms or self.config.calibration.needs_histogram
        mode = initial.mode if initial is not None else ("full" if full else "minmax")
        total = data.stream.count
        result = calibrate(
            prepared.bytes,
            self._stream(data, calibrating=True),
            tensors=set(initial) if initial is not None else observed,
            mode=mode,
            progress=lambda done: self.progress("Calibrating", done, total),
            initial=initial,
        )
        self._timed("calibrate", start)
        return result

    def _stream(self, data: Samples, *, calibrating: bool) -> Iterator[dict[str, np.ndarray]]:
        """Reads the samples once: what calibration sees is yielded, some of the rest is kept."""
        kept = RetainedSamples(limit=_RETAINED)
        unseen = RetainedSamples(limit=_PROOF, max_bytes=32 << 20)
        for sample, back in split(data.stream, held_back_max=_PROOF):
            if back:
                unseen.offer(sample)
                continue
            data.seen += 1
            kept.offer(sample)
            if calibrating:
                yield data.by_tensor(sample)
            elif not self.integer and len(kept) >= _RETAINED and len(unseen) >= _PROOF:
                # Enough for a proof. A replayed plan reads on: it keeps what the first run kept.
                break
        samples = [data.by_tensor(s) for s in kept.samples]
        # One in four decides what is kept of the corrections computed from the others.
        data.check = samples[3::4]
        data.fit = [s for i, s in enumerate(samples) if i % 4 != 3]
        data.unseen = [data.by_tensor(s) for s in unseen.samples]

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
            emitted = emit(prepared.model, plan)
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
                raise TfqError(_refused(str(e), prepared, plan)) from None
        self._timed("emit", start)
        return emitted

    @staticmethod
    def _ordinary(sample: Mapping[str, np.ndarray], plan: Plan) -> bool:
        """Whether the sample is not one of those that the range rule found absurd."""
        for name, values in sample.items():
            entry = plan.tensors.get(name)
            if entry is not None and entry.grid.scale and values.size:
                lo, hi = entry.grid.range()
                if max(float(values.max()), -float(values.min())) > _ABSURD * max(hi, -lo):
                    return False
        return True

    def correct(
        self, prepared: Prepared, plan: Plan, emitted: Emitted, how: str, data: Samples
    ) -> Correction | None:
        # What was trained with its quantizers has learned to live with them: nothing is moved.
        if how == "none" or not self.integer or data.stream.synthetic or prepared.trained.grids:
            return None
        start = time.perf_counter()
        ordinary = [
            [s for s in samples if self._ordinary(s, plan)] for samples in (data.fit, data.check)
        ]
        fit, check = affordable(prepared.model.main, *ordinary)
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
            prepared.bytes,
            model,
            samples,
            held_back=bool(data.unseen),
            progress=lambda done, total: self.progress("Proving", done, total),
        )
        self._timed("prove", start)
        return proof

    def accuracy(self, prepared: Prepared, model: bytes, data: Samples) -> Accuracy | None:
        if not data.stream.has_labels:
            return None
        if not data.stream.repeatable:
            self.notes["accuracy"] = "not measured: labelled samples that can be read only once"
            return None
        start = time.perf_counter()
        total = data.stream.count
        accuracy = measure_accuracy(
            prepared.bytes,
            model,
            ((data.by_tensor(s), s) for s in data.stream),
            progress=lambda done: self.progress("Measuring accuracy", done, total),
        )
        if accuracy is None:
            self.notes["accuracy"] = (
                "not measured: it takes one output [batch, classes] and labels from 0 to "
                "classes - 1, one a sample"
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
        if proof.collapsed and not data.made_up:
            names = {a.tensor_name: a.name for a in data.interface.outputs}
            worst = [
                f"{loaded.layer_names.get(e.name) or short_name(e.name, {})} ({e.sqnr_db:.1f} dB)"
                for e in proof.worst_layers[:5]
            ]
            self.warnings.append(
                f"THE OUTPUT COLLAPSED: {', '.join(names.get(n, n) for n in proof.collapsed)} no "
                "longer follows the float model"
                + (f"; worst tensors: {', '.join(worst)}" if worst else "")
                + ". Do the samples look like what the model was trained on?"
                + _other_scheme(self.config.scheme.name)
            )
        return make_summary(
            config=self.config,
            source=loaded,
            prepared=prepared,
            plan=plan,
            emitted=emitted.model,
            model=model,
            data=data.stream,
            calibrated=data.seen,
            correction=correction,
            proof=proof,
            accuracy=accuracy,
            seconds=self.seconds,
            warnings=self.warnings,
            notes=self.notes,
        )


def _other_scheme(name: str) -> str:
    """What to try when the integers of a scheme are too few."""
    if name == "int8":
        return " If so, try --scheme=int16x8."
    if name == "int16x8":
        return " If so, keep the worst layers float with --exclude, or try --scheme=dynamic."
    return ""


def _refused(message: str, prepared: Prepared, plan: Plan) -> str:
    widest = max(
        (t for t in plan.tensors.items() if t[1].grid.scale),
        key=lambda t: max(t[1].grid.scale),
        default=None,
    )
    text = message.removesuffix(" Export or copy it again.").replace(": it is damaged.", ".")
    if widest is not None:
        lo, hi = widest[1].grid.range()
        text += f" The widest range is that of {widest[0]!r}, {lo:.3g} to {hi:.3g}:"
        text += " are the samples as large as the model's real inputs?"
    return f"{text} Nothing was written."
