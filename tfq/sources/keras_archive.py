"""What is in a `.keras` archive, read without Keras: the one place that opens one."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib

from tfq.errors import ModelError

# What reading a damaged or encrypted archive raises, by what is wrong and how it is packed.
_UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    OverflowError,
    EOFError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)


def member_names(path: str, shown: str) -> list[str]:
    """The files of an archive; none where it is no archive by its content.

    Raises:
      ModelError: the archive is damaged.
    """
    try:
        if not zipfile.is_zipfile(path):
            return []
        with zipfile.ZipFile(path) as archive:
            return sorted(set(archive.namelist()))
    except _UNREADABLE as e:
        raise _damaged(shown, "", e) from None


def read_member(path: str, name: str, shown: str) -> bytes | None:
    """The content of one file of an archive; None where there is none, or no archive.

    Args:
      path: the archive.
      name: the file in it: "config.json", "metadata.json" or one of weights.
      shown: what the archive is called in an error.

    Raises:
      ModelError: the archive is damaged or encrypted.
    """
    if name not in member_names(path, shown):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except _UNREADABLE as e:
        raise _damaged(shown, name, e) from None


def _damaged(shown: str, name: str, e: Exception) -> ModelError:
    what = f"{name} in it cannot be read" if name else "it is no whole archive"
    said = str(e).rstrip(".") or type(e).__name__
    return ModelError(
        f"Cannot read {shown}: {what} ({said}). The file is damaged or encrypted. Copy it again, "
        "or save the model again."
    )
