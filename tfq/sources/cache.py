"""Float conversions that were made before: the second run of a model needs no TensorFlow.

An entry is a file whose name is the hash of all that its content depends on: the bytes of the
source, the request to the worker, the code of tfq, the versions of what converts, and the settings
that these read. So an entry never gets old; those that nobody reads any more make room for others.

The content has a hash in front: what is damaged is not there. Files appear whole (`write_atomic`),
and each may go at any moment, so any number of processes can use one folder.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfq.errors import TfqError, UsageError
from tfq.files import write_atomic
from tfq.temporary import sweep

_LIMIT = 2 << 30
_SHARE = 4
"""An entry of more than the limit divided by this is not kept: it would drive out all others."""

_MAGIC = b"tfq float conversion 1\n"
_SUFFIX = ".conversion"
_HASH_BYTES = hashlib.sha256().digest_size
_CHUNK = 1 << 20

# Where things are and what they are called changes nothing of the result.
_PLACES = ("path", "shown", "scratch", "output")
# What TensorFlow reads of a SavedModel. Samples (assets.extra) and fingerprints are not among it.
_SAVED_MODEL_FILES = ("saved_model.", "keras_metadata.pb")
_SAVED_MODEL_FOLDERS = ("variables", "assets")
_PACKAGES = (
    "tensorflow",
    "keras",
    "tf_keras",
    "tensorflow-model-optimization",
    "ai-edge-litert",
    "numpy",
    "h5py",
)
# Set by the client for every worker, or about messages only.
_SETTINGS_WITHOUT_EFFECT = ("TF_CPP_", "TF_ENABLE_ONEDNN_OPTS", "KERAS_BACKEND")


class Cache:
    """A folder of conversions.

    Args:
      folder: created when something is kept.
      asked: whether the user named it, and is told when it cannot be used.
      limit: bytes of all entries together.
    """

    def __init__(self, folder: Path, *, asked: bool = False, limit: int = _LIMIT):
        self._folder = folder
        self._asked = asked
        self._limit = limit

    def load(self, key: str, shown: str) -> tuple[bytes, dict[str, Any]] | None:
        """The float model and the worker's answer; None where there is no such entry.

        Args:
          key: of `key_of`.
          shown: what the source is called in this run. An entry with a warning that names it
            otherwise is as good as none.
        """
        sweep(str(self._folder))
        path = self._folder / (key + _SUFFIX)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        start = len(_MAGIC) + _HASH_BYTES
        body = memoryview(content)[start:]
        if content[:start] != _MAGIC + hashlib.sha256(body).digest():
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        size = int.from_bytes(body[:8], "little")
        header = json.loads(bytes(body[8 : 8 + size]))
        if header["shown"] != shown and any(
            header["shown"] in warning for warning in header["answer"]["warnings"]
        ):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # The last to go.
        return bytes(body[8 + size :]), header["answer"]

    def store(self, key: str, shown: str, model: bytes, answer: Mapping[str, Any]) -> str:
        """Keeps a conversion; returns "" or why it is not kept: for a cache that the user did not
        ask for, only where it is too large."""
        header = json.dumps({"shown": shown, "answer": answer}).encode()
        body = len(header).to_bytes(8, "little") + header + model
        if len(body) > self._limit // _SHARE:
            # A user who is told that conversions are kept would wait for it, run after run.
            return self._unkept(
                f"it has {_size(len(body))}, and one of more than "
                f"{_size(self._limit // _SHARE)} would drive out the others."
            )
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(
                self._folder / (key + _SUFFIX), _MAGIC + hashlib.sha256(body).digest() + body
            )
        except (OSError, TfqError) as e:
            return self._unkept(str(e)) if self._asked else ""
        self._make_room()
        return ""

    def _unkept(self, why: str) -> str:
        return f"The float conversion is not kept in the cache {self._folder}: {why}"

    def _make_room(self) -> None:
        entries = []
        with contextlib.suppress(OSError), os.scandir(self._folder) as found:
            for entry in found:
                with contextlib.suppress(OSError):  # Another process made room.
                    if entry.name.endswith(_SUFFIX):
                        about = entry.stat(follow_symlinks=False)
                        entries.append((about.st_mtime_ns, about.st_size, entry.path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries)[:-1]:
            if total <= self._limit:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size


def _size(count: int) -> str:
    return f"{count / (1 << 20):.4g} MB"


def open_cache(where: str | os.PathLike[str] | None) -> Cache | None:
    """The cache that `--cache` and `cache=` name.

    Args:
      where: a folder, which need not exist; "none"; None for the user's own: `tfq` in
        $XDG_CACHE_HOME or ~/.cache.

    Returns:
      None where there is to be none, or no place for one.

    Raises:
      UsageError: it is no folder.
    """
    if where is None:
        return _default()
    if not isinstance(where, str | os.PathLike) or not os.fspath(where):
        raise UsageError(f"cache is a folder, or 'none'. Received: {where!r}.")
    if where == "none":
        return None
    folder = Path(where).absolute()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"The cache {where} is a file. Give a folder, or 'none'.")
    return Cache(folder, asked=True)


def _default() -> Cache | None:
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # The standard says that a relative one is to be ignored.
        folder = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError:  # A user without a home.
        return None
    return Cache(folder / "tfq")


def key_of(request: Mapping[str, Any]) -> str | None:
    """The hash of all that the answer to a worker's request depends on.

    Returns:
      None where the answer may depend on more: the source cannot be read, or is allowed to run code
      of its own, which can look at anything.
    """
    if request.get("allow_code"):
        return None
    options = {k: v for k, v in request.items() if k not in _PLACES}
    source = Path(request["path"])
    whole = hashlib.sha256()
    whole.update(json.dumps([options, _environment()], sort_keys=True).encode())
    try:
        for path in _files(source):
            name = "" if path == source else path.relative_to(source).as_posix()
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                whole.update(f"\0{name}\0{size}\0".encode())
                while chunk := file.read(_CHUNK):
                    whole.update(chunk)
    except OSError:
        return None
    return whole.hexdigest()


def _files(source: Path) -> Iterator[Path]:
    """The files that a source consists of, in an order of their own."""
    if not source.is_dir():
        yield source
        return
    for path in sorted(source.iterdir()):
        if path.name.startswith(_SAVED_MODEL_FILES):
            yield path
        elif path.name in _SAVED_MODEL_FOLDERS:
            yield from sorted(p for p in path.rglob("*") if p.is_file())


def _environment() -> dict[str, Any]:
    settings = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("TF_", "KERAS_", "XLA_"))
        and not name.startswith(_SETTINGS_WITHOUT_EFFECT)
    }
    return {"code": _code(), "versions": _versions(), "settings": settings, "keras": _keras()}


def _keras() -> str:
    """Keras's own settings of the user (default dtype and so on)."""
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    with contextlib.suppress(OSError):
        return Path(home, "keras.json").read_text("utf-8", "replace")
    return ""


@functools.cache
def _versions() -> dict[str, Any]:
    found: dict[str, Any] = {"python": sys.version, "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            # Installed under another name (tensorflow-cpu, tf-nightly), or not at all.
            spec = importlib.util.find_spec(package.replace("-", "_"))
            origin = spec.origin if spec is not None else None
            about = os.stat(origin) if origin and os.path.exists(origin) else None
            found[package] = about and [origin, about.st_size, about.st_mtime_ns]
    return found


@functools.cache
def _code() -> str:
    """A hash of tfq's own code: who changes it shall not get what it did before."""
    root = Path(__file__).resolve().parents[1]
    whole = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        whole.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        whole.update(content)
    return whole.hexdigest()
