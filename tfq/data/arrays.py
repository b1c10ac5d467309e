"""Samples in `.npz` and `.npy` files, read row after row.

Files are read rather than mapped: the pages of a mapping count as this process's memory, which
would grow with the number of samples. A compressed member is decompressed as it is read. Only an
array in Fortran order, whose rows are scattered over the file, is read whole.
"""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from tfq.data.columns import Blocks, Column, columns_reading
from tfq.data.fit import Fitter
from tfq.data.source import Reading
from tfq.errors import DataError
from tfq.files import ARRAY_DAMAGE, explain

_DAMAGE = (OSError, *ARRAY_DAMAGE)


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
    return columns_reading({fitter.inputs[0].name: npy_column(path)}, fitter, path.name)


def npy_column(path: Path) -> Column:
    """The array of a `.npy` file; only its header is read.

    Raises:
      DataError: the file is damaged, or holds Python objects.
    """
    with _reading(path), open(path, "rb") as stream:
        return _column(stream, path.stat().st_size, _file_opener(path), path, "")


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

    def blocks(cuts: Blocks) -> Iterator[np.ndarray]:
        with _reading(path), contextlib.closing(reopen()) as stream:
            if fortran and len(shape) > 1:
                yield from cuts.of(np.lib.format.read_array(stream, allow_pickle=False))
                return
            _header(stream)
            size = math.prod(cuts.shape) * dtype.itemsize
            for start, stop in cuts:
                data = stream.read((stop - start) * size)
                if len(data) != (stop - start) * size:
                    row = start + len(data) // size
                    raise EOFError(f"it ends within sample {row} of {shape[0] * cuts.per}")
                yield np.frombuffer(data, dtype).reshape(stop - start, *cuts.shape)
            if cuts.total == shape[0] * cuts.per:
                stream.read(1)  # Lets zipfile compare the checksum at the end of the member.

    return Column(shape, dtype, rows, blocks)


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
