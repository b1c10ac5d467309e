"""Temporary files and folders of which nothing is left, however the process that made them ends.

Each is locked (`flock`) as long as it is in use, and the kernel unlocks it with the end of the
process, by kill -9 too. So whoever comes next can tell what is dead from what is alive, and removes
it (`sweep`). The number of a process in the name would not tell: numbers are given again, and on a
disk that machines or containers share they are those of others.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from typing import IO

_SUFFIX = ".tfq-tmp"  # What `sweep` may remove: nothing else is called so.
_NAME_LENGTH = 56  # 255 bytes are the limit of a name, and a character has up to four.


@contextlib.contextmanager
def temporary_file(folder: str, name: str) -> Iterator[tuple[IO[bytes], str]]:
    """A binary file and its path in `folder`, hidden; removed afterwards unless it was renamed.

    Args:
      folder: what dead processes left there is removed first.
      name: a part of the file's name, for whoever sees it.

    Raises:
      OSError: it cannot be created.
    """
    sweep(folder)
    prefix = f".{name[:_NAME_LENGTH]}."
    while True:
        handle, path = tempfile.mkstemp(prefix=prefix, suffix=_SUFFIX, dir=folder)
        with os.fdopen(handle, "wb") as file:
            if not _locked(handle, path):
                continue
            try:
                yield file, path
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            return


@contextlib.contextmanager
def temporary_folder(name: str, parent: str | os.PathLike[str] | None = None) -> Iterator[str]:
    """The path of a folder that is removed afterwards with all that is in it.

    Args:
      name: a part of its name, in letters.
      parent: where; by default the system's temporary folder. What dead processes left there is
        removed first.

    Raises:
      OSError: it cannot be created.
    """
    place = tempfile.gettempdir() if parent is None else os.fspath(parent)
    sweep(place)
    while True:
        path = tempfile.mkdtemp(prefix=f"tfq_{name}_", suffix=_SUFFIX, dir=place)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # Taken for dead before it was locked.
            continue
        try:
            if not _locked(handle, path):
                continue
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)
            return
        finally:
            os.close(handle)


def sweep(folder: str | None = None) -> None:
    """Removes what ended processes of this user left in a folder; never fails.

    Args:
      folder: by default the system's temporary folder.
    """
    place = tempfile.gettempdir() if folder is None else folder
    with contextlib.suppress(OSError):
        for name in os.listdir(place):
            if name.endswith(_SUFFIX):
                with contextlib.suppress(OSError):
                    _remove_dead(os.path.join(place, name))


def _remove_dead(path: str) -> None:
    found = os.lstat(path)
    is_folder = stat.S_ISDIR(found.st_mode)
    if found.st_uid != os.geteuid() or not (is_folder or stat.S_ISREG(found.st_mode)):
        return
    # Over a network a file must be open for writing to be locked.
    handle = os.open(path, os.O_NOFOLLOW | (os.O_DIRECTORY if is_folder else os.O_RDWR))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(handle), os.lstat(path)):
            return
        if is_folder:
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    finally:
        os.close(handle)


def _locked(handle: int, path: str) -> bool:
    """Locks what was just created; False if somebody took it for dead before and removed it."""
    with contextlib.suppress(OSError):  # A disk without locks: nobody can take it for dead there.
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False
