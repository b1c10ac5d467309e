"""Scales of weights by the error they make at the layer's output.

Over fractions f of the min/max scale, per channel the least

    e^T H e,   e = s clip(rint(w / s), -top, top) - w,   s = f max|w| / top

with H the Gram matrix of the layer's inputs (`tfq.walk.gram`): where inputs are correlated, or some
are always small, this is not the least error of the weights themselves.

Cost: fractions * channels * d^2 multiplications.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FRACTIONS = tuple(float(f) for f in np.linspace(1.0, 0.3, 29))


def output_mse_scales(
    rows: np.ndarray,
    gram: np.ndarray,
    top: int,
    *,
    shared: bool = False,
    fractions: Sequence[float] = FRACTIONS,
) -> np.ndarray:
    """Args:
      rows: float weights [groups, channels of a group, d], as `weight_rows` gives them.
      gram: [groups, d, d].
      top: the largest integer, 127 for 8 bits; the least is -top.
      shared: one scale for all channels.
      fractions: of the min/max scale. On a tie the first wins.

    Returns:
      float32 scales [groups * channels], or [1] if shared; 0 where all weights are 0.
    """
    w, h = rows.astype(np.float32), gram.astype(np.float32)
    largest = np.abs(w).max(axis=2, initial=0.0) / top
    if shared:
        largest = np.full_like(largest, largest.max(initial=0.0))
    least = np.full(largest.shape, np.inf)
    best = np.ones(largest.shape)
    for fraction in fractions:
        scale = np.where(largest > 0, largest * np.float32(fraction), 1)[..., None]
        e = np.clip(np.rint(w / scale), -top, top) * scale - w
        error = np.einsum("gcd,gcd->gc", e @ h, e, dtype=np.float64)
        if shared:
            error = np.full_like(error, error.sum())
        better = error < least
        best, least = np.where(better, fraction, best), np.where(better, error, least)
    scales = (largest * best).astype(np.float32).reshape(-1)
    return scales[:1] if shared else scales
