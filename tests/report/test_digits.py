"""Numbers as a person reads them."""

import decimal

import numpy as np
import pytest

from tfq.report.digits import chance, fixed, percent, short


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (0.125, 2, "0.13"),
        (92.395, 2, "92.40"),  # The float is 92.3949999...
        (-2.5, 0, "-3"),
        (-0.0041 / 2 - 0.0052, 4, "-0.0073"),  # -0.0072499999999999995
        (-0.0004, 3, "0.000"),
        (1e-300, 1, "0.0"),
        (1e22, 1, "10000000000000000000000.0"),
    ],
)
def test_halves_go_up_and_zero_has_no_sign(value, digits, shown):
    assert fixed(value, digits) == shown
    assert fixed(-value, digits).lstrip("-") == shown.lstrip("-")


def test_the_sign_is_for_what_is_not_zero():
    assert [fixed(v, 1, "+") for v in (0.05, 0.04, -0.04, -0.05)] == ["+0.1", "0.0", "0.0", "-0.1"]


def test_the_decimal_nearest_to_what_is_written():
    rng = np.random.default_rng(0)
    for value in (rng.normal(size=500) * 10.0 ** rng.integers(-5, 6, 500)).tolist():
        for digits in (0, 2, 4):
            off = abs(decimal.Decimal(fixed(value, digits)) - decimal.Decimal(repr(value)))
            noise = decimal.Decimal(abs(value)) * decimal.Decimal("1e-11")
            assert off * 2 <= decimal.Decimal(1).scaleb(-digits) + noise


def test_chance_percent_and_three_digits():
    values = (1.0, 0.5, 0.125, 0.063568, 0.0006, 0.00099, 0.00009)
    shown = ["= 1", "= 0.5", "= 0.13", "= 0.064", "= 0.0006", "= 0.00099", "< 0.0001"]
    assert [chance(p) for p in values] == shown
    shares = (0, 1e-6, 0.005, 0.967, 0.9999, 1)
    assert [percent(s) for s in shares] == [
        "0 %", "< 0.01 %", "0.50 %", "96.7 %", "> 99.9 %", "100 %",
    ]  # fmt: skip
    assert [short(v) for v in (0, 0.4, 81.25, 1234.5, 1e-6)] == [
        "0",
        "0.400",
        "81.3",
        "1235",
        "1e-06",
    ]
