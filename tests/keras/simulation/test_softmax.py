"""The parts of SOFTMAX that are formulas of their own."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytestmark = pytest.mark.slow


def test_fixed_point_exponential() -> None:
    from tfq.keras.simulation.softmax import exp_on_negative_values

    for a in [0, -1, -(1 << 20), -(1 << 24), -(1 << 26), -(5 << 26), -(20 << 26), -(31 << 26)]:
        got = exp_on_negative_values(a) / 2**31
        assert got == pytest.approx(math.exp(a / 2**26), abs=1e-6)


def test_leading_zeros() -> None:
    from tfq.keras.simulation.softmax import _leading_zeros

    values = [v for p in range(1, 31) for v in (2**p - 1, 2**p, 2**p + 1)]
    got = _leading_zeros(np.array(values)).numpy()
    assert got.tolist() == [32 - v.bit_length() for v in values]


def test_interpolated_table_is_near_its_function() -> None:
    from tfq.keras.simulation.softmax import _look_up, _lut

    at = np.arange(-32768, 32768, 17)
    got = _look_up(_lut(math.exp, -10.0, 0.0), at).numpy() / 32768
    want = np.exp((at + 32768) / 65536 * 10 - 10)
    assert np.abs(got - want).max() < 1e-4
