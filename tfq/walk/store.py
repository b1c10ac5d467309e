"""What a walk keeps between two layers: of every live tensor the values of all samples.

Up to a limit they are in memory; what would go beyond is written to a file and read through a
memory map, so that memory stays bounded whatever the number of samples.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO, overload

import numpy as np

from tfq.errors import TfqError
from tfq.graph.model import Tensor
from tfq.temporary import temporary_folder

# Bytes that a boundary holds in memory.
MEMORY = 512 << 20

_ALIGNMENT = 64


class Values(Sequence[np.ndarray]):
    """The values of one tensor, sample by sample, in memory or in a file. Made by `Boundary`."""

    def __init__(self, boundary: Boundary, number: int):
        self._boundary = boundary
        self._number = number
        self._arrays: list[np.ndarray] = []
        self._file: IO[bytes] | None = None
        self._path = ""
        self._map: np.memmap | None = None
        self._places: list[tuple[int, tuple[int, ...], np.dtype]] = []
        self._is_free = False

    @property
    def on_disk(self) -> bool:
        return bool(self._path)

    def __len__(self) -> int:
        if self._is_free:
            raise ValueError("The walk has gone on: these values are no longer kept.")
        return len(self._places) if self.on_disk else len(self._arrays)

    @overload
    def __getitem__(self, n: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, n: slice) -> list[np.ndarray]: ...
    def __getitem__(self, n: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(n, slice):
            return [self[i] for i in range(*n.indices(len(self)))]
        if not -len(self) <= n < len(self):
            raise IndexError(f"There is no sample {n}.")
        if not self.on_disk:
            return self._arrays[n]
        start, shape, dtype = self._places[n]
        size = math.prod(shape) * dtype.itemsize
        if not size:
            return np.empty(shape, dtype)
        if self._map is None:
            assert self._file is not None
            self._file.close()
            self._map = np.memmap(self._path, np.uint8, "r")
        return np.asarray(self._map)[start : start + size].view(dtype).reshape(shape)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[n] for n in range(len(self)))

    def append(self, value: np.ndarray) -> None:
        """Adds the next sample's values; before anything is read."""
        if not self.on_disk and not self._boundary.takes(value.nbytes):
            self._spill()
        if self.on_disk:
            self._write(value)
        else:
            self._boundary.grow(value.nbytes)
            self._arrays.append(value)

    def _spill(self) -> None:
        held, self._arrays = self._arrays, []
        self._path = self._boundary.path(self._number)
        with self._boundary.no_room():
            # Closed by the first read or by `free`.
            self._file = open(self._path, "wb")  # noqa: SIM115
        for value in held:
            self._write(value)
            self._boundary.grow(-value.nbytes)

    def _write(self, value: np.ndarray) -> None:
        assert self._file is not None
        with self._boundary.no_room():
            start = self._file.tell()
            self._file.write(np.ascontiguousarray(value).tobytes())
            self._file.write(bytes(-value.nbytes % _ALIGNMENT))
        self._places.append((start, value.shape, value.dtype))

    def free(self) -> None:
        """Forgets the values; reading them is an error from now on."""
        self._is_free = True
        self._boundary.grow(-sum(v.nbytes for v in self._arrays))
        self._arrays, self._map = [], None
        if self._file is not None:
            self._file.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)


class Boundary:
    """Values by tensor. A context manager: its files are gone afterwards.

    Args:
      limit: bytes that are held in memory.

    Attributes:
      memory, peak: bytes held in memory now, and at most until now.
      spilled: how many tensors went to disk.
    """

    def __init__(self, limit: int = MEMORY):
        self.limit = limit
        self.memory = self.peak = self.spilled = 0
        self._values: dict[Tensor, Values] = {}
        self._made = 0
        self._stack = contextlib.ExitStack()
        self._folder = ""

    def __enter__(self) -> Boundary:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for tensor in list(self._values):
            self.drop(tensor)
        self._stack.close()

    def new(self, tensor: Tensor) -> Values:
        """Values to be appended to."""
        self._made += 1
        self._values[tensor] = Values(self, self._made)
        return self._values[tensor]

    def __getitem__(self, tensor: Tensor) -> Values:
        return self._values[tensor]

    def __contains__(self, tensor: object) -> bool:
        return tensor in self._values

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._values)

    def drop(self, tensor: Tensor) -> None:
        self._values.pop(tensor).free()

    def takes(self, size: int) -> bool:
        """Whether so many bytes more stay within the limit."""
        return self.memory + size <= self.limit

    def grow(self, size: int) -> None:
        self.memory += size
        self.peak = max(self.peak, self.memory)

    def path(self, number: int) -> str:
        """A file for values that do not fit."""
        if not self._folder:
            with self.no_room():
                self._folder = self._stack.enter_context(temporary_folder("walk"))
        self.spilled += 1
        return os.path.join(self._folder, f"{number}.values")

    @contextlib.contextmanager
    def no_room(self) -> Iterator[None]:
        """Says what failed where a file cannot be written."""
        try:
            yield
        except OSError as e:
            raise TfqError(
                "The values between two layers do not fit into the temporary folder "
                f"({e.strerror or e}). Give fewer samples, or let TMPDIR name a folder with more "
                "room."
            ) from None
