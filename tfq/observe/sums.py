"""Sums of floating-point numbers over samples, the same to the bit however these are shared out.

Such sums depend on the order. Here the order is fixed: within a block of samples by their numbers,
and block after block. Blocks that come too early wait, so the state depends only on which blocks
were seen, and merging is associative and commutative.

Memory: one set of sums, and one more for each block that waits for an earlier one.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.errors import DataError


@dataclasses.dataclass
class _Block:
    end: int
    sums: tuple[np.ndarray, ...]


class OrderedSums:
    """Sums of arrays over numbered samples."""

    def __init__(self) -> None:
        self._done = _Block(0, ())
        self._waiting: dict[int, _Block] = {}
        self._open: _Block | None = None

    def begin(self, number: int) -> None:
        """What is added from now on is a block, which begins with sample `number`."""
        self._settle()
        if number < self._done.end or number in self._waiting:
            raise _seen_twice(number)
        self._open = self._waiting[number] = _Block(number, ())

    def add(self, number: int, *values: np.ndarray | float) -> None:
        """Adds the values of sample `number`, float64 arrays of the same shapes each time."""
        if self._open is None:
            self.begin(number)
        assert self._open is not None
        self._open.end = number + 1
        self._open.sums = _plus(self._open.sums, tuple(np.asarray(v, np.float64) for v in values))

    def merge(self, other: OrderedSums) -> None:
        """Adds the sums over other samples of the same data.

        Raises:
          DataError: both have seen a sample of the same number.
        """
        self._open = None
        blocks = dict(other._waiting)
        if other._done.end:
            blocks[0] = other._done
        for start, block in blocks.items():
            if (block.end > start and start < self._done.end) or start in self._waiting:
                raise _seen_twice(start)
            self._waiting[start] = _Block(block.end, tuple(s.copy() for s in block.sums))
        self._settle()

    def totals(self) -> tuple[np.ndarray, ...]:
        """The sums over all samples; nothing where there was none."""
        total: tuple[np.ndarray, ...] = tuple(s.copy() for s in self._done.sums)
        for _, block in sorted(self._waiting.items()):
            total = _plus(total, block.sums)
        return total

    @property
    def samples(self) -> int:
        return self._done.end + sum(b.end - start for start, b in self._waiting.items())

    def _settle(self) -> None:
        """Adds the blocks that follow what is done."""
        while (block := self._waiting.pop(self._done.end, None)) is not None:
            if block.end == self._done.end:
                break  # Empty.
            self._done = _Block(block.end, _plus(self._done.sums, block.sums))


def _plus(total: tuple[np.ndarray, ...], more: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    if not total:
        return tuple(m.copy() for m in more)
    for t, m in zip(total, more, strict=bool(more)):
        t += m
    return total


def _seen_twice(number: int) -> DataError:
    return DataError(
        f"Sample {number} was seen on both sides, so the sums cannot be merged. Merge observers "
        "that saw different samples of the same run."
    )
