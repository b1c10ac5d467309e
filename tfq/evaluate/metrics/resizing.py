"""Bilinear resizing of score maps, pixel centres at halves: `tf.image.resize(method="bilinear")`
without antialiasing, `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`.

Output pixel i lies at (i + 1/2) * in / out - 1/2 of the input, and beyond the border pixels'
centres has their values. Linear in the output's size.
"""

from __future__ import annotations

import numpy as np


def resized(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scores [height, width, channels] at another size.

    Args:
      scores: numbers, each map of one sample.
      size: (height, width) of the result.

    Returns:
      float32 [*size, channels].
    """
    found = np.asarray(scores, np.float32)
    for axis, length in enumerate(size):
        if found.shape[axis] != length:
            found = _along(found, axis, length)
    return found


def _along(values: np.ndarray, axis: int, length: int) -> np.ndarray:
    last = values.shape[axis] - 1
    at = np.clip((np.arange(length) + 0.5) * (last + 1) / length - 0.5, 0, last)
    low = np.floor(at).astype(np.intp)
    share = (at - low).astype(np.float32)
    share = share.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    below = np.take(values, low, axis)
    above = np.take(values, np.minimum(low + 1, last), axis)
    # So that equal neighbours give their value exactly.
    return np.asarray(below + (above - below) * share)
