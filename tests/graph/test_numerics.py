"""Grids: where real numbers become integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfq.graph.numerics import (
    FLOAT,
    LIMITS,
    MIN_SCALE,
    Grid,
    activation_grid,
    asymmetric_grid,
    dequantize,
    quantize,
    symmetric_grid,
    weight_grid,
)

REAL = st.floats(-1e6, 1e6, width=32)


@given(REAL, REAL, st.sampled_from(["int8", "uint8"]), st.floats(0, 1))
def test_zero_is_exact_and_every_value_in_the_range_is_within_half_a_step(a, b, dtype, where):
    lo, hi = min(a, b), max(a, b)
    grid = asymmetric_grid(lo, hi, dtype)
    (scale,), (zero,) = grid.scale, grid.zero_point
    assert LIMITS[dtype][0] <= zero <= LIMITS[dtype][1]
    assert quantize(np.zeros(1), grid)[0] == zero
    assert dequantize(np.array([zero]), grid)[0] == 0.0
    x = min(lo, 0.0) + where * (max(hi, 0.0) - min(lo, 0.0))
    q = quantize(np.array([x]), grid)
    step = (float(q[0]) - zero) * scale
    assert abs(step - x) <= scale * 0.5 * (1 + 1e-4)


@given(REAL, st.sampled_from(["int4", "int8", "int16"]))
def test_symmetric_grids_reach_their_bound_and_have_no_zero_point(bound, dtype):
    grid = symmetric_grid(bound, dtype)
    assert grid.zero_point == (0,)
    q = quantize(np.array([bound, -bound]), grid)
    if abs(bound) > LIMITS[dtype][1] * MIN_SCALE:
        assert sorted(q) == [-LIMITS[dtype][1], LIMITS[dtype][1]]
    assert grid.scale[0] >= np.float32(MIN_SCALE)


@given(REAL, REAL)
def test_scales_are_exactly_float32(a, b):
    for grid in (asymmetric_grid(a, b), symmetric_grid(a, "int16")):
        assert float(np.float32(grid.scale[0])) == grid.scale[0]


@given(
    st.integers(-128, 127),
    st.floats(np.float32(1e-6), 1e3, width=32),
    st.integers(-128, 127),
)
def test_integers_survive_the_way_to_real_and_back(q, scale, zero):
    grid = Grid("int8", (scale,), (zero,))
    assert quantize(dequantize(np.array([q]), grid), grid)[0] == q


def test_known_grids():
    assert asymmetric_grid(0, 1) == Grid("int8", (float(np.float32(1 / 255)),), (-128,))
    assert asymmetric_grid(-1, 1, "uint8").zero_point in ((127,), (128,))
    # A range that lies on one side of zero is widened to contain it.
    assert asymmetric_grid(2, 5) == asymmetric_grid(0, 5)
    assert asymmetric_grid(-5, -2) == asymmetric_grid(-5, 0)
    assert asymmetric_grid(-5, 0).zero_point == (127,)
    assert activation_grid(-1, 3, "int16") == symmetric_grid(3, "int16")
    assert activation_grid(-4, 3, "int16") == symmetric_grid(4, "int16")
    assert activation_grid(-1, 3, "int8") == asymmetric_grid(-1, 3)
    assert asymmetric_grid(0, 0).scale == (float(np.float32(MIN_SCALE)),)


def test_rounding_is_half_to_even_and_saturates():
    grid = Grid("int8", (1.0,), (0,))
    x = np.array([0.5, 1.5, 2.5, -0.5, 127.6, -500, 500])
    np.testing.assert_array_equal(quantize(x, grid), [0, 2, 2, 0, 127, -128, 127])
    np.testing.assert_array_equal(quantize(x, grid, narrow=True)[-2:], [-127, 127])


@pytest.mark.parametrize(("dtype", "storage"), [("int2", "int8"), ("int4", "int8"), ("int16",) * 2])
def test_small_types_saturate_at_their_own_limits(dtype, storage):
    q = quantize(np.array([-1e9, 1e9]), Grid(dtype, (1.0,), (0,)))
    assert q.dtype == storage
    assert tuple(q) == LIMITS[dtype]


def test_int64_saturates_without_wrapping():
    grid = Grid("int64", (1e-9,), (0,))
    q = quantize(np.array([1e12, -1e12, 2.0]), grid)
    assert q.dtype == np.int64
    assert q[0] > 2**62
    assert q[1] < -(2**62)
    assert q[2] == 2_000_000_000


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_per_axis_equals_channel_by_channel(axis):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (3, 4, 5))
    n = x.shape[axis]
    grid = weight_grid(rng.uniform(0.01, 0.1, n), "int8", axis)
    assert grid.axis == axis
    whole = quantize(x, grid)
    real = dequantize(whole, grid)
    for c in range(n):
        one = Grid("int8", (grid.scale[c],), (0,))
        part = quantize(np.take(x, c, axis), one)
        np.testing.assert_array_equal(np.take(whole, c, axis), part)
        np.testing.assert_array_equal(np.take(real, c, axis), dequantize(part, one))


def test_one_scale_has_no_axis():
    assert weight_grid(np.array([0.5]), "int8", 3) == Grid("int8", (0.5,), (0,), None)


def test_a_grid_and_the_files_parameters_are_the_same():
    grid = weight_grid(np.array([0.5, 0.25]), "int8", 1)
    assert Grid.of("int8", grid.quant()) == grid
    one = asymmetric_grid(-1, 2)
    assert Grid.of("int8", one.quant()) == one
    assert one.quant().zero_point.dtype == np.int64
    assert FLOAT.quant() is None
    assert not FLOAT.is_integer


def test_the_range_of_a_grid():
    assert Grid("int8", (0.5,), (-128,)).range() == (0.0, 127.5)
    assert Grid("int16", (1.0,), (0,)).range() == (-32768.0, 32767.0)
    lo, hi = asymmetric_grid(-1, 2).range()
    assert lo == pytest.approx(-1, abs=2 / 255)
    assert hi == pytest.approx(2, abs=2 / 255)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32])
def test_large_arrays_are_quantized_to_the_same_integers_as_small_ones(dtype, kind):
    grid = activation_grid(-3.0, 5.1, dtype)
    rng = np.random.default_rng(0)
    values = rng.normal(0, 3, (7, 100, 99)).astype(kind)
    # Ties, where float32 arithmetic would round another way.
    values.reshape(-1)[:1000] = ((np.arange(1000) - 500.5) * grid.scale[0]).astype(kind)
    large = quantize(values.transpose(0, 2, 1), grid)
    small = np.stack(
        [np.stack([quantize(r, grid) for r in image]) for image in values.transpose(0, 2, 1)]
    )
    assert large.dtype == small.dtype
    np.testing.assert_array_equal(large, small)
    assert large.shape == (7, 99, 100)


def test_a_grid_may_use_fewer_bits_than_its_type():
    values = np.array([-9.0, -2, -1, -0.4, 0.6, 1, 7, 9])
    grid = weight_grid(np.array([1.0]), "int8", None, 4)
    assert grid.limits == (-8, 7)
    np.testing.assert_array_equal(quantize(values, grid, narrow=True), [-7, -2, -1, 0, 1, 1, 7, 7])
    three = weight_grid(np.array([1.0, 1.0]), "int4", 0, 2)
    q = quantize(np.stack([values, values]), three, narrow=True)
    np.testing.assert_array_equal(q[1], [-1, -1, -1, 0, 1, 1, 1, 1])
    assert q.dtype == np.int8
    assert weight_grid(np.array([1.0]), "int4", None, 4) == weight_grid(
        np.array([1.0]), "int4", None
    )
