"""Per-sample figures of any number of samples in bounded memory: beyond a limit, in a file."""

from __future__ import annotations

import contextlib
import tempfile
from types import TracebackType
from typing import IO, Self

import numpy as np

_MEMORY = 64 << 20


class Store:
    """Arrays that grow by rows, by key; read back whole, from memory or from a temporary file.

    Args:
      memory: bytes kept in memory over all keys; what comes beyond goes to unnamed temporary files.
    """

    def __init__(self, memory: int = _MEMORY):
        self._memory = memory
        self._open = contextlib.ExitStack()
        self._used = 0
        self._parts: dict[str, list[np.ndarray]] = {}
        self._files: dict[str, IO[bytes]] = {}
        self._shapes: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        self._rows: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._open.close()

    def add(self, key: str, rows: np.ndarray) -> None:
        """Appends rows [n, ...]; all of a key have one dtype and one shape but for n."""
        rows = np.ascontiguousarray(rows)
        self._shapes.setdefault(key, (rows.dtype, rows.shape[1:]))
        self._rows[key] = self._rows.get(key, 0) + len(rows)
        if self._used + rows.nbytes <= self._memory and key not in self._files:
            self._used += rows.nbytes
            self._parts.setdefault(key, []).append(rows)
            return
        if key not in self._files:
            self._files[key] = self._open.enter_context(
                tempfile.TemporaryFile(prefix="tfq-evaluate-")  # noqa: SIM115
            )
            for part in self._parts.pop(key, []):
                self._used -= part.nbytes
                self._files[key].write(part.tobytes())
        self._files[key].write(rows.tobytes())

    def names(self) -> list[str]:
        """The keys that rows were added to."""
        return list(self._shapes)

    def read(self, key: str) -> np.ndarray:
        """All rows of a key; those in a file are mapped, so that the system can drop them again."""
        dtype, shape = self._shapes[key]
        if key not in self._files:
            parts = self._parts[key]
            if len(parts) > 1:
                parts[:] = [np.concatenate(parts)]
            return parts[0]
        file = self._files[key]
        file.flush()
        return np.memmap(file, dtype, "r", shape=(self._rows[key], *shape))
