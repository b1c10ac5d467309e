"""Blocks of samples: read in one process, decoded in another.

Reading has to be sequential and is done by whoever hands out work, so it does as little as it can:
raw rows are read in one piece, encoded images and records stay as they are. What costs (parsing,
decoding, checks, conversion) happens in `Block.decode`, in the worker that needs the block. Values
are checked for all rows at once; only if that fails are they looked at one by one, to name the
sample.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from tfq.data.fit import Fitter, RawRows, convert
from tfq.data.labels import form
from tfq.errors import DataError


class Payload(Protocol):
    """What a reader puts into a block; picklable."""

    @property
    def rows(self) -> int:
        """How many samples it holds."""

    @property
    def nbytes(self) -> int:
        """The size of the data in bytes."""

    def raw(self, fitter: Fitter, first: int, what: str) -> Iterable[RawRows]:
        """The samples, parsed and decoded; `first` is the number of the first, for messages."""


@dataclasses.dataclass(frozen=True)
class Decoded:
    """The samples of a block.

    Attributes:
      inputs: `ArgSpec.name` -> C-ordered array [n, *row shape] in the input's dtype. A row is the
        input without its batch dimension, or all of it where the inputs share no such dimension.
      labels: array [n, ...], structured where several outputs have labels (`labels`); a list of n
        arrays where their shapes differ (the boxes in images); None where the source has no labels.
    """

    inputs: dict[str, np.ndarray]
    labels: np.ndarray | list[np.ndarray] | None


@dataclasses.dataclass(frozen=True)
class Block:
    """Consecutive rows of a source, as cheap to make and to send as their raw bytes.

    Attributes:
      start: the number of its first row in the source.
      rows: how many rows.
      payload: the raw data.
      fitter: the model's inputs.
      what: names the source in messages.
      has_labels: every row must have a label.
    """

    start: int
    rows: int
    payload: Payload
    fitter: Fitter
    what: str
    has_labels: bool

    @property
    def nbytes(self) -> int:
        """The size of the raw data in bytes."""
        return self.payload.nbytes

    def decode(self) -> Decoded:
        """Parses, decodes, checks and converts the rows.

        Raises:
          DataError: a sample is damaged or does not fit; the message names it.
        """
        pieces: list[RawRows] = []
        try:
            # Kept as far as they come: of two samples that are wrong the first is reported.
            for piece in self.payload.raw(self.fitter, self.start, self.what):
                pieces.append(piece)
            return self._decoded(joined(pieces))
        except DataError:
            self._check_rows(pieces)
            raise

    def _decoded(self, pieces: Sequence[RawRows]) -> Decoded:
        what = f"Samples {self.start} and following of {self.what}"
        inputs = {}
        for spec in self.fitter.inputs:
            arrays = [
                convert(p.arrays[spec.name], spec.dtype, f"{what}: input {spec.name!r}")
                for p in pieces
            ]
            shapes = list(dict.fromkeys(a.shape[1:] for a in arrays))
            if len(shapes) > 1:
                raise DataError(
                    f"{what}: input {spec.name!r} must have one shape. "
                    f"Received: {shapes[0]} and {shapes[1]}."
                )
            inputs[spec.name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        if not self.has_labels:
            return Decoded(inputs, None)
        for piece in pieces:
            if piece.labels is None:
                raise missing_label(self.start, self.what)  # `_check_rows` finds out which.
        return Decoded(inputs, _gathered([p.labels for p in pieces if p.labels is not None]))

    def _check_rows(self, pieces: Iterable[RawRows]) -> None:
        """Raises the error of the first sample that is wrong, if one is."""
        number = self.start
        for piece in pieces:
            for row in self.fitter.converted(piece, number, self.what):
                if self.has_labels and row.label is None:
                    raise missing_label(number, self.what)
                number += 1


@dataclasses.dataclass(frozen=True)
class RawPayload:
    """Rows that are arrays already."""

    pieces: Sequence[RawRows]

    @property
    def rows(self) -> int:
        """How many samples it holds."""
        return sum(p.count for p in self.pieces)

    @property
    def nbytes(self) -> int:
        """The size of the arrays in bytes."""
        return sum(p.nbytes for p in self.pieces)

    def raw(self, fitter: Fitter, first: int, what: str) -> Iterable[RawRows]:
        """The pieces."""
        return self.pieces


def joined(pieces: Sequence[RawRows]) -> Sequence[RawRows]:
    """`pieces` as one, if shapes and dtypes agree; else as they are."""
    if len({_form(p) for p in pieces}) != 1 or len(pieces) == 1:
        return pieces
    arrays = {n: np.concatenate([p.arrays[n] for p in pieces]) for n in pieces[0].arrays}
    labels = [p.labels for p in pieces if p.labels is not None]
    return [RawRows(arrays, _gathered(labels) if labels else None, sum(p.count for p in pieces))]


def _gathered(parts: Sequence[Sequence[np.ndarray] | np.ndarray]) -> np.ndarray | list[np.ndarray]:
    """The labels of all parts as one new array, or as a list if their shapes differ."""
    if len(parts) == 1 and isinstance(parts[0], np.ndarray):
        return np.array(parts[0], parts[0].dtype.newbyteorder("="), order="C")
    rows = [np.asarray(label) for part in parts for label in part]
    return np.stack(rows) if len({form(row) for row in rows}) == 1 else rows


def _form(piece: RawRows) -> tuple[object, ...]:
    arrays = ((name, a.shape[1:], a.dtype) for name, a in piece.arrays.items())
    return (piece.labels is None, *arrays)


def missing_label(number: int, what: str) -> DataError:
    """The error for a sample without a label among others that have one."""
    return DataError(f"Sample {number} of {what} has no label; others have.")
