"""Arrays whose first axis is samples, wherever they are, and how they join into samples."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tfq.data.blocks import Payload, RawPayload
from tfq.data.fit import Element, Fitter, RawRows, aliases, bind, label_array
from tfq.data.labels import gathered, rows_of, structure
from tfq.data.source import Reading
from tfq.errors import DataError
from tfq.graph.interface import ArgSpec


@dataclasses.dataclass(frozen=True)
class Column:
    """One array whose first axis is samples, and how to read it.

    Attributes:
      shape: of the whole array.
      dtype: of the values.
      rows: starts reading, one index of the first axis after the other.
      blocks: starts reading several at once: see `Blocks`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    rows: Callable[[], Iterator[np.ndarray]]
    blocks: Callable[[Blocks], Iterator[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How an array is cut into blocks.

    Attributes:
      per: how many rows an index of the first axis holds.
      shape: of one row.
      rows: how many rows a block has, but for the last.
      total: how many rows are read.
    """

    per: int
    shape: tuple[int, ...]
    rows: int
    total: int

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """First row and end of every block."""
        for start in range(0, self.total, self.rows):
            yield start, min(start + self.rows, self.total)

    def of(self, array: np.ndarray) -> Iterator[np.ndarray]:
        """The blocks of an array in memory, as views where its layout allows."""
        for start, stop in self:
            first, last = start // self.per, -(-stop // self.per)
            rows = array[first:last].reshape((last - first) * self.per, *self.shape)
            yield rows[start - first * self.per : stop - first * self.per]


def memory_columns(arrays: Mapping[str, Any], what: str) -> dict[str, Column]:
    """Columns over arrays that are in memory already."""
    columns = {}
    flat = {
        f"{name}/{part}" if part else name: array
        for name, value in arrays.items()
        for part, array in (value.items() if isinstance(value, Mapping) else [("", value)])
    }
    for name, value in flat.items():
        try:
            array = np.asarray(value)
        except (ValueError, TypeError) as e:
            raise DataError(f"{what}: {name!r} is no array: {e}.") from None
        columns[name] = Column(
            array.shape,
            array.dtype,
            functools.partial(iter, array),
            functools.partial(Blocks.of, array=array),
        )
    return columns


def columns_reading(columns: Mapping[str, Column], fitter: Fitter, what: str) -> Reading:
    """Joins columns into samples, after checking all that can be checked before reading.

    Raises:
      DataError: names, lengths, shapes or dtypes do not fit.
    """
    inputs = [alias for spec in fitter.inputs for alias in aliases(spec)]
    plain, fields = gathered(columns, inputs, what)
    columns = {**plain, **{key: _together(parts, what) for key, parts in fields.items()}}
    bound, label = bind(columns, fitter.inputs, what)
    if _is_one_run({s: columns[bound[s.name]] for s in fitter.inputs}, fitter):
        keys = [*bound.values(), *([label] if label else [])]
        columns = {key: _as_row(columns[key]) for key in keys}
    for spec in fitter.inputs:
        column = columns[bound[spec.name]]
        if column.dtype.kind not in "biuf" and column.dtype.name != "bfloat16":
            raise DataError(
                f"{what}: {bound[spec.name]!r} has dtype {column.dtype}, which input "
                f"{spec.name!r} ({spec.dtype}) cannot take. Give real numbers."
            )
        if column.shape and column.shape[0] and not fitter.split_shape(column.shape[1:], spec):
            message = fitter.shape_message(spec, column.shape[1:])
            if fitter.split_shape(column.shape, spec):
                message += " The array seems to be one sample: add an axis for the samples."
            raise DataError(f"{what}: {message}")
    used = {k: columns[k] for k in [*bound.values(), *([label] if label else [])]}
    for key, column in used.items():
        if not column.shape:
            raise DataError(
                f"{what}: {key!r} is a single number. Samples go along the first axis of an array."
            )
    lengths = {key: column.shape[0] for key, column in used.items()}
    if len(set(lengths.values())) > 1:
        each = ", ".join(f"{key!r} {n}" for key, n in lengths.items())
        raise DataError(
            f"{what}: the arrays have different numbers of samples: {each}. "
            f"They belong together row by row."
        )

    def elements() -> Iterator[Element]:
        iterators = {key: column.rows() for key, column in used.items()}
        for values in zip(*iterators.values(), strict=True):
            row = dict(zip(iterators, values, strict=True))
            yield Element(
                {name: row[key] for name, key in bound.items()}, row[label] if label else None
            )

    fits = {s.name: fitter.split_shape(columns[bound[s.name]].shape[1:], s) for s in fitter.inputs}
    per = [fit[0] for fit in fits.values() if fit]
    count = columns[bound[fitter.inputs[0].name]].shape[0] * ((per[0] if per else 1) or 1)
    # What a row is must be the same for all, or else single elements say what is wrong.
    regular = len(set(per)) == 1 and (
        not label or per[0] is None or columns[label].shape[1:2] == (per[0],)
    )
    shapes = {bound[name]: fit[1] for name, fit in fits.items() if fit}
    if label:
        shapes[label] = columns[label].shape[1 if not per or per[0] is None else 2 :]

    def payloads(rows: int, limit: int | None) -> Iterator[Payload]:
        total = count if limit is None else min(count, limit)
        cuts = {key: Blocks(per[0] or 1, shape, rows, total) for key, shape in shapes.items()}
        streams = [used[key].blocks(cut) for key, cut in cuts.items()]
        for start, arrays in zip(range(0, total, rows), zip(*streams, strict=True), strict=True):
            block = dict(zip(cuts, arrays, strict=True))
            inputs = {name: block[key] for name, key in bound.items()}
            labels = None
            if label:
                labels = label_array(block[label], f"Sample {start} of {what}: the label")
            yield RawPayload([RawRows(inputs, labels, min(rows, total - start))])

    return Reading(
        elements,
        what,
        count,
        has_labels=label is not None,
        payloads=payloads if regular else None,
    )


def _together(parts: Mapping[str, Column], what: str) -> Column:
    """Labels by output as one column of structured rows."""
    for name, column in parts.items():
        if not column.shape or column.dtype.kind not in "biuf":
            raise DataError(
                f"{what}: the labels of {name!r} have dtype {column.dtype} and shape "
                f"{column.shape}. Give numbers, a label for each sample."
            )
    lengths = {name: column.shape[0] for name, column in parts.items()}
    if len(set(lengths.values())) > 1:
        each = ", ".join(f"{name!r} {n}" for name, n in lengths.items())
        raise DataError(f"{what}: outputs have different numbers of labels: {each}.")
    shapes = {name: column.shape[1:] for name, column in parts.items()}
    dtype = structure({name: column.dtype for name, column in parts.items()}, shapes)

    def rows() -> Iterator[np.ndarray]:
        for values in zip(*(column.rows() for column in parts.values()), strict=True):
            yield rows_of({n: v[np.newaxis] for n, v in zip(parts, values, strict=True)})[0, ...]

    def blocks(cuts: Blocks) -> Iterator[np.ndarray]:
        streams = [
            column.blocks(dataclasses.replace(cuts, shape=shapes[name]))
            for name, column in parts.items()
        ]
        for values in zip(*streams, strict=True):
            yield rows_of(dict(zip(parts, values, strict=True)))

    return Column((next(iter(lengths.values())),), dtype, rows, blocks)


def _is_one_run(columns: Mapping[ArgSpec, Column], fitter: Fitter) -> bool:
    """Whether arrays for inputs without a batch dimension are those of one sample, as they are."""
    if fitter.batched:
        return False
    several = [bool(c.shape) and fitter.split_shape(c.shape[1:], s) for s, c in columns.items()]
    whole = [c.shape != () and fitter.split_shape(c.shape, s) for s, c in columns.items()]
    return not all(several) and all(fit and fit[0] is None for fit in whole)


def _as_row(column: Column) -> Column:
    """The whole array as the only row; one along a first axis of 1 already stays."""
    if column.shape[:1] in ((), (1,)):
        return column
    shape = (1, *column.shape)

    def whole() -> np.ndarray:
        return np.stack([*column.rows()])[np.newaxis]

    return Column(shape, column.dtype, lambda: iter(whole()), lambda cuts: cuts.of(whole()))
