"""Real values into a quantized model and out of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfq.graph.model import Model, Tensor
from tfq.graph.numerics import LIMITS, Grid, dequantize, quantize

Inputs = Mapping[str, np.ndarray]


def own_grid(t: Tensor) -> Grid | None:
    """The grid that a tensor's integers are on; None where it holds none, or no real numbers."""
    return Grid.of(t.dtype, t.quant) if t.quant is not None and t.dtype in LIMITS else None


class InputQuantizer:
    """Puts float samples on the input grids of a quantized model.

    Called with tensor name -> float values, gives tensor name -> what the model takes.
    """

    def __init__(self, model: Model):
        self._grids = {t.name: grid for t in model.main.inputs if (grid := own_grid(t)) is not None}

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
        grid = own_grid(t)
        real[t.name] = value if grid is None else dequantize(value, grid)
    return real
