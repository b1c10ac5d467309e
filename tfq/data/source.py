"""Samples as every later stage sees them, and the streams they come in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from tfq.data.blocks import Block, Payload, RawPayload, joined, missing_label
from tfq.data.fit import Element, Fitter, RawRows, Row
from tfq.data.labels import form
from tfq.errors import DataError, UsageError


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one run of the model takes.

    Attributes:
      index: position in the source, counted in runs of the model (with a batch of 1: in samples).
      inputs: `ArgSpec.name` -> array of exactly `ArgSpec.shape` (with batch) and dtype.
      label: labels of the real samples, shape (real, ...), or None.
      real: how many of the batch are samples of the source. Only the last one can have fewer than
        the batch size; the rest of the batch then repeats the real ones in turn.
    """

    index: int
    inputs: Mapping[str, np.ndarray]
    label: np.ndarray | None = None
    real: int = 1

    @property
    def nbytes(self) -> int:
        """Memory of the arrays in bytes."""
        return sum(a.nbytes for a in self.inputs.values()) + (
            0 if self.label is None else self.label.nbytes
        )


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a reader knows about its data before reading.

    Attributes:
      elements: starts reading. Called once, or any number of times if `repeatable`.
      description: names the data in messages ("digits.npz").
      count: number of samples (rows) if known, else None.
      has_labels: every element carries labels.
      repeatable: it can be read again.
      synthetic: the samples were made up.
      class_names: what the labels 0, 1, ... are called, where the data says.
      payloads: starts reading in blocks: from the number of rows in a block and the most rows to
        read (or None) to consecutive payloads. None: blocks are put together from elements.
    """

    elements: Callable[[], Iterator[Element]]
    description: str
    count: int | None = None
    has_labels: bool = False
    repeatable: bool = True
    synthetic: bool = False
    class_names: tuple[str, ...] | None = None
    payloads: Callable[[int, int | None], Iterator[Payload]] | None = None


class SampleSource:
    """A stream of `Sample`s, read lazily: one batch is in memory at a time.

    A source that is not `repeatable` (a generator) can be iterated once; a second time is a
    DataError rather than an empty loop. Models with a batch of N get N consecutive samples at
    once; see `Sample.real` for the last ones.

    Attributes:
      count: number of `Sample`s if known without reading, else None.
      rows: number of rows (samples of the data, whatever the batch) if known, else None.
      class_names: what the labels 0, 1, ... are called: a folder's sub-folders, the names in a
        CSV file. None where labels are just numbers.
      has_labels: the samples carry labels.
      description: "digits.npz, 200 samples".
      repeatable: it can be iterated again. Files and arrays then give the same samples; a shuffled
        dataset or a function of the user's may give others.
      synthetic: the samples were made up, so what is derived from them is not calibrated.
    """

    def __init__(self, reading: Reading, fitter: Fitter, limit: int | None = None):
        self._reading = reading
        self._fitter = fitter
        self._limit = limit
        self._started = False
        rows = reading.count
        if rows is not None and limit is not None:
            rows = min(rows, limit)
        if rows == 0:
            raise DataError(_empty(reading.description))
        self.rows = rows
        self.class_names = reading.class_names
        self.count = None if rows is None else -(-rows // fitter.batch)
        self.has_labels = reading.has_labels
        self.repeatable = reading.repeatable
        self.synthetic = reading.synthetic
        self.name = reading.description
        size = "" if rows is None else f", {rows} sample{'s' * (rows != 1)}"
        self.description = f"{reading.description}{size}"

    def __iter__(self) -> Iterator[Sample]:
        self._start()
        return self._samples()

    def blocks(self, rows: int) -> Iterator[Block]:
        """The rows in blocks that are cheap to read here and are decoded where they are needed.

        They hold the values that iterating gives, in the same order. Every block has exactly `rows`
        rows but the last, in whatever portions the data comes.

        Args:
          rows: rows (samples without the model's batch) in a block, at least 1.

        Raises:
          DataError: the data can be read only once, and has been; while reading: it is damaged, or
            has no samples. Values are checked by `Block.decode`.
          UsageError: `rows` is less than 1.
        """
        if rows < 1:
            raise UsageError(f"A block has at least one row. Received: rows={rows}.")
        self._start()
        return self._blocks(rows)

    def _start(self) -> None:
        if self._started and not self.repeatable:
            raise DataError(
                f"{self.name} can be read only once, and has been. "
                f"Give a function that returns a new generator."
            )
        self._started = True

    def _samples(self) -> Iterator[Sample]:
        batch = self._fitter.batch
        group: list[Row] = []
        index = 0
        for row in self._rows():
            group.append(row)
            if len(group) == batch:
                yield self._sample(index, group)
                index += 1
                group = []
        if group:
            yield self._sample(index, group)
        elif index == 0:
            raise DataError(_empty(self.name))

    def _rows(self) -> Iterator[Row]:
        number = 0
        if self._limit is not None and self._limit <= 0:
            return
        for element in self._reading.elements():
            for row in self._fitter.rows(element, number, self.name):
                if self.has_labels and row.label is None:
                    raise missing_label(number, self.name)
                yield row
                number += 1
                # Asked before the next element is pulled: a limit of 100 reads 100 samples.
                if number == self._limit:
                    return

    def _blocks(self, rows: int) -> Iterator[Block]:
        start = 0
        payloads = self._reading.payloads
        for payload in payloads(rows, self._limit) if payloads else self._collected(rows):
            yield Block(start, payload.rows, payload, self._fitter, self.name, self.has_labels)
            start += payload.rows
        if start == 0:
            raise DataError(_empty(self.name))

    def _collected(self, rows: int) -> Iterator[Payload]:
        """Elements of any size put together and cut into payloads of `rows` rows."""
        pieces: list[RawRows] = []
        missing, number = rows, 0
        if self._limit is not None and self._limit <= 0:
            return
        for element in self._reading.elements():
            raw = self._fitter.cut(element, number, self.name)
            end = raw.count if self._limit is None else min(raw.count, self._limit - number)
            start = 0
            while start < end:
                stop = min(start + missing, end)
                # A copy, since the next element may come in the same memory.
                pieces.append(raw.part(start, stop).copy())
                missing -= stop - start
                start = stop
                if not missing:
                    yield RawPayload(joined(pieces))
                    pieces, missing = [], rows
            number += end
            if number == self._limit:
                break
        if pieces:
            yield RawPayload(joined(pieces))

    def _sample(self, index: int, group: list[Row]) -> Sample:
        batch = self._fitter.batch
        inputs = {}
        for spec in self._fitter.inputs:
            rows = [group[i % len(group)].inputs[spec.name] for i in range(batch)]
            if not self._fitter.batched:
                inputs[spec.name] = rows[0]
            elif batch == 1:
                inputs[spec.name] = rows[0][np.newaxis]
            else:
                inputs[spec.name] = self._stack(rows, f"input {spec.name!r}", index)
        label = None
        if self.has_labels:
            labels = [row.label for row in group if row.label is not None]
            label = self._stack(labels, "the label", index)
        return Sample(index, inputs, label, len(group))

    def _stack(self, rows: list[np.ndarray], what: str, index: int) -> np.ndarray:
        forms = list(
            {form(row): row.dtype if row.dtype.names else row.shape for row in rows}.values()
        )
        if len(forms) > 1:
            raise DataError(
                f"Samples {index * len(rows)} and following of {self.name}: {what} must have one "
                f"shape. Received: {forms[0]} and {forms[1]}."
            )
        return np.stack(rows)


def _empty(name: str) -> str:
    return f"{name} has no samples. Give at least one; 100 to 500 are usual."
