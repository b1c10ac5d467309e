"""OCTAV: the clipping magnitude of least squared error, by a fixed-point iteration.

Sakr et al., "Optimal Clipping and Magnitude-aware Differentiation for Improved Quantization-aware
Training", ICML 2022. Rounding costs s^2/(12 q^2) for each non-zero value inside [-s, s], clipping
costs (|x| - s)^2 for each beyond; setting the derivative of the sum to zero gives

    s <- sum |x| [|x| > s]  /  (c #{0 < |x| <= s} + #{|x| > s}),     c = 1 / (12 q^2)

q is the number of levels on one side of zero, so c is exact rather than the paper's 4^-bits / 3.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from tfq.calibrate.rules.base import RangeRule
from tfq.observe.sketch import Sketch


@dataclasses.dataclass(frozen=True)
class Octav(RangeRule):
    """One clipping magnitude for both sides, by OCTAV's iteration (see the module)."""

    name: ClassVar[str] = "octav"

    def choose(self, sketch: Sketch, bits: int, symmetric: bool) -> tuple[float, float]:
        one_sided = not symmetric and (sketch.min >= 0 or sketch.max <= 0)
        levels = 2**bits - 1 if one_sided else 2 ** (bits - 1) - 1
        bins = sketch.bins().absolute()
        s = clipping(bins.centers, bins.counts, levels)
        return -s, s


def clipping(magnitudes: np.ndarray, counts: np.ndarray, levels: int) -> float:
    """The fixed point s for values of the given magnitudes (float64 [n], ascending; not all 0)."""
    nonzero = magnitudes > 0
    x, c = magnitudes[nonzero], counts[nonzero].astype(np.float64)
    if not x.size:
        return 0.0
    inside = np.concatenate([[0.0], np.cumsum(c)])
    total = np.concatenate([[0.0], np.cumsum(c * x)])
    cost = 1 / (12 * levels**2)
    s = total[-1] / inside[-1]
    for _ in range(100):
        i = np.searchsorted(x, s, side="right")
        beyond = inside[-1] - inside[i]
        following = (total[-1] - total[i]) / (cost * inside[i] + beyond)
        following = min(following, x[-1])
        if abs(following - s) <= 1e-6 * s:
            break
        s = following
    return float(s)
