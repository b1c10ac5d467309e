"""The worker's side: unpacks `work` once per thread, runs a shard, and brings back what happened.

Nothing here may raise for a fault of the work itself: an exception that cannot be pickled, or whose
class the other side does not know, would take the pool's own machinery down.
"""

from __future__ import annotations

import hashlib
import pickle
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfq.errors import TfqError

_KEPT = 2
"""Unpacked works that a thread keeps: each may hold interpreters, and few callers have more."""


@dataclass(frozen=True)
class Failure:
    """What went wrong with a shard, in a form that every process can read.

    Attributes:
      error: a TfqError of the work itself, to be raised as it is; None for any other exception.
      message: type and message of the exception.
      trace: the traceback as text.
    """

    error: TfqError | None
    message: str
    trace: str


@dataclass(frozen=True)
class PackedWork:
    """A pickled work, with the digest under which workers keep it unpacked."""

    digest: str
    data: bytes

    def read(self) -> bytes:
        return self.data


@dataclass(frozen=True)
class WorkFile:
    """A packed work in a file, for executors that would send it again with every shard."""

    digest: str
    path: str

    def read(self) -> bytes:
        return Path(self.path).read_bytes()


def pack(work: Any) -> PackedWork:
    """Pickles a work.

    Raises:
      TfqError: it cannot be pickled; the message names the reason.
    """
    try:
        data = pickle.dumps(work, protocol=5)
    except Exception as e:
        raise TfqError(
            f"The work cannot be sent to other processes ({type(e).__name__}: {e}). "
            "Use functions and classes of a module, no lambdas; or workers=1."
        ) from e
    return PackedWork(hashlib.sha256(data).hexdigest(), data)


class _Kept(threading.local):
    """One copy of a work per thread: interpreters are not thread-safe."""

    def __init__(self) -> None:
        self.works: dict[str, Any] = {}


_kept = _Kept()


def run_packed(packed: PackedWork | WorkFile, payload: Any, threads: int) -> bytes:
    """Runs a packed work on one payload; returns the pickled result, or a pickled `Failure`.

    Pickled here, because some executors lose a result that they cannot pickle, and wait for it.
    """
    try:
        work = _unpacked(packed)
    except Exception as e:
        return pickle.dumps(Failure(_not_loaded(e), _said(e), traceback.format_exc()))
    result = run(work, payload, threads)
    try:
        return pickle.dumps(result, protocol=5)
    except Exception as e:
        return pickle.dumps(Failure(None, _said(e), traceback.format_exc()))


def run(work: Callable[[Any, int], Any], payload: Any, threads: int) -> Any:
    """Runs a work on one payload; a `Failure` instead of an exception."""
    try:
        return work(payload, threads)
    except Exception as e:
        return Failure(_portable(e), _said(e), traceback.format_exc())


def _unpacked(packed: PackedWork | WorkFile) -> Any:
    works = _kept.works
    if packed.digest in works:
        works[packed.digest] = works.pop(packed.digest)  # The latest is last.
    else:
        while len(works) >= _KEPT:
            del works[next(iter(works))]
        works[packed.digest] = pickle.loads(packed.read())
    return works[packed.digest]


def _said(exc: Exception) -> str:
    message = str(exc).strip()
    return f"{type(exc).__name__}: {message}" if message else type(exc).__name__


def _portable(exc: Exception) -> TfqError | None:
    if not isinstance(exc, TfqError):
        return None
    try:
        pickle.loads(pickle.dumps(exc))
    except Exception:
        return TfqError(str(exc))
    return exc


def _not_loaded(exc: Exception) -> TfqError:
    return TfqError(
        f"A worker cannot load the work ({type(exc).__name__}: {exc}). Workers need the same tfq "
        "and your own modules; what a script itself defines has to move into a module."
    )
