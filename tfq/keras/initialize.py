"""Activation ranges from representative samples, before the first training step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfq.calibrate.rules import get_rule
from tfq.data import open_data
from tfq.errors import DataError
from tfq.graph.interface import ArgSpec
from tfq.observe.sketch import Sketch

_BATCH = 32  # Samples run at a time: what bounds the memory.


def initialize_activations(
    model: Any, seen: Mapping[Any, Sequence[Any]], data: Any, samples: int | None
) -> None:
    """Sets the range of every activation quantizer by its own rule.

    Weights are quantized and activations are not while the samples run, as in the observe phase.

    Args:
      model: the quantized model.
      seen: activation quantizer -> the symbolic tensors that enter it.
      data: samples in any form `tfq.data.open_data` takes.
      samples: use at most so many.

    Raises:
      DataError: the samples do not fit the model, or what it computes of them is not finite.
    """
    from tfq.keras.schedule import set_phase

    quantizers = list(seen)
    probe = keras.Model(model.inputs, [t for q in quantizers for t in seen[q]])
    rules = {q: get_rule(q.range_rule) for q in quantizers}
    sketches = {q: Sketch("full" if rules[q].needs_histogram else "minmax") for q in quantizers}
    set_phase(model, "observe")
    for batch in _batches(model, data, samples):
        # A model of one output gives a tensor, not a list.
        given = [batch[t.name] for t in model.inputs]
        results = iter(keras.tree.flatten(probe(given, training=False)))
        for q in quantizers:
            for _ in seen[q]:
                values = np.asarray(keras.ops.convert_to_numpy(next(results)), np.float32)
                if not np.isfinite(values).all():
                    raise DataError(
                        f"The model computes NaN or infinite values at {q.name!r} of the samples "
                        "given. Check the samples and the model's weights."
                    )
                sketches[q].update(values)
    set_phase(model, "train")
    for q in quantizers:
        lo, hi = rules[q](sketches[q], bits=q.bits, symmetric=q.bits == 16)
        q.initialize(lo, hi)


def _batches(model: Any, data: Any, samples: int | None) -> Iterator[dict[str, np.ndarray]]:
    specs = [
        ArgSpec(t.name, t.name, tuple(1 if d is None else d for d in t.shape), t.dtype, True)
        for t in model.inputs
    ]
    rows = specs[0].shape[0]
    group: list[Mapping[str, np.ndarray]] = []
    for sample in open_data(data, specs, limit=samples):
        group.append(sample.inputs)
        if len(group) * rows >= _BATCH or model.inputs[0].shape[0] is not None:
            yield _joined(group)
            group = []
    if group:
        yield _joined(group)


def _joined(group: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([g[name] for g in group]) for name in group[0]}
