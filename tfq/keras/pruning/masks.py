"""Which weights stay: magnitude pruning in the patterns that hardware and formats know.

All functions take a kernel as [positions, inputs, outputs] (one matrix product for each position of
a convolution's window) and return the weights to keep, True, in the same shape. Counts are exact
and ties go by position: a mask is a function of the weights alone. Cost: linear in the weights.
"""

from __future__ import annotations

import re

import numpy as np

from tfq.errors import UsageError


def round_half_up(x: float) -> int:
    return int(np.floor(x + 0.5))


def lowest(scores: np.ndarray, count: int) -> np.ndarray:
    """True at exactly `count` of the flat `scores`: the lowest, of equal ones the first."""
    chosen = np.zeros(scores.size, bool)
    if count <= 0:
        return chosen
    if count >= scores.size:
        return ~chosen
    limit = np.partition(scores, count - 1)[count - 1]
    chosen[scores < limit] = True
    ties = np.flatnonzero(scores == limit)
    chosen[ties[: count - int(chosen.sum())]] = True
    return chosen


def unstructured(w: np.ndarray, sparsity: float) -> np.ndarray:
    """The largest magnitudes stay; round(sparsity * size) weights do not."""
    return ~lowest(np.abs(w).ravel(), round_half_up(sparsity * w.size)).reshape(w.shape)


def n_of_m(w: np.ndarray, n: int, m: int, share: float = 1.0) -> np.ndarray:
    """At most `n` of each `m` consecutive inputs stay ("2:4": 2 of 4).

    Args:
      w: [positions, inputs, outputs]. A last group shorter than `m` keeps at most `n` too.
      n, m: see above.
      share: of the groups that are pruned, for schedules: those that lose least come first.
    """
    positions, inputs, outputs = w.shape
    groups = -(-inputs // m)
    size = np.full((positions, groups * m, outputs), np.inf, np.float32)
    size[:, :inputs] = np.abs(w)  # What fills up the last group counts as kept last.
    size = size.reshape(positions, groups, m, outputs)
    real = np.isfinite(size)
    # Padding is ranked first among the pruned: a group of r < m inputs loses r - n, not m - n.
    rank = np.argsort(np.argsort(np.where(real, size, -1), axis=2, kind="stable"), axis=2)
    drop = (rank < m - n) & real
    if share < 1:
        loss = np.where(drop, np.where(real, size, 0), 0).sum(axis=2)
        pruned = lowest(loss.ravel(), round_half_up(share * loss.size)).reshape(loss.shape)
        drop &= pruned[:, :, None, :]
    return ~drop.reshape(positions, groups * m, outputs)[:, :inputs]


def block(w: np.ndarray, shape: tuple[int, int], sparsity: float) -> np.ndarray:
    """Blocks of `shape` (inputs, outputs) stay or go as one, by their mean magnitude.

    The matrix is [positions * inputs, outputs]; round(sparsity * blocks) blocks go. Those at the
    far edges may be smaller.
    """
    means, _ = block_means(np.abs(w), shape)
    drop = lowest(means.ravel(), round_half_up(sparsity * means.size)).reshape(means.shape)
    rows, columns = w.shape[0] * w.shape[1], w.shape[2]
    full = np.repeat(np.repeat(~drop, shape[0], axis=0), shape[1], axis=1)
    return full[:rows, :columns].reshape(w.shape)


def block_means(w: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(mean, element count) of each block of [positions, inputs, outputs] as one matrix."""
    matrix = w.reshape(-1, w.shape[2])
    rows, columns = (-(-d // b) for d, b in zip(matrix.shape, shape, strict=True))
    padded = np.zeros((rows * shape[0], columns * shape[1]), np.float64)
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    ones = np.zeros_like(padded)
    ones[: matrix.shape[0], : matrix.shape[1]] = 1
    split = (rows, shape[0], columns, shape[1])
    counts = ones.reshape(split).sum(axis=(1, 3))
    return padded.reshape(split).sum(axis=(1, 3)) / counts, counts


def parse_n_of_m(pattern: str) -> tuple[int, int] | None:
    """(2, 4) for "2:4"; None for what is no such pattern.

    Raises:
      UsageError: numbers that make no sense ("4:2").
    """
    found = re.fullmatch(r"(\d+):(\d+)", pattern)
    if not found:
        return None
    n, m = int(found[1]), int(found[2])
    if not 0 < n < m:
        raise UsageError(f"In a pattern N:M, N of M weights stay. Received: {pattern!r}.")
    return n, m
