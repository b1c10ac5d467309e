import numpy as np
import pytest
from scipy import stats

from tfq.evaluate.causes import noise

RNG = np.random.default_rng(0)
MIXED = np.concatenate([RNG.normal(0, 1, 200_000), RNG.uniform(60, 100, 40)])[:, None]
NORMAL = RNG.normal(0.3, 1, (100_000, 1))


def brute(values, lo, hi, bits=8):
    scale = (hi - lo) / (2**bits - 1)
    bottom = round(lo / scale)
    levels = np.clip(np.rint(values / scale), bottom, bottom + 2**bits - 1)
    return np.mean((values - levels * scale) ** 2)


def test_power_and_mean_of_a_histogram(figures_of):
    bins = noise.bins_of(figures_of(NORMAL))
    assert noise.power(bins) == pytest.approx(np.mean(NORMAL**2), rel=0.01)
    assert noise.mean(bins) == pytest.approx(NORMAL.mean(), abs=0.02)
    assert bins.counts.sum() == pytest.approx(NORMAL.size)


@pytest.mark.parametrize("ends", [(-1.0, 2.0), (0.0, 0.5), (-5.0, 5.0)])
def test_clipping_is_the_mean_square_beyond_the_ends(figures_of, ends):
    bins = noise.bins_of(figures_of(NORMAL))
    expected = np.mean((NORMAL - np.clip(NORMAL, *ends)) ** 2)
    assert noise.clipping(bins, *ends) == pytest.approx(expected, rel=0.03, abs=1e-6)


@pytest.mark.parametrize("ends", [(-4.0, 4.0), (-2.0, 3.0), (-3.0, 60.0)])
def test_noise_on_a_grid_is_that_of_rounding_the_values(figures_of, ends):
    bins = noise.bins_of(figures_of(NORMAL))
    assert noise.on_grid(bins, *ends, 8) == pytest.approx(brute(NORMAL, *ends), rel=0.05)


def test_a_constant_tensor_on_an_empty_grid_is_all_noise(figures_of):
    t = figures_of(np.full((10, 1), 2.0), ends=(0.0, 2.0))
    assert noise.on_grid(noise.bins_of(t), 0.0, 0.0, 8) == pytest.approx(4.0)


def test_bins_are_cut_at_the_percentiles(figures_of):
    # 40 of 200,040 values lie beyond 60: twice what the percentile range leaves out on one side.
    t = figures_of(MIXED, bins=16)
    bins = noise.bins_of(t)
    assert bins.counts.sum() == pytest.approx(MIXED.size)
    lo, hi = t.percentile_range
    assert bins.counts[bins.lower >= hi].sum() == pytest.approx(0.5e-4 * MIXED.size, rel=0.05)
    assert bins.counts[bins.upper <= lo].sum() == pytest.approx(0.5e-4 * MIXED.size, rel=0.05)


@pytest.mark.parametrize(
    "values", [NORMAL, MIXED, stats.t.rvs(3, size=(50_000, 1), random_state=1)]
)
def test_the_best_range_is_nearly_the_best_of_all(figures_of, values):
    bins = noise.bins_of(figures_of(values, bins=512))
    lo, hi = float(values.min()), float(values.max())
    found = noise.on_grid(bins, *noise.best_range(bins, lo, hi, 8), 8)
    tries = [
        noise.on_grid(bins, lo * a, hi * b, 8)
        for a in np.geomspace(1, 0.01, 40)
        for b in np.geomspace(1, 0.01, 40)
    ]
    assert found <= min(tries) * 1.25


def test_decibels_and_back():
    assert noise.decibel(0.01) == pytest.approx(20)
    assert noise.relative(20) == pytest.approx(0.01)
    assert noise.decibel(0.0) == np.inf
    assert noise.relative(np.inf) == 0.0
