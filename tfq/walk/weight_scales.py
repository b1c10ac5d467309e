"""Output-MSE scales of all weights, on a walk.

Layer by layer: the Gram matrix of the integers that come through the layers before it, which have
their new scales and corrected biases; the scales that it asks for (`tfq.walk.output_mse`); the
weights and the bias rounded anew; the bias corrected. The matrix is centred: the bias takes back
what the errors of weights do on average. (With 4 bits and the mean in it, a MobileNet comes out
worse than by the weights' own error.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from tfq.graph.model import Model, Quant
from tfq.quantize.emit import Emitted
from tfq.walk.bias import corrected_bias, largest_bias
from tfq.walk.gram import POSITIONS, gram_matrices, obstacle_to_gram
from tfq.walk.layer import Layer
from tfq.walk.output_mse import output_mse_scales
from tfq.walk.patches import from_rows, weight_rows
from tfq.walk.store import MEMORY
from tfq.walk.walk import Walk


def solve_weight_scales(
    float_model: Model,
    emitted: Emitted,
    samples: Sequence[Mapping[str, np.ndarray]],
    bits: Mapping[str, int],
    *,
    positions: int = POSITIONS,
    memory: int = MEMORY,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[str, np.ndarray | None, str]]:
    """Solves scales layer by layer; what has been solved stays when one stops.

    Args:
      float_model: the prepared float model.
      emitted: the quantized model; it is not changed.
      samples: at least 2.
      bits: of the weights, by the name of a layer's output in the float model. Others are left.
      positions: as for `gram_matrices`.
      memory, progress: as for `Walk`.

    Yields:
      Name, and float32 scales [channels] ([1] where the weights have one), or None and why.

    Raises:
      ModelError: the model has an `obstacle_to_walk`.
    """
    with Walk(emitted, samples, float_model=float_model, memory=memory, progress=progress) as walk:
        for layer in walk:
            reason = obstacle_to_gram(layer)
            scales = None
            if layer.name in bits and not reason:
                scales = layer_scales(layer, bits[layer.name], positions)
                rescale(layer, scales, bits[layer.name])
            bias, _ = corrected_bias(layer)
            if bias is not None:
                assert layer.bias is not None
                assert layer.row.bias is not None
                layer.replace(layer.row.bias, dataclasses.replace(layer.bias, data=bias))
            if layer.name in bits:
                yield layer.name, scales, reason


def layer_scales(layer: Layer, bits: int, positions: int = POSITIONS) -> np.ndarray:
    """The scales of one layer's weights with the least error at its output, float32.

    Channels of zeros keep their scale, as do those whose bias would be too large on a finer one.
    """
    old = layer.weights.quant
    assert old is not None
    gram = gram_matrices(layer, centred=True, positions=positions)
    rows = weight_rows(layer.op, _float_weights(layer))
    scales = output_mse_scales(rows, gram, 2 ** (bits - 1) - 1, shared=old.scale.size == 1)
    if layer.bias is not None and layer.bias.is_const:
        bias = np.abs(layer.bias.values().reshape(-1).astype(np.float64))
        least = bias * old.scale.astype(np.float64) / largest_bias(layer)
        scales = np.where(scales < (least if scales.size > 1 else least.max()), old.scale, scales)
    return np.where(scales > 0, scales, old.scale).astype(np.float32)


def rescale(layer: Layer, scales: np.ndarray, bits: int) -> None:
    """Rounds a layer's weights to the nearest on other scales, and its bias with them."""
    old, x = layer.weights.quant, layer.x.quant
    assert old is not None
    assert x is not None
    assert layer.row.weights is not None
    rows = weight_rows(layer.op, _float_weights(layer))
    top = 2 ** (bits - 1) - 1
    each = np.broadcast_to(scales, (rows.shape[0] * rows.shape[1],)).reshape(*rows.shape[:2], 1)
    q = np.clip(np.rint(rows / each), -top, top).astype(layer.weights.values().dtype)
    quant = Quant(scales, np.zeros(scales.size, np.int64), old.axis)
    weights = dataclasses.replace(layer.weights, data=from_rows(layer.op, q), quant=quant)
    layer.replace(layer.row.weights, weights)
    bias = layer.bias
    if bias is None or bias.quant is None or layer.row.bias is None:
        return
    steps = (scales * x.scale[0]).astype(np.float32)
    real = bias.values().astype(np.float64) * bias.quant.scale.astype(np.float64)
    data = np.rint(real / steps.astype(np.float64)).astype(bias.values().dtype)
    finer = Quant(steps, np.zeros(steps.size, np.int64), bias.quant.axis)
    layer.replace(layer.row.bias, dataclasses.replace(bias, data=data, quant=finer))


def _float_weights(layer: Layer) -> np.ndarray:
    assert layer.float_op is not None
    assert layer.row.weights is not None
    return layer.float_op.input(layer.row.weights).values()
