"""Proof that an emitted model is what it claims to be: checked tensor by tensor, and run.

No file leaves tfq before it went through `prove`: every tensor of every subgraph is looked at, the
model is allocated and invoked with XNNPACK and with the reference kernels, and its outputs are
compared with the float model's on samples that calibration did not see.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from tfq.errors import ModelError, TfqError
from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.integers import float_tensors
from tfq.graph.model import Model, Op, Tensor
from tfq.graph.numerics import LIMITS, Grid, dequantize
from tfq.graph.optable import effects, spec
from tfq.graph.origin import has_fixed_range, last_grid
from tfq.parts import decibel
from tfq.plan.plan import Plan
from tfq.quantize.emit import Emitted
from tfq.runtime import Runner
from tfq.verify.apart import run_apart
from tfq.verify.meter import Meter, OutputError
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
    feed = InputQuantizer(model)
    reference = Runner(float_bytes)
    runner = Runner(emitted)
    note = _no_reference(model)
    meters: dict[str, Meter] = {}
    kernels: dict[str, float] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    with ThreadPoolExecutor(max_workers=1) as pool:
        plain: Future[dict[str, np.ndarray]] | None = None
        for n, inputs in enumerate(samples):
            reference.reset_state()
            runner.reset_state()
            expected = reference.run(inputs)
            fed = feed(inputs)
            result = runner.run(fed)
            real = dequantized(model, result)
            for t in model.main.outputs:
                want, got = expected[t.name], real[t.name]
                _check_shape(t.name, want, got)
                _check_fixed(t.name, shapes.setdefault(t.name, want.shape), want)
                if t.name not in meters:
                    # Of the run: what a file states may be another shape.
                    meters[t.name] = _meter(model, t, want.shape)
                meters[t.name].add(want, got)
            if n == 0 and not note:
                # These kernels take seconds on large models: one sample, beside the others.
                first = result
                plain = pool.submit(run_apart, emitted, fed, kernels="reference")
            if progress is not None:
                progress(n + 1, len(samples))
        if plain is not None:
            try:
                for name, value in plain.result().items():
                    far = np.abs(_wide(value) - _wide(first[name]))
                    kernels[name] = float(np.max(far, initial=0.0))
            except ModelError as e:
                note = str(e)
    outputs = tuple(m.result() for m in meters.values())
    collapsed = tuple(n for n, m in meters.items() if m.collapsed)
    worst: tuple[LayerError, ...] = ()
    if collapsed or any(p.collapsed for o in outputs for p in o.parts):
        worst = layer_errors(float_bytes, emitted, samples[:4])[:8]
    starved = find_starved(float_bytes, emitted, samples)
    return Proof(len(samples), held_back, outputs, kernels, note, collapsed, worst, starved)


def _meter(model: Model, t: Tensor, shape: tuple[int, ...]) -> Meter:
    producers = model.main.producers()
    on_grid = t.quant is not None and t.dtype in LIMITS
    return Meter(
        t.name,
        shape,
        float(t.quant.scale[0]) if t.quant is not None and on_grid else None,
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


def _check_shape(name: str, expected: np.ndarray, got: np.ndarray) -> None:
    """Raises ModelError where two forms of a model give an output another shape."""
    if expected.shape != got.shape:
        raise ModelError(
            f"Output {name!r} has the shape {list(expected.shape)} in the source and "
            f"{list(got.shape)} in what was made of it. The shapes that the file states are not "
            "those that its ops compute, or an option of an op is odd: export the model again."
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
    feed = InputQuantizer(model)
    float_index = {
        t.name: i
        for i, t in enumerate(float_model.main.tensors())
        if t.dtype == "float32" and not t.is_const
    }
    pairs = [
        (t.name, i, float_index[t.name], Grid.of(t.dtype, t.quant))
        for i, t in enumerate(model.main.tensors())
        if t.name in float_index and t.quant is not None and t.dtype in LIMITS and not t.is_const
    ]
    a = Runner(float_bytes, keep_intermediates=True)
    b = Runner(emitted, keep_intermediates=True)
    sums = {name: [0.0, 0.0] for name, *_ in pairs}
    for inputs in samples:
        a.reset_state()
        b.reset_state()
        a.run(inputs)
        b.run(feed(inputs))
        for name, i, j, grid in pairs:
            expected = _wide(a.tensor(j))
            off = expected - dequantize(b.tensor(i), grid)
            sums[name][0] += float(np.sum(off * off))
            sums[name][1] += float(np.sum(expected * expected))
    errors = [LayerError(n, decibel(p, e)) for n, (e, p) in sums.items()]
    return tuple(sorted(errors, key=lambda x: x.sqnr_db))


def same_model(source: bytes, prepared: bytes, samples: Sequence[Inputs]) -> None:
    """Checks that rewriting changed nothing: both float models, run on real samples.

    Raises:
      TfqError: a float output differs by more than float rounding, or an integer or boolean one in
        most places (in a few, rounding alone can tip a comparison).
    """
    if source == prepared:
        return
    a, b = Runner(source), Runner(prepared)
    names = [d["name"] for d in b.outputs]
    off: collections.Counter[str] = collections.Counter()
    places: collections.Counter[str] = collections.Counter()
    for inputs in samples:
        # By position: preparing gives names to tensors that have none, or one that others have.
        values = [inputs[d["name"]] for d in b.inputs]
        # A fused LSTM would carry its state on; written out as steps, it starts at zero each time.
        a.reset_state()
        b.reset_state()
        expected, got = a.run_in_order(values), b.run_in_order(values)
        for name, value, other in zip(names, expected, got, strict=True):
            _check_shape(name, value, other)
            if value.dtype.kind != "f":
                off[name] += int(np.sum(value != other))
                places[name] += value.size
                continue
            size = max(float(np.max(np.abs(value), initial=0.0)), 1e-6)
            far = float(np.max(np.abs(value - other), initial=0.0))
            if not far <= 1e-3 * size:
                raise TfqError(
                    f"A graph rewrite changed output {name!r} by {far:.3g} (its values reach "
                    f"{size:.3g}). Nothing was written; please report this model."
                )
    for name, count in off.items():
        if count > places[name] / 2:
            raise TfqError(
                f"A graph rewrite changed output {name!r} in {count} of {places[name]} places. "
                "Nothing was written; please report this model."
            )
