"""Scales of weights: symmetric, per tensor or per channel."""

from __future__ import annotations

import numpy as np

from tfq.errors import ModelError, UsageError, unknown_option

WEIGHT_RULES = ("minmax", "mse")

# A scale of zero, or one whose product with an activation's is no normal float, makes a model that
# does not load. A channel a millionth of the largest is as good as zero beside it.
SCALE_FLOOR = 1e-18
RELATIVE_FLOOR = 1e-6  # Of the largest channel's scale.

_BLOCK = 1 << 20  # Values worked on at a time by the search.


def weight_scales(
    weights: np.ndarray, *, axis: int | None, bits: int, rule: str = "minmax"
) -> np.ndarray:
    """Scales of the symmetric narrow grid [-q, q], q = 2**(bits-1) - 1, zero point 0.

    Args:
      weights: float, any shape.
      axis: the channels' dimension; None for one scale over all.
      bits: 2 to 16.
      rule: "minmax" (the largest magnitude lands on q), or "mse" (the least squared error between
        weights and dequantized weights: searched per channel over fractions of that, exact for the
        three levels of 2 bits).

    Returns:
      float32 [channels], or [1] without an axis. No scale is below `SCALE_FLOOR`, nor below a
      millionth of the largest.

    Raises:
      ModelError: a weight is NaN or infinite.
      UsageError: an unknown rule, or bits out of range.
    """
    if rule not in WEIGHT_RULES:
        raise unknown_option("weight rule", rule, WEIGHT_RULES)
    if not 2 <= bits <= 16:
        raise UsageError(f"Weights have 2 to 16 bits. Received: {bits}.")
    if axis is None:
        rows = weights.reshape(1, -1)
    else:
        rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
    if not rows.size:
        return np.full(rows.shape[0], SCALE_FLOOR, np.float32)
    top = 2 ** (bits - 1) - 1
    largest = np.maximum(rows.max(axis=1), -rows.min(axis=1)).astype(np.float64)
    if not np.isfinite(largest).all():
        raise ModelError("holds NaN or infinite weights")
    scales = largest / top
    if rule == "mse":
        best = _ternary(rows) if top == 1 else scales * _best_fractions(rows, scales, top)
        scales = np.where(scales > 0, best, scales)
    return np.maximum(scales, max(SCALE_FLOOR, RELATIVE_FLOOR * float(scales.max()))).astype(
        np.float32
    )


def _ternary(rows: np.ndarray) -> np.ndarray:
    """For each row the scale s of the levels -s, 0, s with the least squared error.

    Where the k largest magnitudes become s, the error is least for s their mean m_k, and it is the
    sum of squares less k m_k^2: the best k is that of the largest k m_k^2, found by sorting.
    """
    count = np.arange(1, rows.shape[1] + 1, dtype=np.float64)
    best = np.empty(rows.shape[0])
    for i, row in enumerate(rows):
        mean = np.cumsum(-np.sort(-np.abs(row).astype(np.float64))) / count
        best[i] = mean[np.argmax(count * mean * mean)]
    return best


def _best_fractions(rows: np.ndarray, scales: np.ndarray, top: int) -> np.ndarray:
    """For each row the fraction of its scale with the least squared rounding error."""
    best = np.ones(scales.size)
    per_block = max(1, _BLOCK // rows.shape[1])
    for start in range(0, scales.size, per_block):
        block = slice(start, start + per_block)
        best[block] = _search(rows[block], scales[block], top)
    return best


def _search(rows: np.ndarray, scales: np.ndarray, top: int) -> np.ndarray:
    # In units of the min/max scale, in float32: half the memory traffic of float64.
    unit = (rows / np.where(scales > 0, scales, 1.0)[:, None]).astype(np.float32)

    def errors(fractions: np.ndarray) -> np.ndarray:
        f = fractions.astype(np.float32)[:, None]
        levels = unit / f
        np.round(levels, out=levels)
        np.clip(levels, -top, top, out=levels)
        levels *= f
        levels -= unit
        return np.einsum("ij,ij->i", levels, levels)

    best = np.ones(scales.size)
    least = errors(best)

    def consider(candidates: np.ndarray) -> None:
        nonlocal best, least
        error = errors(candidates)
        better = error < least
        best, least = np.where(better, candidates, best), np.where(better, error, least)

    ratio = (0.05 / 0.97) ** (1 / 39)
    # Few levels cut off a lone outlier that 127 hold beside the rest.
    for step in range(40 if top > 7 else 64):
        consider(np.full(scales.size, 0.97 * ratio**step))
    for depth in (4, 16):
        center = best
        for step in (-3, -2, -1, 1, 2, 3):
            consider(np.minimum(center * ratio ** (step / depth), 1.0))
    return best
