"""Counts in equal linear bins, from counts in bins of any width."""

from __future__ import annotations

import numpy as np

BINS = 64


def rebin(
    lower: np.ndarray,
    upper: np.ndarray,
    counts: np.ndarray,
    low: float,
    high: float,
    zeros: int = 0,
) -> tuple[int, ...]:
    """Spreads counts evenly over their own bins, and collects them in `BINS` bins of [low, high].

    Bins of width 0 are points. What lies beyond an end is counted in the last bin there.

    Args:
      lower, upper: edges of the given bins, float64 [n]; ascending and not overlapping.
      counts: int [n].
      low, high: real values, low < high.
      zeros: so many more values are exactly 0.

    Returns:
      `BINS` counts with the sum of `counts` and `zeros`.
    """
    edges = np.linspace(low, high, BINS + 1)
    above = np.cumsum(counts)
    at = np.stack([lower, upper], axis=1).reshape(-1)
    below = np.stack([above - counts, above], axis=1).reshape(-1)
    # A point on an edge belongs to the bin that begins there.
    cumulative = np.interp(np.nextafter(edges, -np.inf), at, below) + zeros * (edges > 0)
    cumulative[0], cumulative[-1] = 0, above[-1] + zeros
    return tuple(int(n) for n in np.diff(np.rint(cumulative)))


def count_values(values: np.ndarray, low: float, high: float) -> tuple[int, ...]:
    """The same of values themselves, clipped to [low, high]; any shape."""
    scaled = (values.reshape(-1).astype(np.float32) - np.float32(low)) * np.float32(
        BINS / (high - low)
    )
    at = np.clip(scaled, 0, BINS - 1).astype(np.uint8)
    return tuple(int(n) for n in np.bincount(at, minlength=BINS))
