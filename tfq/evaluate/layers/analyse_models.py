"""Layer analysis of all quantized models of an evaluation, each beside its float counterpart."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfq.data.fit import Fitter
from tfq.equalize import read_changes, unchanged, with_changes
from tfq.errors import ModelError
from tfq.evaluate.figures import LayerAnalysis
from tfq.evaluate.layers import Pairing, analyse_pairing, pair, stored_weights, to_batch
from tfq.evaluate.layers.pairing import is_activation
from tfq.evaluate.models import ComparedModel, Comparison
from tfq.executors import Workers
from tfq.graph.model import Model
from tfq.rewrite.prepare import prepare

Progress = Callable[[str, int, int | None], None]

# Names that a note lists.
_SHOWN = 5


def analyse_models(
    comparison: Comparison,
    samples: Sequence[Mapping[str, np.ndarray]],
    workers: Workers,
    progress: Progress,
) -> tuple[dict[str, LayerAnalysis], list[str]]:
    """The error of every tensor of the quantized models against the float reference.

    Args:
      comparison: the models.
      samples: argument name -> a row of real values, without batch dimension.
      workers: where to run.
      progress: called with (stage, samples done, samples).

    Returns:
      Analyses by name of the model, and what the reader should know: why a model has none, and what
      of it is not compared.

    Raises:
      DataError: a sample becomes NaN or infinite in the float model.
    """
    quantized = [m for m in comparison.models if not m.is_float]
    if not comparison.reference.is_float:
        if not quantized:
            return {}, []
        return {}, [
            "Layers are not compared: the reference is no float model. Give the float model, or "
            "the source, with --reference."
        ]
    analyses: dict[str, LayerAnalysis] = {}
    notes: list[str] = []
    for m in quantized:
        try:
            pairing = _pairing(comparison, m)
            if not pairing.paired:
                notes.append(_nothing(m, pairing, comparison.reference))
                continue
            analyses[m.name] = _analysed(comparison, m, pairing, samples, workers, progress)
        except ModelError as e:
            # The scores of all models stand; what cannot be done is to look inside of this one.
            notes.append(f"Layers of {m.name} are not compared. {e}")
            continue
        if pairing.unmatched:
            notes.append(_missing(m, pairing))
    return analyses, notes


def _analysed(
    comparison: Comparison,
    m: ComparedModel,
    pairing: Pairing,
    samples: Sequence[Mapping[str, np.ndarray]],
    workers: Workers,
    progress: Progress,
) -> LayerAnalysis:
    names = comparison.reference.inputs
    batched = _batched(comparison)
    rows = pairing.float_model.main.inputs[0].shape[0] if batched else 1
    given = (
        {names[n]: np.repeat(v[None], rows, axis=0) if batched else v for n, v in s.items()}
        for s in samples
    )
    stage, total = f"Layers of {m.name}", len(samples)
    progress(stage, 0, total)
    return analyse_pairing(
        pairing,
        given,
        layer_names=_layer_names(comparison.reference, m),
        workers=workers,
        progress=functools.partial(_report, progress, stage, total),
    )


def _report(progress: Progress, stage: str, total: int, done: int) -> None:
    progress(stage, done, total)


def _batched(comparison: Comparison) -> bool:
    return Fitter(comparison.specs).batched


def _layer_names(reference: ComparedModel, m: ComparedModel) -> dict[str, str]:
    return {**m.layer_names, **reference.layer_names}


def _pairing(comparison: Comparison, m: ComparedModel) -> Pairing:
    """The tensors of a quantized model beside those of its float counterpart, of one batch.

    Raises:
      ModelError: they do not belong together.
    """
    float_model, quantized = _counterpart(comparison.reference, m), m.model
    if _batched(comparison):
        sizes = [Model.from_bytes(d).main.inputs[0].shape[0] for d in (float_model, quantized)]
        try:
            if sizes[0] < sizes[1]:
                float_model = to_batch(float_model, sizes[1])
            elif sizes[1] < sizes[0]:
                quantized = to_batch(quantized, sizes[0])
        except ModelError as e:
            smaller = comparison.reference if sizes[0] < sizes[1] else m
            raise ModelError(
                f"It is made for {sizes[1]} samples at a time and {comparison.reference.name} for "
                f"{sizes[0]}, and {smaller.name} cannot be made to take as many. {e}"
            ) from None
    theirs, own = comparison.reference, m
    return pair(
        float_model,
        quantized,
        inputs={theirs.inputs[n]: own.inputs[n] for n in theirs.inputs},
        outputs={theirs.outputs[n]: own.outputs[n] for n in theirs.outputs},
    )


def _counterpart(reference: ComparedModel, m: ComparedModel) -> bytes:
    """The float model whose tensors have the names of the quantized one's.

    tfq quantizes what its rewrites made of the source; other converters the source itself.
    """
    read = Model.from_bytes(m.model)
    types = [t.dtype for t in read.main.tensors() if is_activation(t)]
    if not types:
        # Whatever computes in float keeps the source's ops.
        return reference.model
    wanted = {t.name for t in read.main.tensors() if not t.is_const}
    wide = "int16" if 2 * types.count("int16") > len(types) else "int8"
    plain = prepare(reference.model, integer=True, activations=wide)
    prepared = unchanged(with_changes(plain, read_changes(read)))

    def common(model: bytes) -> int:
        return sum(
            t.name in wanted for t in Model.from_bytes(model).main.tensors() if not t.is_const
        )

    return max((prepared, reference.model), key=common)


def _nothing(m: ComparedModel, pairing: Pairing, reference: ComparedModel) -> str:
    """Why a model has no tensors to compare, and what can be said of its weights."""
    if pairing.unmatched:
        return (
            f"None of the {len(pairing.unmatched)} quantized tensors of {m.name} has a counterpart "
            "in the float model: its layers are not compared. Is it made from the same model?"
        )
    said = f"{m.name} has no quantized activations: there is nothing to compare layer by layer"
    weights = stored_weights(pairing.float_model, pairing.quantized)
    if weights is None:
        return f"{said}."
    if math.isinf(weights.worst_db):
        return f"{said}; its weights are exactly the float ones."
    layer = _layer_names(reference, m).get(weights.worst)
    where = f"of layer {layer}" if layer else f"of what computes {weights.worst!r}"
    return (
        f"{said}; its weights are {weights.sqnr_db:.1f} dB from the float ones, the worst {where} "
        f"with {weights.worst_db:.1f} dB."
    )


def _missing(m: ComparedModel, pairing: Pairing) -> str:
    missing, total = len(pairing.unmatched), len(pairing.unmatched) + len(pairing.paired)
    shown = ", ".join(pairing.unmatched[:_SHOWN])
    more = f" and {missing - _SHOWN} more" if missing > _SHOWN else ""
    have, are = ("has", "is") if missing == 1 else ("have", "are")
    note = (
        f"{missing} of {total} quantized tensors of {m.name} {have} no counterpart in the float "
        f"model and {are} not compared: {shown}{more}."
    )
    return f"{note} Is it made from the same model?" if 2 * missing > total else note
