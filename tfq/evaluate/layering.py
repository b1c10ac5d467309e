"""Layer analysis of all quantized models of an evaluation, each beside its float counterpart."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfq.data.fit import Fitter
from tfq.equalize import read_scales, rescale_prepared
from tfq.evaluate.contestants import Contestant, Field
from tfq.evaluate.figures import LayerAnalysis
from tfq.evaluate.layers import analyse_layers
from tfq.executors import Workers
from tfq.graph.model import Model
from tfq.rewrite.prepare import prepare

Progress = Callable[[str, int, int | None], None]


def analyse_field(
    field: Field,
    samples: Sequence[Mapping[str, np.ndarray]],
    workers: Workers,
    progress: Progress,
) -> tuple[dict[str, LayerAnalysis], list[str]]:
    """The error of every tensor of the quantized models against the float reference.

    Args:
      field: the models.
      samples: argument name -> a row of real values, without batch dimension.
      workers: where to run.
      progress: called with (stage, samples done, samples).

    Returns:
      Analyses by name of the model, and what the reader should know.
    """
    quantized = [m for m in field.models if not m.is_float]
    if not field.reference.is_float:
        if not quantized:
            return {}, []
        return {}, [
            "Layers are not compared: the reference is no float model. Give the float model, or "
            "the source, with --reference."
        ]
    analyses = {}
    batched = Fitter(field.specs).batched
    for m in quantized:
        read = Model.from_bytes(m.model)
        float_model = _counterpart(field.reference, m)
        own = read.main.inputs[0].shape[0] if batched else 1
        names = field.reference.inputs
        given = (
            {names[n]: np.repeat(v[None], own, axis=0) if batched else v for n, v in s.items()}
            for s in samples
        )
        stage, total = f"Layers of {m.name}", len(samples)
        progress(stage, 0, total)
        analyses[m.name] = analyse_layers(
            float_model,
            m.model,
            given,
            layer_names={**m.layer_names, **field.reference.layer_names},
            workers=workers,
            progress=functools.partial(_report, progress, stage, total),
        )
    return analyses, []


def _report(progress: Progress, stage: str, total: int, done: int) -> None:
    progress(stage, done, total)


def _counterpart(reference: Contestant, m: Contestant) -> bytes:
    """The float model whose tensors have the names of the quantized one's.

    tfq quantizes what its rewrites made of the source; other converters the source itself.
    """
    wanted = {t.name for t in Model.from_bytes(m.model).main.tensors() if not t.is_const}
    wide = "int16" if m.kind == "int16" else "int8"
    plain = prepare(reference.model, integer=True, activations=wide)
    prepared = rescale_prepared(plain, read_scales(Model.from_bytes(m.model))).bytes

    def common(model: bytes) -> int:
        return sum(
            t.name in wanted for t in Model.from_bytes(model).main.tensors() if not t.is_const
        )

    return max((prepared, reference.model), key=common)
