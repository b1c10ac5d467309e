"""Files: outputs are either whole or not there; what goes wrong is said with a way out."""

from __future__ import annotations

import errno
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from tfq.errors import TfqError, UsageError
from tfq.temporary import temporary_file

# What zipfile, zlib and numpy raise on damaged `.npz` and `.npy` files.
ARRAY_DAMAGE = (
    *(ValueError, EOFError, struct.error, zipfile.BadZipFile, zlib.error),
    RuntimeError,  # zipfile: encrypted, or compressed by an unknown method.
    *(SyntaxError, tokenize.TokenError),  # numpy: a header that is no Python literal.
)


@contextmanager
def atomic_writer(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` when the block ends without an exception.

    The bytes go to a temporary name in the same folder, are flushed to the disk and renamed. On any
    failure, Ctrl-C among them, the temporary file is removed and what was at `path` stays; one that
    a killed process left is removed by the next that writes there. A link stays a link: the file
    that it leads to is replaced.

    Raises:
      UsageError: `path` is a folder or a device, or its folder does not exist.
      TfqError: the file cannot be written (permissions, full disk); the message says which.
    """
    target = os.path.realpath(os.fspath(path))
    folder = _folder_of(target)
    try:
        with temporary_file(folder, os.path.basename(target)) as (file, temporary):
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o666 & ~_umask())  # It was private to the user.
            os.replace(temporary, target)
    except OSError as e:
        raise TfqError(f"Cannot write {path}: {explain(e)}") from None


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` to `path`, all or nothing; see `atomic_writer` for the errors."""
    with atomic_writer(path) as file:
        file.write(data)


def check_output(path: str | os.PathLike[str]) -> None:
    """Fails now if `path` could not be written later, so that no work is done in vain.

    Raises:
      UsageError: `path` is a folder or a device, or its folder does not exist.
      TfqError: the folder does not take files.
    """
    try:
        target = os.path.realpath(os.fspath(path))
        # os.access would say yes to root on a read-only disk; a real file is the only proof.
        with temporary_file(_folder_of(target), os.path.basename(target)):
            pass
    except OSError as e:
        raise TfqError(f"Cannot write {path}: {explain(e)}") from None


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of the file at `path`.

    Raises:
      UsageError: there is no such file, it is a folder, or it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}. Check the path.") from None
    except OSError as e:
        raise UsageError(f"Cannot read {path}: {explain(e)}") from None


def explain(error: OSError) -> str:
    """What an operating system's error means to a person, and what to do."""
    known = {
        errno.ENOSPC: "the disk is full. Free some space, or write to another disk.",
        errno.EDQUOT: "the disk quota is used up. Free some space, or write to another disk.",
        errno.EACCES: "permission denied. Choose another place, or change its permissions.",
        errno.EPERM: "permission denied. Choose another place, or change its permissions.",
        errno.EROFS: "the disk is read-only. Choose another place.",
        errno.ENOENT: "it does not exist. Check the path.",
        errno.EISDIR: "it is a folder, not a file.",
        errno.ENAMETOOLONG: "the name is too long. Choose a shorter one.",
    }
    return known.get(error.errno or 0, f"{error.strerror or error}.")


def _folder_of(target: str) -> str:
    folder = os.path.dirname(target)
    if os.path.isdir(target):
        raise UsageError(f"Cannot write {target}: it is a folder. Give the name of a file.")
    if os.path.exists(target) and not os.path.isfile(target):
        # Renaming would put a file in the place of the device itself.
        raise UsageError(f"Cannot write {target}: it is no regular file. Give the name of a file.")
    if not os.path.isdir(folder):
        raise UsageError(f"Cannot write {target}: there is no folder {folder}. Create it first.")
    return folder


def _umask() -> int:
    current = os.umask(0)  # The only portable way to read it is to set it.
    os.umask(current)
    return current
