"""Numbers as a person reads them, by the rules of the page (dom.js): both show the same digits.

Halves are rounded up, as a person does it: 0.125 becomes 0.13. What lies beyond 12 digits is noise
of floating point and is left out first: 92.395 becomes 92.40, though its float is a little below.
"""

from __future__ import annotations

import decimal
import math

_MEANT = decimal.Context(prec=12, rounding=decimal.ROUND_HALF_UP)
_EXACT = decimal.Context(prec=700, rounding=decimal.ROUND_HALF_UP)  # No float has more digits.


def fixed(value: float, digits: int, sign: str = "") -> str:
    """With so many decimals; what rounds to zero has no sign.

    Args:
      value: finite.
      digits: decimals.
      sign: "+" gives positive numbers a sign.
    """
    step = decimal.Decimal(1).scaleb(-digits)
    found = _MEANT.create_decimal(value).quantize(step, context=_EXACT)
    return f"{found:{sign}f}" if found else f"{abs(found):f}"


def chance(p: float) -> str:
    """A p-value with its relation, "= 0.064" or "< 0.0001": two significant digits."""
    if p < 0.0001:
        return "< 0.0001"
    return f"= {fixed(p, 1 - math.floor(math.log10(p))).rstrip('0').rstrip('.')}"


def percent(share: float) -> str:
    """A share of 1 in percent; only all is 100 %, and only nothing is 0 %."""
    x = share * 100
    if x in (0, 100):
        return f"{x:.0f} %"
    if x < 0.01:
        return "< 0.01 %"
    if 99.9 < x < 100:
        return "> 99.9 %"
    return f"{fixed(x, 2 if x < 1 else 1)} %"


def short(value: float) -> str:
    """Three significant digits."""
    if value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return fixed(value, max(0, 2 - math.floor(math.log10(abs(value)))))
