"""The five roundings against their definitions in Python's own integers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

pytestmark = pytest.mark.slow

MULTIPLIERS = [0.5, 1.0, 0.0009765625, 0.0123456789, 0.75, 0.3333333, 1.9999, 3.7, 2**-20]


def accumulators() -> np.ndarray:
    """Random ones, and those about halves of every small power of two."""
    rng = np.random.default_rng(0)
    halves = [
        s * (k * 2**p + d)
        for p in range(12)
        for k in (1, 3, 5)
        for d in (-1, 0, 1)
        for s in (1, -1)
    ]
    return np.concatenate([rng.integers(-(2**20), 2**20, 300), np.array(halves)])


def fixed(real: float) -> tuple[int, int]:
    mantissa, exponent = math.frexp(real)
    m = math.floor(Fraction(mantissa) * 2**31 + Fraction(1, 2))
    return (m // 2, exponent + 1) if m == 2**31 else (m, exponent)


def nearest_away(value: Fraction) -> int:
    size = math.floor(abs(value) + Fraction(1, 2))
    return size if value >= 0 else -size


def nearest_upward(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def doubling_high(a: int, b: int) -> int:
    """gemmlowp's own words: a nudge of the product's sign, then a division towards zero."""
    product = a * b
    total = product + ((1 << 30) if product >= 0 else 1 - (1 << 30))
    return math.trunc(Fraction(total, 2**31))


def twice(acc: int, real: float) -> int:
    m, e = fixed(real)
    return nearest_away(Fraction(doubling_high(acc << max(e, 0), m), 2 ** max(-e, 0)))


def twice_upward(acc: int, real: float) -> int:
    m, e = fixed(real)
    return nearest_upward(Fraction(doubling_high(acc << max(e, 0), m), 2 ** max(-e, 0)))


def once(acc: int, real: float) -> int:
    m, e = fixed(real)
    return nearest_upward(Fraction(acc * m) * Fraction(2) ** (e - 31))


def once_reduced(acc: int, real: float) -> int:
    m, e = fixed(real)
    short = nearest_upward(Fraction(m, 2**16)) if m < 0x7FFF0000 else 0x7FFF
    return nearest_upward(Fraction(acc * short) * Fraction(2) ** (e - 15))


def in_float32(acc: int, real: float) -> int:
    return int(np.rint(np.float32(acc) * np.float32(real)))


@pytest.mark.parametrize("rule", [twice, twice_upward, once, once_reduced, in_float32])
def test_roundings(rule) -> None:
    from tfq.keras.simulation import rounding

    acc = accumulators()
    for real in MULTIPLIERS:
        got = getattr(rounding, rule.__name__)(acc, np.float64(real)).numpy()
        np.testing.assert_array_equal(got, [rule(int(a), real) for a in acc], err_msg=str(real))


def test_a_multiplier_for_each_channel() -> None:
    from tfq.keras.simulation.rounding import once, once_reduced, twice, twice_upward

    acc = accumulators()[:, None] * np.ones(len(MULTIPLIERS), np.int64)
    for rule in (twice, twice_upward, once, once_reduced):
        together = rule(acc, np.array(MULTIPLIERS)).numpy()
        for i, real in enumerate(MULTIPLIERS):
            np.testing.assert_array_equal(together[:, i], rule(acc[:, i], np.float64(real)))


@pytest.mark.parametrize("real", [*MULTIPLIERS, 1 - 2**-40, 2.0**-31, 1e-3, 12345.678])
def test_fixed_multipliers_are_the_nearest(real: float) -> None:
    from tfq.keras.simulation.rounding import fixed_multiplier

    m, e = fixed_multiplier(real)
    assert 2**30 <= m < 2**31
    assert abs(Fraction(m) * Fraction(2) ** (e - 31) - Fraction(real)) <= Fraction(real) / 2**31


def test_a_multiplier_too_small_is_zero() -> None:
    from tfq.keras.simulation.rounding import fixed_multiplier

    assert fixed_multiplier(2.0**-40) == (0, 0)
    assert fixed_multiplier(0.0) == (0, 0)


def test_results_are_clamped_to_their_type() -> None:
    from tfq.keras.simulation.rounding import saturate

    got = saturate(np.array([-(2**40), -128, 0, 127, 2**40]), -128, 127, "int8").numpy()
    assert got.dtype == np.int8
    assert got.tolist() == [-128, -128, 0, 127, 127]
