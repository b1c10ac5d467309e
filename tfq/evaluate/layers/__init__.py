"""Layer by layer: the error of every quantized tensor, alone and as the model runs.

    analysis = analyse_layers(float_bytes, quantized_bytes, samples)

`accumulated` compares both models as they run. `isolated` compares each tensor as computed from the
float model's values of the nearest quantized tensors before it, by the same kernels (see
`isolation`): what this one layer's rounding costs. Samples can be split among workers
(`tfq.executors`):

    pairing = pair(float_bytes, quantized_bytes)
    isolated = isolate(pairing)
    work = LayerWork(pairing, isolated)                 # picklable
    total = merge(work(payload, threads) for ...)       # the same to the bit in any order
    analysis = finish(pairing, total, notes=isolated.reasons)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from tfq.evaluate.figures import LayerAnalysis
from tfq.evaluate.layers.finish import finish
from tfq.evaluate.layers.isolation import IsolatedModels, isolate
from tfq.evaluate.layers.pairing import Pair, Pairing, pair
from tfq.evaluate.layers.rebatched import to_batch
from tfq.evaluate.layers.weight_errors import StoredWeights, stored_weights
from tfq.evaluate.layers.work import Counts, count

if TYPE_CHECKING:
    from tfq.executors import Workers

__all__ = [
    "Counts",
    "IsolatedModels",
    "Pair",
    "Pairing",
    "StoredWeights",
    "analyse_layers",
    "analyse_pairing",
    "count",
    "finish",
    "isolate",
    "pair",
    "stored_weights",
    "to_batch",
]


def analyse_layers(
    float_model: bytes,
    quantized: bytes,
    samples: Iterable[Mapping[str, np.ndarray]],
    *,
    inputs: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
    layer_names: Mapping[str, str] | None = None,
    workers: Workers | None = None,
    progress: Callable[[int], None] | None = None,
) -> LayerAnalysis:
    """Measures every quantized tensor against the float model.

    Args:
      float_model: a float `.tflite` file, prepared (`tfq.rewrite.prepare`) with the options that
        the quantized one was made with, where tfq made it: tensors are paired by name.
      quantized: the quantized `.tflite` file.
      inputs, outputs: the float model's tensor name -> the quantized model's; see `pair`.
      samples: the float model's input tensor name -> values of the tensor's shape; read once.
      layer_names: the layer path for each tensor name that holds one.
      workers: from `tfq.executors.open_workers`; None for this process.
      progress: called with the number of samples done so far.

    Returns:
      The figures of all tensors in the order of execution. A model without quantized activations
      has none, and is not run.

    Raises:
      ModelError: a model is damaged or does not run, or the two do not belong together.
      DataError: there is no sample, or one does not fit or becomes NaN in the float model.
    """
    pairing = pair(float_model, quantized, inputs=inputs, outputs=outputs)
    return analyse_pairing(
        pairing, samples, layer_names=layer_names, workers=workers, progress=progress
    )


def analyse_pairing(
    pairing: Pairing,
    samples: Iterable[Mapping[str, np.ndarray]],
    *,
    layer_names: Mapping[str, str] | None = None,
    workers: Workers | None = None,
    progress: Callable[[int], None] | None = None,
) -> LayerAnalysis:
    """The same of models whose tensors are paired already."""
    if not pairing.paired:
        return LayerAnalysis(0, (), pairing.unmatched)
    isolated = isolate(pairing)
    counts = count(pairing, isolated, samples, workers=workers, progress=progress)
    return finish(pairing, counts, layer_names=layer_names, notes=isolated.reasons)
