"""Rebinning against counting the values that bins stand for."""

import numpy as np
import pytest

from tfq.evaluate.layers.histogram import BINS, count_values, rebin
from tfq.observe.sketch import Sketch


@pytest.mark.parametrize(("low", "high"), [(-3.0, 5.0), (-0.5, 0.25), (0.0, 1e-3)])
def test_bins_of_a_sketch_become_linear_ones(low, high):
    values = np.random.default_rng(0).normal(0, 1, 100_000).clip(low, high).astype(np.float32)
    sketch = Sketch()
    sketch.update(values)
    bins = sketch.bins()
    found = np.cumsum(rebin(bins.lower, bins.upper, bins.counts, low, high))
    exact = np.cumsum(np.histogram(values.astype(np.float64), BINS, (low, high))[0])
    assert found[-1] == values.size
    # No further off than what one bin of the sketch holds.
    assert np.abs(found - exact).max() <= bins.counts.max() + 1


def test_points_stay_whole_and_spans_are_shared_out():
    lower, upper = np.array([0.0, 10.0]), np.array([0.0, 20.0])
    counts = rebin(lower, upper, np.array([7, 100]), 0.0, 64.0)
    assert counts == (7, *[0] * 9, *[10] * 10, *[0] * 44)


def test_exact_zeros_lie_in_the_bin_that_begins_with_zero():
    edges = np.array([-2.0, 1.0])
    counts = rebin(edges, edges + 1, np.array([10, 20]), -32.0, 32.0, zeros=5)
    assert counts == (*[0] * 30, 10, 0, 5, 20, *[0] * 30)


def test_what_lies_beyond_is_counted_at_the_ends():
    edges = np.array([-5.0, 64.0, 70.0])
    counts = rebin(edges, edges, np.array([2, 3, 4]), 0.0, 64.0)
    assert counts == (2, *[0] * 62, 7)
    assert count_values(np.array([-5.0, 64.0, 70.0]), 0.0, 64.0) == (1, *[0] * 62, 2)


def test_values_are_counted_as_numpy_counts_them():
    values = np.random.default_rng(1).uniform(-1, 3, (40, 50)).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    exact = np.histogram(values, BINS, (low, high))[0]
    # A value within float32 rounding of an edge may fall on either side.
    assert np.abs(np.cumsum(count_values(values, low, high)) - np.cumsum(exact)).max() <= 1
