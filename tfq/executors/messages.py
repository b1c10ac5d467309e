"""Pickled objects over a pipe, arrays beside the pickle: no array is copied to be sent."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import struct
from typing import Any

_PIPE_BYTES = 1 << 20
"""Fewer turns between writer and reader than with the kernel's 64 KB."""


def widen(fd: int) -> None:
    """Gives a pipe a larger buffer where the system allows it."""
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def send(fd: int, value: Any) -> None:
    """Writes one object.

    Raises:
      OSError: the other end is closed.
      Exception: the object cannot be pickled; nothing has been written.
    """
    buffers: list[pickle.PickleBuffer] = []
    frames = [memoryview(pickle.dumps(value, protocol=5, buffer_callback=buffers.append))]
    frames += [buffer.raw() for buffer in buffers]
    sizes = [frame.nbytes for frame in frames]
    _write(fd, memoryview(struct.pack(f"<Q{len(sizes)}Q", len(sizes), *sizes)))
    for frame in frames:
        _write(fd, frame)


def receive(fd: int) -> list[bytearray]:
    """Reads the frames of one object; `load` makes the object of them.

    Raises:
      EOFError: the other end is closed.
    """
    (count,) = struct.unpack("<Q", _read(fd, 8))
    sizes = struct.unpack(f"<{count}Q", _read(fd, 8 * count))
    return [_read(fd, size) for size in sizes]


def load(frames: list[bytearray]) -> Any:
    """The object that `receive` read; its arrays use the frames' memory and can be written."""
    return pickle.loads(frames[0], buffers=frames[1:])


def _write(fd: int, view: memoryview) -> None:
    view = view.cast("B") if view.nbytes else view
    while view.nbytes:
        view = view[os.write(fd, view) :]


def _read(fd: int, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view.nbytes:
        got = os.readv(fd, [view])
        if not got:
            raise EOFError
        view = view[got:]
    return data
