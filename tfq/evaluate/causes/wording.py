"""How figures are written for a person."""

from __future__ import annotations

import math


def number(value: float, digits: int = 4) -> str:
    """Rounded to significant digits, never with an exponent where it is 0.0001 or more.

    Args:
      value: finite.
      digits: significant ones.

    Returns:
      As 0.00618, 38.3, 240 or 9,700.
    """
    if abs(value) < 1e-4:
        return f"{value:.{digits}g}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    text = f"{round(value, decimals):,.{max(decimals, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def span(ends: tuple[float, float]) -> str:
    """A range: "0 to 38.3"."""
    return f"{number(ends[0])} to {number(ends[1])}"
