"""Views of tensors: stretches of rows, cut and joined at no cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from tfq.graph.model import Tensor


@dataclasses.dataclass(frozen=True)
class Piece:
    """Rows `start` to `stop` of `tensor`, along axis 0."""

    tensor: Tensor
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        return self.start == 0 and self.stop == self.tensor.shape[0]


def merged(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """The same rows in as few pieces as can be."""
    kept: list[Piece] = []
    for p in pieces:
        if p.rows <= 0:
            continue
        if kept and kept[-1].tensor is p.tensor and kept[-1].stop == p.start:
            kept[-1] = Piece(p.tensor, kept[-1].start, p.stop)
        else:
            kept.append(p)
    return tuple(kept)


def cut(pieces: Iterable[Piece], start: int, stop: int) -> list[Piece]:
    """Rows `start` to `stop` of the concatenated pieces."""
    found: list[Piece] = []
    at = 0
    for p in pieces:
        low, high = max(start, at), min(stop, at + p.rows)
        if low < high:
            found.append(Piece(p.tensor, p.start + low - at, p.start + high - at))
        at += p.rows
    return found
