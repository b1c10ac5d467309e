"""Real values into a quantized model and out of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfq.graph.model import Model
from tfq.graph.numerics import LIMITS, Grid, dequantize, quantize

Inputs = Mapping[str, np.ndarray]


class InputQuantizer:
    """Puts float samples on the input grids of a quantized model.

    Called with tensor name -> float values, gives tensor name -> what the model takes.
    """

    def __init__(self, model: Model):
        self._grids = {
            t.name: Grid.of(t.dtype, t.quant)
            for t in model.main.inputs
            if t.quant is not None and t.dtype in LIMITS
        }

    def __call__(self, inputs: Inputs) -> dict[str, np.ndarray]:
        return {
            n: quantize(v, self._grids[n]) if n in self._grids and v.dtype.kind == "f" else v
            for n, v in inputs.items()
        }


def dequantized(model: Model, result: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A quantized model's outputs as real values, by tensor name."""
    real = {}
    for t in model.main.outputs:
        value = result[t.name]
        if t.quant is not None and t.dtype in LIMITS:
            value = dequantize(value, Grid.of(t.dtype, t.quant))
        real[t.name] = value
    return real
