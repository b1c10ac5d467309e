import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfq.errors import DataError
from tfq.observe.sketch import Sketch

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
TENSORS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=6), elements=FINITE)


def sketch_of(samples, mode="full"):
    sketch = Sketch(mode)
    for sample in samples:
        sketch.update(sample)
    return sketch


@pytest.mark.parametrize("mode", ["full", "minmax"])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_split_and_order_gives_the_same_sketch(mode, data):
    samples = data.draw(st.lists(TENSORS, min_size=1, max_size=6))
    whole = sketch_of(samples, mode)
    shuffled = data.draw(st.permutations(samples))
    cut = data.draw(st.integers(0, len(samples)))
    first, second = sketch_of(shuffled[:cut], mode), sketch_of(shuffled[cut:], mode)
    assert first.merge(second) == whole
    assert second.merge(first) == whole
    assert Sketch.from_state(whole.state()) == whole
    assert whole.samples == len(samples)


@settings(max_examples=30, deadline=None)
@given(values=TENSORS)
def test_bins_hold_their_values(values):
    bins = sketch_of([values]).bins()
    flat = np.sort(values.reshape(-1).astype(np.float64))
    assert bins.counts.sum() == flat.size
    assert (np.diff(bins.centers) > 0).all()
    assert (bins.lower <= bins.centers).all()
    assert (bins.centers <= bins.upper).all()
    lower, upper = np.repeat(bins.lower, bins.counts), np.repeat(bins.upper, bins.counts)
    tiny = 2.0**-133  # What is smaller shares a bin with zero.
    assert (lower <= flat + tiny).all()
    assert (flat <= upper + tiny).all()
    normal = np.abs(bins.centers) > 1e-37
    assert (bins.upper - bins.lower)[normal] == pytest.approx(
        0, abs=np.abs(bins.centers[normal]).max(initial=0) / 127
    )


@pytest.mark.parametrize("size", [7, 8192, 8193, 300_001])
@pytest.mark.parametrize("relu", [True, False])
def test_counts_equal_bincount_for_every_size(size, relu):
    values = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    if relu:
        values = np.maximum(values, -0.0)  # Negative zeros stay where numpy leaves them.
        values[::3] = -0.0
    expected = np.bincount(values.view(np.uint32) >> 16, minlength=65536)
    expected[0] += expected[0x8000]
    expected[0x8000] = 0
    state = sketch_of([values[: size // 2], values[size // 2 :]]).state()
    index = np.flatnonzero(expected)
    np.testing.assert_array_equal(state["bins"], index)
    np.testing.assert_array_equal(state["counts"], expected[index])


def test_strided_values_and_large_counts():
    grid = np.arange(-20_000, 20_000, dtype=np.float32).reshape(200, 200)
    assert sketch_of([grid.T[::2]]) == sketch_of([np.ascontiguousarray(grid.T[::2])])
    # Past 2^32 values the counters widen; doubling 25 times takes 256 values there.
    sketch = sketch_of([np.full(256, 1.5, np.float32)])
    for _ in range(25):
        sketch = sketch.merge(sketch)
    assert sketch.count == 256 << 25
    sketch.update(np.full(9000, 1.5, np.float32))
    assert sketch.bins().counts.tolist() == [(256 << 25) + 9000]
    assert Sketch.from_state(sketch.state()) == sketch


def test_counters_widen_while_filling():
    state = sketch_of([np.zeros(10, np.float32)]).state()
    state["count"], state["counts"] = 2**32 - 1, np.array([2**32 - 1])
    sketch = Sketch.from_state(state)
    sketch.update(np.array([0.0, -1.0], np.float32))
    assert sketch.bins().counts.tolist() == [1, 2**32]


def test_extremes_of_each_sample_are_kept():
    sketch = sketch_of([np.array([-1.0, 4.0], np.float32), np.array([2.0, 4.0], np.float32)])
    assert (sketch.min, sketch.max, sketch.count) == (-1.0, 4.0, 4)
    low, high = sketch.sample_minima(), sketch.sample_maxima()
    assert low.counts.tolist() == [1, 1]
    assert low.upper[0] == pytest.approx(-1, rel=0.01)
    assert high.counts.tolist() == [2]
    assert high.centers.tolist() == [4.0]


@pytest.mark.parametrize(("bad", "said"), [(np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "inf")])
@pytest.mark.parametrize("mode", ["full", "minmax"])
def test_not_finite_is_refused_and_changes_nothing(bad, said, mode):
    sketch = sketch_of([np.ones(3, np.float32)], mode)
    with pytest.raises(DataError, match=said):
        sketch.update(np.array([1.0, bad, 2.0], np.float32))
    assert sketch == sketch_of([np.ones(3, np.float32)], mode)


def test_differences_are_seen():
    one = sketch_of([np.array([1.0, 2.0], np.float32)])
    assert one != sketch_of([np.array([1.0, 2.0], np.float32)] * 2)
    assert one != sketch_of([np.array([1.0, 2.0], np.float32)], "minmax")
    # The same values in other samples.
    assert sketch_of(np.array([[1, 5], [2, 6]], np.float32)) != sketch_of(
        np.array([[1, 2], [5, 6]], np.float32)
    )
    with pytest.raises(DataError, match="cannot be merged"):
        one.merge(sketch_of([np.ones(1, np.float32)], "minmax"))


def test_minmax_mode_has_no_bins():
    with pytest.raises(DataError, match="minmax"):
        sketch_of([np.ones(2, np.float32)], "minmax").bins()


def test_empty_tensor_changes_nothing():
    sketch = Sketch()
    sketch.update(np.zeros((0, 3), np.float32))
    assert sketch == Sketch()
    assert sketch.samples == 0


@pytest.mark.parametrize("mode", ["full", "minmax"])
def test_within_leaves_out_what_is_beyond(mode):
    sketch, near = Sketch(mode), Sketch(mode)
    ordinary = np.array([-2.0, 0.5, 3.0], np.float32)
    sketch.update(np.array([-1e30, *ordinary], np.float32))
    sketch.update(ordinary)
    near.update(ordinary)
    near.update(ordinary)
    assert near.within(1e29) is near
    inside = sketch.within(1e29)
    assert inside.min == pytest.approx(-2, rel=0.01)
    assert inside.max == 3
    if mode == "full":
        assert inside.count == 6
        np.testing.assert_array_equal(inside.bins().counts, near.bins().counts)
    assert sketch.min == np.float32(-1e30)


def test_within_of_nothing_inside_is_empty():
    sketch = Sketch()
    sketch.update(np.full(3, -1e30, np.float32))
    assert sketch.within(1e29).count == 0
