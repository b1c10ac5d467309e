"""Counts against numpy on values, and their sums in any order."""

import pickle

import numpy as np
import pytest

from tfq.errors import DataError
from tfq.evaluate.layers.tally import Buffers, Tally, columns, real
from tfq.graph.numerics import Grid, dequantize, quantize

GRIDS = {
    "int8": Grid("int8", (0.03,), (-20,)),
    "uint8": Grid("uint8", (0.03,), (120,)),
    "int16": Grid("int16", (1e-4,), (0,)),
}


def drawn(dtype, shape, seed=0):
    y = np.random.default_rng(seed).normal(0.1, 1.2, shape).astype(np.float32)
    grid = GRIDS[dtype]
    return y, quantize(y, grid), quantize(1.01 * y + 0.02, grid)


@pytest.mark.parametrize("dtype", GRIDS)
@pytest.mark.parametrize("shape", [(1, 90, 130, 3), (1, 31, 17, 7), (2, 2000), (1, 200_001), (5,)])
def test_counts_of_one_run_are_those_of_its_values(dtype, shape):
    y, alone, running = drawn(dtype, shape)
    grid = GRIDS[dtype]
    tally = Tally(grid, shape)
    tally.add(y, alone, running, Buffers())
    flat = y.reshape(-1, shape[-1]).astype(np.float64)
    step = grid.scale[0]
    for errors, q in ((tally.isolated, alone), (tally.accumulated, running)):
        off = (dequantize(q, grid).astype(np.float64).reshape(flat.shape) - flat) / step
        assert real(errors.squares) == pytest.approx(np.sum(off**2), rel=1e-5)
        assert real(errors.magnitudes) == pytest.approx(np.sum(np.abs(off)), rel=1e-5)
        assert errors.largest == pytest.approx(np.abs(off).max(), rel=1e-4)
        np.testing.assert_allclose(errors.bias(), off.sum(axis=0), rtol=1e-3, atol=0.1)
    assert real(tally.power) == pytest.approx(np.sum((flat / step) ** 2), rel=1e-5)
    lo, hi = (end + side * step / 2 for end, side in zip(grid.range(), (-1, 1), strict=True))
    assert tally.beyond == np.sum((flat < lo) | (flat > hi))
    assert np.array_equal(tally.low, flat.min(axis=0))
    assert np.array_equal(tally.high, flat.max(axis=0))
    integers = running.reshape(flat.shape)
    assert np.array_equal(tally.q_low, integers.min(axis=0))
    assert np.array_equal(tally.q_high, integers.max(axis=0))
    values, counts = np.unique(dequantize(running, grid), return_counts=True)
    assert np.array_equal(tally.values()[tally.counts > 0], values)
    assert np.array_equal(tally.counts[tally.counts > 0], counts)


def equal(a, b):
    one, other = a.__getstate__(), b.__getstate__()
    return all(np.array_equal(pickle.dumps(one[k]), pickle.dumps(other[k])) for k in one)


@pytest.mark.parametrize("dtype", GRIDS)
def test_the_order_of_runs_and_merging_changes_nothing(dtype):
    shape = (1, 50, 60, 5)
    runs = [drawn(dtype, shape, seed) for seed in range(6)]
    buffers = Buffers()

    def tallied(numbers):
        tally = Tally(GRIDS[dtype], shape)
        for n in numbers:
            tally.add(*runs[n], buffers)
        return tally

    whole = tallied(range(6))
    parts = [tallied(p) for p in ([4, 1], [5], [0, 3, 2])]
    merged = Tally(GRIDS[dtype], shape)
    for part in parts:
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert equal(whole, merged)
    assert whole.sketch == merged.sketch


def test_the_same_array_is_both_readings():
    y, alone, _ = drawn("int8", (1, 8, 8, 2))
    tally = Tally(GRIDS["int8"], y.shape)
    tally.add(y, alone, alone, Buffers())
    assert tally.isolated.squares == tally.accumulated.squares > 0
    assert np.array_equal(tally.isolated.channels, tally.accumulated.channels)


def test_absurd_values_are_counted_and_nan_is_not():
    grid = GRIDS["int8"]
    y = np.array([[1e30, -1e30, 3e38, 0.0]] * 2000, np.float32)
    q = quantize(y, grid)
    tally = Tally(grid, y.shape)
    tally.add(y, q, q, Buffers())
    assert real(tally.power) == pytest.approx(np.sum((y.astype(np.float64) / 0.03) ** 2), rel=1e-5)
    assert tally.beyond == 6000
    y[0, 0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        tally.add(y, q, q, Buffers())
    assert tally.beyond == 6000


@pytest.mark.parametrize("width", [1, 3, 16, 100, 511, 512, 700])
@pytest.mark.parametrize("rows", [1, 2, 37, 1000])
def test_columns_are_reduced_like_numpy_does(rows, width):
    values = np.random.default_rng(0).normal(0, 1, (rows, width)).astype(np.float32)
    assert np.array_equal(columns(np.maximum, values), values.max(axis=0))
    total = columns(np.add, values)
    assert total.shape == (width,)
    assert total == pytest.approx(values.sum(axis=0, dtype=np.float64), rel=1e-4, abs=1e-4)
