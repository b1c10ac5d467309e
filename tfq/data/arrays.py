"""Samples in `.npz` and `.npy` files, read row after row.

Files are read rather than mapped: the pages of a mapping count as this process's memory, which
would grow with the number of samples. A compressed member is decompressed as it is read. Only an
array in Fortran order, whose rows are scattered over the file, is read whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from tfq.data.fit import Element, Fitter, bind
from tfq.data.source import Reading
from tfq.errors import DataError
from tfq.files import explain

_DAMAGE = (
    *(OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error),
    RuntimeError,  # zipfile: encrypted, or compressed by an unknown method.
    tokenize.TokenError,  # numpy: a header that is no Python literal.
)


@dataclasses.dataclass(frozen=True)
class Column:
    """One array whose first axis is samples: its shape, its dtype and a way to read its rows."""

    shape: tuple[int, ...]
    dtype: np.dtype
    rows: Callable[[], Iterator[np.ndarray]]


def open_npz(path: Path, fitter: Fitter) -> Reading:
    """Reads a `.npz` file: arrays named as the inputs or their tensors, and `y` for labels.

    Raises:
      DataError: the file is damaged, or names, lengths, shapes or dtypes do not fit.
    """
    return columns_reading(npz_columns(path), fitter, path.name)


def npz_columns(path: Path) -> dict[str, Column]:
    """The arrays of a `.npz` file; only their headers are read.

    Raises:
      DataError: the file is damaged, or holds Python objects.
    """
    columns = {}
    with _reading(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name != info.filename:
                with archive.open(info) as stream:
                    reopen = _member_opener(path, info.filename)
                    columns[name] = _column(stream, info.file_size, reopen, path, f"{name!r} of ")
    return columns


def open_npy(path: Path, fitter: Fitter) -> Reading:
    """Reads a `.npy` file for a model with one input.

    Raises:
      DataError: the file is damaged, the model has more inputs, or shape or dtype do not fit.
    """
    if len(fitter.inputs) != 1:
        names = ", ".join(repr(s.name) for s in fitter.inputs)
        raise DataError(
            f"{path.name} holds one array and the model has {len(fitter.inputs)} inputs. "
            f"Give a .npz file with arrays named {names}."
        )
    with _reading(path), open(path, "rb") as stream:
        column = _column(stream, path.stat().st_size, _file_opener(path), path, "")
    return columns_reading({fitter.inputs[0].name: column}, fitter, path.name)


def memory_columns(arrays: Mapping[str, Any], what: str) -> dict[str, Column]:
    """Columns over arrays that are in memory already."""
    columns = {}
    for name, value in arrays.items():
        try:
            array = np.asarray(value)
        except (ValueError, TypeError) as e:
            raise DataError(f"{what}: {name!r} is no array: {e}.") from None
        columns[name] = Column(array.shape, array.dtype, functools.partial(iter, array))
    return columns


def columns_reading(columns: Mapping[str, Column], fitter: Fitter, what: str) -> Reading:
    """Joins columns into samples, after checking all that can be checked before reading.

    Raises:
      DataError: names, lengths, shapes or dtypes do not fit.
    """
    bound, label = bind(columns, fitter.inputs, what)
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

    spec = fitter.inputs[0]
    first = columns[bound[spec.name]]
    per_element = fitter.split_shape(first.shape[1:], spec) if first.shape[0] else None
    count = first.shape[0] * (per_element[0] or 1 if per_element else 1)
    return Reading(elements, what, count, has_labels=label is not None)


def _file_opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def _member_opener(path: Path, member: str) -> Callable[[], IO[bytes]]:
    return lambda: zipfile.ZipFile(path).open(member)


def _column(
    stream: IO[bytes], size: int, reopen: Callable[[], IO[bytes]], path: Path, which: str
) -> Column:
    """Reads the header of a `.npy` stream of `size` bytes (format: numpy.lib.format)."""
    shape, fortran, dtype = _header(stream)
    if dtype.hasobject:
        raise DataError(
            f"The array {which}{path.name} holds Python objects, not numbers. "
            f"Save an array with a numeric dtype."
        )
    # Asked before any read of a size that a damaged header may have made up.
    if any(d < 0 for d in shape) or stream.tell() + math.prod(shape) * dtype.itemsize > size:
        raise EOFError(f"it is too short for an array of shape {shape} and dtype {dtype}")

    def rows() -> Iterator[np.ndarray]:
        with _reading(path), contextlib.closing(reopen()) as stream:
            if fortran and len(shape) > 1:
                yield from np.lib.format.read_array(stream, allow_pickle=False)
                return
            _header(stream)
            size = math.prod(shape[1:]) * dtype.itemsize
            for i in range(shape[0]):
                data = stream.read(size)
                if len(data) != size:
                    raise EOFError(f"it ends within sample {i} of {shape[0]}")
                yield np.frombuffer(data, dtype).reshape(shape[1:])
            stream.read(1)  # Lets zipfile compare the checksum at the end of the member.

    return Column(shape, dtype, rows)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"unknown .npy version {version}")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as e:
        raise DataError(f"{path} cannot be read: {explain(e)}") from None
    except _DAMAGE as e:
        reason = str(e).strip().rstrip(".") or type(e).__name__
        raise DataError(
            f"{path} cannot be read: {reason}. The file is damaged or not what its name says; "
            f"save it again."
        ) from None
