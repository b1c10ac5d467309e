"""The files attached to a `.tflite`: a zip archive behind the flatbuffer, label files as a rule.

The TFLite metadata names them, and readers such as MediaPipe Tasks find them from the file's end.
They read no compressed entries, so none is written; LiteRT ignores what is behind the flatbuffer.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping

from tfq.errors import ModelError

_END = b"PK\5\6"  # Of the record that ends an archive: 22 bytes and a comment.
_END_SIZE = 22
_LONGEST_COMMENT = 0xFFFF
_LARGEST = 1 << 28  # Bytes of all files that a compressed archive may become.
_DATE = (1980, 1, 1, 0, 0, 0)  # The first that the format has: equal models are equal files.


def read_attached(data: bytes) -> dict[str, bytes]:
    """The files attached to a `.tflite`, by name; of several of one name the last.

    Args:
      data: the whole file.

    Raises:
      ModelError: there is an archive, and it is damaged or encrypted.
    """
    if not _has_end(data):
        return {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [i for i in archive.infolist() if not i.is_dir()]
            size = sum(i.file_size for i in entries)
            if size > max(len(data), _LARGEST):
                raise zipfile.BadZipFile(f"its files would take {size:,} bytes")
            return {i.filename: archive.read(i) for i in entries}
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        LookupError,
        NotImplementedError,
        OSError,
        RuntimeError,
        ValueError,
    ) as e:
        raise ModelError(
            f"the files attached to it (a zip archive at its end) cannot be read: {e}. Attach them "
            "again, or export the model again."
        ) from None


def _has_end(data: bytes) -> bool:
    """Whether an archive ends where the file does."""
    at = len(data)
    first = max(0, at - _END_SIZE - _LONGEST_COMMENT)
    while (at := data.rfind(_END, first, at)) >= 0:
        end = at + _END_SIZE
        if end <= len(data) and end + int.from_bytes(data[end - 2 : end], "little") == len(data):
            return True
    return False


def attach(data: bytes, files: Mapping[str, bytes]) -> bytes:
    """The `.tflite` bytes `data` with `files` behind them; just `data` where there are none."""
    if not files:
        return data
    whole = io.BytesIO()
    whole.write(data)
    # Not mode "a", which would look for an archive in the constants and write over it.
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content)
    return whole.getvalue()
