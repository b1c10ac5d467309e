"""Proof that an emitted model is what it claims to be: checked tensor by tensor, and run.

No file leaves tfq before it went through `prove`: every tensor of every subgraph is looked at, the
model is allocated and invoked with XNNPACK and with the reference kernels, and its outputs are
compared with the float model's on samples that calibration did not see.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from tfq.errors import ModelError, TfqError
from tfq.graph.boundary import own_grid
from tfq.graph.integers import float_tensors
from tfq.graph.model import Model, Op, Tensor
from tfq.graph.numerics import dequantize
from tfq.graph.optable import effects, spec
from tfq.graph.origin import has_fixed_range, last_grid
from tfq.observe.errors import ErrorObserver
from tfq.observe.loop import observe
from tfq.observe.observer import FLOAT, INTEGER, Observer, Read
from tfq.parts import decibel
from tfq.plan.plan import Plan
from tfq.quantize.emit import Emitted
from tfq.verify.apart import run_apart
from tfq.verify.meter import Meter, OutputError
from tfq.verify.same_model import check_shape
from tfq.verify.starved import StarvedInput, find_starved

Inputs = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class LayerError:
    """How far one intermediate tensor is from the float model's."""

    name: str
    sqnr_db: float


@dataclasses.dataclass(frozen=True)
class Proof:
    """What was checked, with the figures.

    Attributes:
      samples: how many were compared.
      held_back: whether calibration had not seen them.
      outputs: errors against the float model.
      kernels_lsb: largest distance between XNNPACK and the reference kernels, in steps, by output;
        empty when the reference kernels lack an op.
      reference_note: why the reference kernels were not compared, or "".
      collapsed: outputs that no longer follow the float model (`tfq.verify.meter`).
      starved: inputs of concatenations that the shared grid leaves too little of.
      worst_layers: the tensors with the lowest ratio, when an output or a part of one collapsed.
    """

    samples: int
    held_back: bool
    outputs: tuple[OutputError, ...]
    kernels_lsb: Mapping[str, float]
    reference_note: str
    collapsed: tuple[str, ...]
    worst_layers: tuple[LayerError, ...]
    starved: tuple[StarvedInput, ...] = ()


def check_full_integer(emitted: Emitted, plan: Plan) -> tuple[str, ...]:
    """Looks at every tensor of every subgraph.

    A tensor may be float where the plan keeps an op float that reads or writes it, and at the
    model's boundary where the plan has float inputs or outputs. Nothing else may.

    Args:
      emitted: the emitted model.
      plan: what it was emitted from.

    Returns:
      Names of the float tensors there are; empty for a full-integer model.

    Raises:
      TfqError: a float tensor that nobody chose.
    """
    main = emitted.model.main
    boundary = {n for n, g in (*plan.inputs.items(), *plan.outputs.items()) if not g.is_integer}
    chosen = {t for t in (*main.inputs, *main.outputs) if t.name in boundary}
    results = {emitted.tensors[name] for name in plan.float_ops if name in emitted.tensors}
    silent = {op.op for name, op in plan.float_ops.items() if name not in emitted.tensors}
    control = False
    for op in main.ops:
        if any(t in results for t in op.outputs) or (not op.outputs and op.label in silent):
            chosen.update(t for t in (*op.inputs, *op.outputs, *op.intermediates) if t is not None)
            # Its work is done, or its state is set up, in other subgraphs.
            does = effects(op.name)
            control |= does.calls or does.state == "variable"
    if control:
        chosen.update(t for g in emitted.model.graphs[1:] for t in g.tensors())
    found = float_tensors(emitted.model)
    wrong = [f for f in found if f.tensor not in chosen]
    if wrong:
        lines = [
            f"  {tensor.name!r} in {graph}" + (f", from {op.label}" if op is not None else "")
            for graph, tensor, op in wrong[:10]
        ]
        raise TfqError(
            f"{len(wrong)} tensor(s) of the emitted model are not integer:\n"
            + "\n".join(lines)
            + "\nPlease report this model; --allow_float=OP lets the op stay float until then."
        )
    return tuple(f.tensor.name for f in found)


def prove(
    float_bytes: bytes,
    emitted: bytes,
    samples: Sequence[Inputs],
    *,
    held_back: bool,
    progress: Callable[[int, int], None] | None = None,
) -> Proof:
    """Runs the emitted model beside the float one.

    Args:
      float_bytes: the float model with the same input and output tensor names.
      emitted: the quantized model.
      samples: tensor name -> float values; at least one.
      held_back: whether calibration had not seen them.
      progress: called with (samples done, samples in all).

    Raises:
      ModelError: LiteRT refuses the emitted model.
    """
    model = Model.from_bytes(emitted)
    note = _no_reference(model)
    compared = [_Compared(model, t) for t in model.main.outputs]
    observers: list[Observer] = [*compared]
    with ThreadPoolExecutor(max_workers=1) as pool:
        kernels = _Kernels(model, emitted, pool)
        if not note:
            observers.append(kernels)
        total = len(samples)
        observe(
            {FLOAT: float_bytes, INTEGER: emitted},
            samples,
            observers,
            progress=None if progress is None else lambda count: progress(count, total),
        )
        try:
            kernels_lsb = kernels.distances()
        except ModelError as e:
            kernels_lsb, note = {}, str(e)
    meters = {c.name: c.meter for c in compared}
    outputs = tuple(m.result() for m in meters.values())
    collapsed = tuple(n for n, m in meters.items() if m.collapsed)
    worst: tuple[LayerError, ...] = ()
    if collapsed or any(p.collapsed for o in outputs for p in o.parts):
        worst = layer_errors(float_bytes, emitted, samples[:4])[:8]
    starved = find_starved(float_bytes, emitted, samples)
    return Proof(len(samples), held_back, outputs, kernels_lsb, note, collapsed, worst, starved)


class _Compared(Observer):
    """One output of both models, as real values."""

    def __init__(self, model: Model, t: Tensor):
        self.tensors = (Read(t.name), Read(t.name, INTEGER))
        self.name = t.name
        self._of = model, t
        self._grid = own_grid(t)
        self._meter: Meter | None = None

    @property
    def meter(self) -> Meter:
        assert self._meter is not None
        return self._meter

    def update(self, number: int, values: Sequence[np.ndarray]) -> None:
        want, got = values
        got = got if self._grid is None else dequantize(got, self._grid)
        check_shape(self.name, want, got)
        if self._meter is None:
            # Of the run: what a file states may be another shape.
            self._shape, self._meter = want.shape, _meter(*self._of, want.shape)
        _check_fixed(self.name, self._shape, want)
        self._meter.add(want, got)


class _Kernels(Observer):
    """The first sample on the reference kernels, which take seconds on large models: beside the
    other samples.
    """

    def __init__(self, model: Model, emitted: bytes, pool: ThreadPoolExecutor):
        self._inputs = [t.name for t in model.main.inputs]
        self._outputs = list(dict.fromkeys(t.name for t in model.main.outputs))
        self.tensors = [Read(n, INTEGER) for n in (*self._inputs, *self._outputs)]
        self._emitted, self._pool = emitted, pool
        self._first: dict[str, np.ndarray] = {}
        self._plain: Future[dict[str, np.ndarray]] | None = None

    def update(self, number: int, values: Sequence[np.ndarray]) -> None:
        if number:
            return
        copies = [v.copy() for v in values]
        fed = dict(zip(self._inputs, copies[: len(self._inputs)], strict=True))
        self._first = dict(zip(self._outputs, copies[len(self._inputs) :], strict=True))
        self._plain = self._pool.submit(run_apart, self._emitted, fed, kernels="reference")

    def distances(self) -> dict[str, float]:
        """The largest for each output, in steps; none where nothing was run.

        Raises:
          ModelError: these kernels do not run the model.
        """
        return {
            name: float(np.max(np.abs(_wide(value) - _wide(self._first[name])), initial=0.0))
            for name, value in (self._plain.result().items() if self._plain else ())
        }


def _meter(model: Model, t: Tensor, shape: tuple[int, ...]) -> Meter:
    producers = model.main.producers()
    own = own_grid(t)
    return Meter(
        t.name,
        shape,
        None if own is None else own.scale[0],
        grid=last_grid(t, producers),
        counts=t.quant is None and not t.is_float,
        has_parts=not has_fixed_range(t, producers),
    )


def _check_fixed(name: str, first: tuple[int, ...], value: np.ndarray) -> None:
    """Raises ModelError where an output's shape depends on the values."""
    if value.shape != first:
        raise ModelError(
            f"Output {name!r} has the shape {list(first)} for one sample and {list(value.shape)} "
            "for another: its size depends on the values, so what is quantized cannot be compared "
            "with it. Give the model an output of fixed size: leave out the op that selects "
            "(WHERE, non-maximum suppression), or pad what it gives."
        )


def _wide(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64)


def _no_reference(model: Model) -> str:
    """Why the reference kernels are not asked, or nothing."""
    lacking = sorted(
        {lack for g in model.graphs for op in g.ops if (lack := _without_reference(op))}
    )
    return f"the reference kernels lack, or get wrong: {', '.join(lacking)}" if lacking else ""


def _without_reference(op: Op) -> str:
    """What of an op the reference kernels lack, or nothing."""
    s = spec(op.name)
    if s is None or not s.reference:
        return op.label
    w = op.inputs[s.weights] if s.weights is not None and s.weights < len(op.inputs) else None
    return f"{op.label} with {w.dtype} weights" if w and w.dtype in s.no_reference else ""


def layer_errors(
    float_bytes: bytes, emitted: bytes, samples: Sequence[Inputs]
) -> tuple[LayerError, ...]:
    """Signal to noise of every tensor that both models have by name, the worst first."""
    model, float_model = Model.from_bytes(emitted), Model.from_bytes(float_bytes)
    real = {t.name for t in float_model.main.tensors() if t.dtype == "float32" and not t.is_const}
    observers = {
        t.name: ErrorObserver(Read(t.name), Read(t.name, INTEGER), grid)
        for t in model.main.tensors()
        if t.name in real and not t.is_const and (grid := own_grid(t)) is not None
    }
    observe({FLOAT: float_bytes, INTEGER: emitted}, samples, list(observers.values()))
    errors = [LayerError(n, decibel(*o.result())) for n, o in observers.items()]
    return tuple(sorted(errors, key=lambda x: x.sqnr_db))
