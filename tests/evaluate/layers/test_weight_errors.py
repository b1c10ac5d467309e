"""Weights against the float ones."""

import dataclasses
import math

import numpy as np
import pytest
from layers_by_hand import (
    both,
)
from small_models import cnn, draw

from tfq.evaluate.layers import analyse_layers
from tfq.graph.model import Model
from tfq.graph.numerics import Grid, dequantize, quantize, weight_grid
from tfq.graph.optable import op_version


def with_4_bit_logits(quantized, floats):
    """The same model with 4-bit weights in its dense layer."""
    model = Model.from_bytes(quantized)
    op = next(op for op in model.main.ops if op.name == "FULLY_CONNECTED")
    x, weights, bias = op.inputs
    real = next(t for t in Model.from_bytes(floats).main.tensors() if t.name == weights.name)
    scales = np.abs(real.values()).max(axis=1) / 7
    grid = weight_grid(scales, "int4", 0)
    weights.dtype, weights.quant = "int4", grid.quant()
    weights.data = quantize(real.values(), grid, narrow=True)
    biases = dequantize(bias.data, Grid.of(bias.dtype, bias.quant))
    bias.quant = dataclasses.replace(bias.quant, scale=x.quant.scale * grid.quant().scale)
    bias.data = np.rint(biases / bias.quant.scale).astype(np.int32)
    op.version = op_version(op)
    return model.to_bytes()


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_are_compared_with_the_float_ones(bits):
    floats, quantized = both(cnn())
    if bits == 4:
        quantized = with_4_bit_logits(quantized, floats)
    analysis = analyse_layers(floats, quantized, draw(floats, 3, seed=3))
    constants = {t.name: t for t in Model.from_bytes(floats).main.tensors() if t.is_const}
    own = {t.name: t for t in Model.from_bytes(quantized).main.tensors() if t.is_const}
    weighted = [t for t in analysis.tensors if t.weights is not None]
    ops = ["CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]
    assert [t.op for t in weighted] == ops
    assert weighted[-1].weights.bits == bits
    for t in weighted:
        w = t.weights
        real = constants[w.name].values().astype(np.float64)
        given = own[w.name]
        off = dequantize(given.values(), Grid.of(given.dtype, given.quant)) - real
        assert w.sqnr_db == pytest.approx(10 * math.log10(np.sum(real**2) / np.sum(off**2)))
        assert w.dtype == given.dtype == f"int{w.bits}"
        assert w.per_channel
        axis = 3 if t.op == "DEPTHWISE_CONV_2D" else 0
        peaks = np.abs(np.moveaxis(real, axis, 0).reshape(real.shape[axis], -1)).max(axis=1)
        assert w.imbalance == pytest.approx(peaks.max() / np.median(peaks))
        assert sum(w.histogram.float_counts) == sum(w.histogram.quantized_counts) == real.size
