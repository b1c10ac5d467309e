"""Both readings by other ways of running the same ops, and figures by hand."""

import dataclasses
import math

import numpy as np
import pytest
from small_models import draw, plan_of

from tfq.evaluate.layers import analyse_layers
from tfq.graph.boundary import InputQuantizer
from tfq.graph.model import Graph, Model
from tfq.graph.numerics import Grid, dequantize, quantize
from tfq.runtime import Runner


def both(source, config=None, samples=None):
    """Prepared float bytes and the emitted bytes."""
    planned = plan_of(source, samples, config)
    return planned.prepared.bytes, planned.emit().model.to_bytes()


def analyse(source, config=None, count=5, **options):
    floats, quantized = both(source, config)
    samples = draw(floats, count, seed=3)
    return floats, quantized, samples, analyse_layers(floats, quantized, samples, **options)


def by_name(analysis):
    return {t.name: t for t in analysis.tensors}


def values_of(model, samples):
    """Name -> list of values, one for each sample, of all computed tensors."""
    graph = Model.from_bytes(model).main
    runner = Runner(model, keep_intermediates=True)
    quantizer = InputQuantizer(Model.from_bytes(model))
    read = {t for op in graph.ops for t in op.inputs} | set(graph.outputs)
    computed = [(i, t) for i, t in enumerate(graph.tensors()) if not t.is_const and t in read]
    found = {t.name: [] for _, t in computed}
    for sample in samples:
        runner.run(quantizer(sample))
        for i, t in computed:
            found[t.name].append(runner.tensor(i))
    return found


def reading_by_hand(expected, got, grid):
    y = np.stack(expected).astype(np.float64)
    off = np.stack([dequantize(q, grid) for q in got]).astype(np.float64) - y
    step = grid.scale[0]
    noise = np.sum(off**2)
    shifts = off.reshape(-1, y.shape[-1]).mean(axis=0)
    return {
        "sqnr_db": 10 * math.log10(np.sum(y**2) / noise) if noise else math.inf,
        "mean_lsb": np.mean(np.abs(off)) / step,
        "max_lsb": np.max(np.abs(off)) / step,
        "bias_lsb": abs(np.mean(off)) / step,
        "worst_bias_lsb": np.max(np.abs(shifts)) / step,
        "shift": np.mean(shifts**2) * off.size / noise if noise else 0.0,
    }


def assert_reading(reading, by_hand):
    assert dataclasses.asdict(reading) == pytest.approx(by_hand, rel=1e-4, abs=1e-4)


def grid_of(t):
    return Grid(t.dtype, (t.scale,), (t.zero_point,))


def alone(quantized, name, sources):
    """The op that computes `name` in a model of its own; returns a function of its inputs."""
    graph = Model.from_bytes(quantized).main
    ops, wanted = [], {name}
    for op in reversed(graph.ops):
        if any(t.name in wanted for t in op.outputs):
            ops.insert(0, op)
            wanted |= {t.name for t in op.inputs if t is not None and t.name not in sources}
    inputs = [t for t in graph.tensors() if t.name in sources]
    result = next(t for t in graph.tensors() if t.name == name)
    data = Model([Graph("alone", ops, inputs, [result])]).to_bytes()
    runner = Runner(data)
    grids = {t.name: Grid.of(t.dtype, t.quant) for t in inputs}

    def run(values):
        return runner.run({n: quantize(v, grids[n]) for n, v in values.items()})[name]

    return run


def assert_isolated(figures, quantized, floats):
    """The isolated reading is that of the op alone, fed with the float model's values."""
    run = alone(quantized, figures.name, figures.inputs)
    count = len(floats[figures.name])
    got = [run({n: floats[n][i] for n in figures.inputs}) for i in range(count)]
    by_hand = reading_by_hand(floats[figures.name], got, grid_of(figures))
    assert_reading(figures.isolated, by_hand)


def stacked(samples):
    return {n: np.stack([s[n] for s in samples]) for n in samples[0]}


def renamed(quantized, old, new):
    model = Model.from_bytes(quantized)
    next(t for t in model.main.tensors() if t.name == old).name = new
    return model.to_bytes()
