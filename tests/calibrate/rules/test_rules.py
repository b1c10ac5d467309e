import dataclasses

import numpy as np
import pytest

from tfq.calibrate.rules import (
    MSE,
    RULES,
    Entropy,
    MeanStd,
    MinMax,
    MovingAverage,
    Octav,
    Percentile,
    Robust,
    get_rule,
)
from tfq.calibrate.rules.entropy import divergence, even_histogram
from tfq.calibrate.rules.mse import squared_error
from tfq.calibrate.rules.octav import clipping
from tfq.errors import DataError, UsageError
from tfq.observe.sketch import Sketch

RNG = np.random.default_rng(0)
SHAPES = {
    "normal": RNG.standard_normal(40_000),
    "laplace": RNG.laplace(size=40_000),
    "relu": np.maximum(RNG.standard_normal(40_000), 0),
    "shifted": RNG.standard_normal(40_000) * 0.3 + 2,
    "negative": -RNG.exponential(size=40_000),
    "skewed": np.concatenate([RNG.exponential(size=40_000), -0.1 * RNG.random(10_000)]),
}


def sketch_of(*samples, mode="full"):
    sketch = Sketch(mode)
    for sample in samples:
        sketch.update(np.asarray(sample, np.float32))
    return sketch


def brute_error(values, lo, hi, bits, symmetric):
    """The sum of squared errors of the values themselves, one grid at a time."""
    if symmetric:
        low, high = -(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1
        scale, zero = hi / high, 0
    else:
        low, high = 0, 2**bits - 1
        scale = (hi - lo) / high
        zero = np.round(-lo / scale)
    q = np.clip(np.round(values / scale) + zero, low, high)
    return float(np.sum((values - (q - zero) * scale) ** 2))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("symmetric", [True, False])
def test_every_range_holds_zero_and_is_observed(name, shape, symmetric):
    values = SHAPES[shape].astype(np.float32)
    lo, hi = get_rule(name)(sketch_of(values), bits=8, symmetric=symmetric)
    assert lo <= 0 <= hi
    assert hi - lo > 0.25 * (max(values.max(), 0) - min(values.min(), 0))
    if symmetric:
        assert lo == -hi
        assert hi <= np.abs(values).max()
    else:
        assert lo >= min(values.min(), 0)
        assert hi <= max(values.max(), 0)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_constants(name, value):
    lo, hi = get_rule(name)(sketch_of([value] * 9), bits=8, symmetric=False)
    assert (lo, hi) == pytest.approx((min(value, 0), max(value, 0)), rel=0.03)


@pytest.mark.parametrize("name", RULES)
def test_statistics_that_do_not_suffice(name):
    rule = get_rule(name)
    with pytest.raises(DataError, match="no values"):
        rule(Sketch(), bits=8, symmetric=False)
    sketch = sketch_of(SHAPES["normal"], mode="minmax")
    if rule.needs_histogram:
        with pytest.raises(DataError, match=f"{name}.*minmax"):
            rule(sketch, bits=8, symmetric=False)
    else:
        full = sketch_of(SHAPES["normal"])
        assert rule(sketch, bits=8, symmetric=True) == rule(full, bits=8, symmetric=True)


def test_minmax_is_exact():
    values = SHAPES["skewed"].astype(np.float32)
    assert MinMax()(sketch_of(values), bits=8, symmetric=False) == (values.min(), values.max())
    both = MinMax()(sketch_of(values), bits=8, symmetric=True)
    assert both == (-values.max(), values.max())


def test_moving_average_is_the_mean_of_extremes():
    samples = RNG.standard_normal((50, 300)) * RNG.uniform(0.5, 2, (50, 1))
    lo, hi = MovingAverage()(sketch_of(*samples), bits=8, symmetric=False)
    assert lo == pytest.approx(samples.min(1).mean(), rel=4e-3)
    assert hi == pytest.approx(samples.max(1).mean(), rel=4e-3)


@pytest.mark.parametrize("percent", [90.0, 99.0, 99.9])
def test_percentile_is_numpys(percent):
    cut = (100 - percent) / 2
    for values in SHAPES.values():
        lo, hi = Percentile(percent)(sketch_of(values), bits=8, symmetric=False)
        assert lo == pytest.approx(min(np.percentile(values, cut), 0), rel=0.02, abs=1e-9)
        assert hi == pytest.approx(max(np.percentile(values, 100 - cut), 0), rel=0.02, abs=1e-9)
        _, both = Percentile(percent)(sketch_of(values), bits=8, symmetric=True)
        assert both == pytest.approx(np.percentile(np.abs(values), percent), rel=0.02)


def test_mean_and_deviation():
    values = SHAPES["shifted"]
    lo, hi = MeanStd(2.0)(sketch_of(values - 2), bits=8, symmetric=False)
    values = values - 2
    assert lo == pytest.approx(values.mean() - 2 * values.std(), rel=0.01)
    assert hi == pytest.approx(values.mean() + 2 * values.std(), rel=0.01)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_squared_error_is_that_of_the_values(shape, bits, symmetric):
    values = SHAPES[shape].astype(np.float32).astype(np.float64)
    lo, hi = min(values.min(), 0) * 0.7, max(values.max(), 0) * 0.8
    if symmetric:
        hi = max(-lo, hi)
    estimate = squared_error(sketch_of(values).bins(), lo, hi, bits, symmetric)
    assert estimate == pytest.approx(brute_error(values, lo, hi, bits, symmetric), rel=0.02)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_mse_is_as_good_as_brute_force(shape, bits, symmetric):
    values = SHAPES[shape].astype(np.float32).astype(np.float64)[::4]
    low, high = min(values.min(), 0), max(values.max(), 0)
    fractions = np.linspace(0.1, 1, 31)
    if symmetric:
        m = max(-low, high)
        ranges = [(-m * f, m * f) for f in np.linspace(0.1, 1, 200)]
    else:
        ranges = {(low * a, high * b) for a in fractions for b in fractions}
    best = min(brute_error(values, lo, hi, bits, symmetric) for lo, hi in ranges)
    lo, hi = MSE()(sketch_of(values), bits=bits, symmetric=symmetric)
    assert brute_error(values, lo, hi, bits, symmetric) <= 1.02 * best


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("shape", ["normal", "laplace", "relu"])
def test_octav_is_the_least_of_its_cost(bits, shape):
    values = np.abs(SHAPES[shape])
    levels = 2 ** (bits - 1) - 1
    bins = sketch_of(values).bins()
    s = clipping(bins.centers, bins.counts, levels)
    values = values[values > 0]

    def cost(s):
        inside = values <= s
        return s**2 / (12 * levels**2) * inside.sum() + ((values[~inside] - s) ** 2).sum()

    best = min(cost(f * values.max()) for f in np.linspace(0.05, 1, 500))
    assert cost(s) <= 1.005 * best
    if shape != "relu":
        assert Octav()(sketch_of(values), bits=bits, symmetric=True) == pytest.approx((-s, s))


def test_even_histogram_shares_bins_out():
    values = np.concatenate([SHAPES["laplace"], np.full(500, 1.0), np.zeros(700)])
    histogram = even_histogram(sketch_of(values).bins().absolute(), 256)
    expected, _ = np.histogram(np.abs(values[values != 0]), 256, (0, np.abs(values).max()))
    assert histogram.sum() == pytest.approx(expected.sum())
    assert np.abs(np.cumsum(histogram) - np.cumsum(expected)).max() < 0.01 * expected.sum()


def test_divergence_is_its_definition():
    histogram = RNG.integers(0, 9, 96).astype(float)
    histogram[:3] = 1.0  # No empty level.
    for i, levels in ((96, 8), (64, 16), (50, 7)):
        p = histogram[:i].copy()
        p[-1] += histogram[i:].sum()
        q = np.zeros(i)
        for level in range(levels):
            members = [j for j in range(i) if j * levels // i == level and histogram[j] > 0]
            for j in members:
                q[j] = sum(histogram[m] for m in members) / len(members)
        assert (q[p > 0] > 0).all()
        p, q = p / p.sum(), q / q.sum()
        expected = sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
        assert divergence(histogram, i, levels) == pytest.approx(expected)


def test_entropy_clips_tails_but_not_a_uniform_or_fine_grid():
    heavy = sketch_of(RNG.standard_t(3, 200_000))
    lo, hi = Entropy()(heavy, bits=8, symmetric=True)
    assert hi < 0.7 * max(-heavy.min, heavy.max)
    even = sketch_of(RNG.uniform(0, 1, 200_000))
    assert Entropy()(even, bits=8, symmetric=False)[1] > 0.95
    lo, hi = Entropy()(heavy, bits=16, symmetric=True)
    assert (lo, hi) == (-max(-heavy.min, heavy.max), max(-heavy.min, heavy.max))


def activations(n, rng, spread=0.15, size=400):
    """Samples as a layer gives them: each of somewhat its own loudness."""
    return rng.standard_normal((n, size)) * np.exp(spread * rng.standard_normal((n, 1)))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 20, 50, 100, 200, 500])
@pytest.mark.parametrize("spread", [0.0, 0.15, 0.5])
def test_robust_is_minmax_on_ordinary_samples(n, spread):
    for seed in range(10):
        samples = activations(n, np.random.default_rng(seed), spread, 100)
        for values in (samples, np.maximum(samples, 0), np.minimum(samples, 6) + 1):
            sketch = sketch_of(*values)
            exact = MinMax()(sketch, bits=8, symmetric=False)
            assert Robust()(sketch, bits=8, symmetric=False) == exact


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 3])
def test_robust_drops_absurd_samples(seed, count):
    rng = np.random.default_rng(seed)
    samples = activations(200, rng)
    broken = samples.copy()
    broken[rng.permutation(200)[:count]] *= 20
    for clean, dirty in ((samples, broken), (np.maximum(samples, 0), np.maximum(broken, 0))):
        lo, hi = Robust()(sketch_of(*dirty), bits=8, symmetric=False)
        exact_lo, exact_hi = MinMax()(sketch_of(*clean), bits=8, symmetric=False)
        assert exact_lo * 1.01 <= lo <= exact_lo * 0.6
        assert exact_hi * 0.6 <= hi <= exact_hi * 1.01


def test_robust_keeps_what_many_samples_reach():
    rng = np.random.default_rng(0)
    samples = activations(200, rng)
    samples[:6] *= 20  # 3 %.
    sketch = sketch_of(*samples)
    exact = MinMax()(sketch, bits=8, symmetric=False)
    assert Robust()(sketch, bits=8, symmetric=False) == exact


def test_robust_with_few_samples_wants_more_evidence():
    rng = np.random.default_rng(0)
    for n, kept, dropped in ((10, 8, 3000), (20, 3, 100), (50, 1.2, 20)):
        for factor in (kept, dropped):
            samples = activations(n, rng, 0.05)
            samples[3] *= factor
            sketch = sketch_of(*samples)
            _, hi = Robust()(sketch, bits=8, symmetric=False)
            assert (hi == sketch.max) == (factor == kept)


def test_robust_mostly_keeps_heavy_tails():
    rejected = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        sketch = sketch_of(*(rng.pareto(3, (200, 1)) + 1), mode="minmax")
        rejected += Robust()(sketch, bits=8, symmetric=False)[1] < sketch.max
    assert rejected <= 30  # One of 200 samples, in 15 % of the tensors at worst.


def test_robust_says_how_far_it_goes():
    samples = activations(200, np.random.default_rng(1))
    samples[7] *= 20
    sketch = sketch_of(*samples)
    assert Robust(gap=10.0)(sketch, bits=8, symmetric=True)[1] == max(-sketch.min, sketch.max)


def test_robust_reaches_further_where_few_values_were_seen():
    samples = np.random.default_rng(2).standard_normal((40, 3))
    sketch = sketch_of(*samples)
    lo, hi = Robust()(sketch, bits=8, symmetric=False)
    for end, extremes, sign in ((lo, samples.min(axis=1), -1), (hi, samples.max(axis=1), 1)):
        further = np.sqrt(6) / np.pi * extremes.std() * np.log(200 / 40)
        assert sign * end == pytest.approx(max(sign * extremes) + further, rel=0.01)
    exact = MinMax()(sketch, bits=8, symmetric=False)
    assert Robust(expected=40)(sketch, bits=8, symmetric=False) == exact
    assert Robust(small=2)(sketch, bits=8, symmetric=False) == exact
    assert Robust(fewest=41)(sketch, bits=8, symmetric=False) == exact


@pytest.mark.parametrize(("few", "share"), [(24, 0.55), (60, 0.55), (150, 0.75)])
def test_robust_cuts_off_fewer_unseen_samples_and_does_not_waste_the_grid(few, share):
    rng = np.random.default_rng(3)
    cut = {"minmax": 0, "robust": 0}
    for _ in range(40):
        samples = rng.standard_normal((few + 400, 3)) * np.exp(0.2 * rng.standard_normal(3))
        sketch = sketch_of(*samples[:few], mode="minmax")
        widths = {}
        for rule in (MinMax(), Robust()):
            lo, hi = rule(sketch, bits=8, symmetric=False)
            unseen = samples[few:]
            cut[rule.name] += int(np.sum(((unseen < lo) | (unseen > hi)).any(axis=1)))
            widths[rule.name] = hi - lo
        assert widths["robust"] <= 1.7 * widths["minmax"]
    assert cut["robust"] < share * cut["minmax"]


def test_robust_keeps_a_bound_that_all_samples_reach():
    samples = np.clip(np.random.default_rng(4).standard_normal((40, 50)), -1, None)
    lo, hi = Robust()(sketch_of(*samples), bits=8, symmetric=False)
    assert lo == -1
    assert hi > samples.max()


def test_rules_by_name():
    assert get_rule("percentile") == Percentile(99.99)
    assert get_rule("percentile:99.9") == Percentile(99.9)
    assert get_rule("entropy:2048") == Entropy(2048)
    rule = MSE()
    assert get_rule(rule) is rule
    with pytest.raises(UsageError, match=r"range rule 'percentil'.*Did you mean 'percentile'"):
        get_rule("percentil")
    with pytest.raises(UsageError, match="takes a number, percent"):
        get_rule("percentile:high")
    with pytest.raises(UsageError, match="takes no parameter"):
        get_rule("minmax:3")
    with pytest.raises(UsageError, match=r"in \(0, 100\].*Received: 120\.0"):
        get_rule("percentile:120")
    with pytest.raises(UsageError, match="Received: 3"):
        get_rule(3)


@pytest.mark.parametrize("name", RULES)
def test_config_round_trip(name):
    rule = get_rule(name)
    for field in dataclasses.fields(rule):
        rule = dataclasses.replace(rule, **{field.name: getattr(rule, field.name) * 0.5})
        if isinstance(field.default, int):
            rule = dataclasses.replace(rule, **{field.name: field.default + 1})
    assert type(rule).from_config(rule.get_config()) == rule
    with pytest.raises(UsageError, match="takes the parameters"):
        type(rule).from_config({"rule": name, "colour": 1})
