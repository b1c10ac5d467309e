"""What the inputs decide: how samples are cut into blocks, and what a small change of them is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfq.data.fit import Fitter
from tfq.evaluate.behaviour import Steps
from tfq.evaluate.models import Comparison
from tfq.graph.interface import ArgSpec
from tfq.graph.model import Model
from tfq.graph.numerics import LIMITS, Grid
from tfq.verify.input_range import input_warnings

# Samples that a float model is asked with.
_ASKED = 16

# More samples' values than so many beyond an input's grid are no outliers.
_MISFIT = 0.1

# What a worker gets at once: enough to pay for sending it (a cluster takes 10 ms for each piece of
# work), little enough to share out evenly.
_BLOCK_BYTES = 12 << 20
_BLOCK_ROWS = 1024


def one_by_one(specs: Sequence[ArgSpec]) -> tuple[ArgSpec, ...]:
    """The inputs for one sample: blocks count samples, whatever the models' batch is."""
    if not Fitter(specs).batched:
        return tuple(specs)
    return tuple(dataclasses.replace(s, shape=(1, *s.shape[1:])) for s in specs)


def rows_of_a_block(specs: Sequence[ArgSpec]) -> int:
    """Samples of a block: a function of the inputs alone, so that results are always the same."""
    size = sum(int(np.prod(s.shape)) * np.dtype(s.dtype).itemsize for s in specs)
    rows = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // max(size, 1)))
    return rows // 64 * 64 or rows


def steps_of(comparison: Comparison, samples: Mapping[str, np.ndarray]) -> Steps:
    """One step of each input: of the first model that quantizes it, else 1/255 of its range."""
    lsb, span, images = {}, {}, []
    for spec in comparison.specs:
        values = samples[spec.name]
        lsb[spec.name] = span[spec.name] = 0.0
        if values.dtype.kind != "f":
            continue
        width = float(values.max()) - float(values.min())
        lsb[spec.name], span[spec.name] = width / 255, width
        for m in comparison.models:
            tensors = {t.name: t for t in Model.from_bytes(m.model).main.inputs}
            t = tensors[m.inputs[spec.name]]
            if t.quant is not None and t.dtype in LIMITS:
                low, high = LIMITS[t.dtype]
                lsb[spec.name] = float(t.quant.scale[0])
                span[spec.name] = lsb[spec.name] * (high - low)
                break
        if values.ndim == 4 and values.shape[3] in (1, 3, 4) and min(values.shape[1:3]) >= 8:
            images.append(spec.name)
    return Steps(lsb, span, tuple(images))


def misfits(comparison: Comparison, samples: Mapping[str, np.ndarray]) -> list[str]:
    """What to say of samples that are not scaled as a model's input was trained or calibrated.

    Args:
      comparison: the models.
      samples: argument name -> real values [n, ...].
    """
    found = _unlike_training(comparison, samples) if comparison.reference.is_float else []
    for m in comparison.models:
        tensors = {t.name: t for t in Model.from_bytes(m.model).main.inputs}
        for name, values in samples.items():
            t = tensors[m.inputs[name]]
            if t.quant is None or t.dtype not in LIMITS or values.dtype.kind != "f":
                continue
            low, high = Grid.of(t.dtype, t.quant).range()
            step = float(t.quant.scale[0])
            beyond = np.count_nonzero((values < low - step) | (values > high + step))
            if beyond > _MISFIT * values.size:
                found.append(
                    f"THE SAMPLES DO NOT FIT THE INPUT of {m.name}: {name} takes {low:.4g} to "
                    f"{high:.4g}, and {beyond / values.size:.0%} of the values lie beyond, which "
                    f"reach from {values.min():.4g} to {values.max():.4g}. Scale them as in "
                    "training (images: --scale, --mean); all figures below are of cut-off inputs."
                )
    return found


def _unlike_training(comparison: Comparison, samples: Mapping[str, np.ndarray]) -> list[str]:
    """What the constants and the answers of the float reference say of the samples' scale."""
    m = comparison.reference
    count = min(_ASKED, len(next(iter(samples.values()))))
    rows = Model.from_bytes(m.model).main.inputs[0].shape[:1]
    batched = Fitter(comparison.specs).batched
    if batched and rows != (1,):
        return []
    given = [
        {m.inputs[n]: v[i : i + 1] if batched else v[i] for n, v in samples.items()}
        for i in range(count)
    ]
    names = {tensor: name for name, tensor in m.inputs.items()}
    return input_warnings(m.model, given, {}, names)
