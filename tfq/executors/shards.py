"""Shards in, results out: in order, with a bounded number in between, and failures tried again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tfq.errors import TfqError
from tfq.executors.remote import Failure

ATTEMPTS = 3
"""How often a shard is tried before it is given up."""


@dataclass(frozen=True)
class Shard:
    """A piece of work.

    Attributes:
      index: its place in the order, from 0.
      what: for messages, such as "samples 0 to 127".
      payload: what the work is called with; picklable unless it stays in this process.
    """

    index: int
    what: str
    payload: Any


class WorkerDiedError(Exception):
    """The process that worked on a shard is gone. The message says how it ended."""


class Session:
    """One map over one work: what the places that work runs in have to offer."""

    deaths = ATTEMPTS
    """Attempts that may end with a dead worker before the shard is taken for the cause."""

    def submit(self, shard: Shard) -> Any:
        """Starts a shard, or puts it in a queue; returns a handle."""
        raise NotImplementedError

    def wait(self, handle: Any) -> Any:
        """The result of a shard, or a `Failure`.

        Raises:
          WorkerDiedError: with how it ended.
          TfqError: the place is gone; nothing can run there any more.
        """
        raise NotImplementedError

    def cancel(self, handle: Any) -> None:
        """Takes a shard back, if it has not begun."""


class RemoteError(Exception):
    """The traceback of another process, as the cause of the error raised in this one."""


def run_in_order(
    session: Session,
    shards: Iterable[Shard],
    limit: int,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Any]:
    """Yields the results in the order of the shards.

    Args:
      session: where they run.
      shards: pulled only as room is made.
      limit: how many may be pulled and not yet yielded; their payloads and results are what
        memory holds.
      progress: called with the number of shards done.

    Raises:
      TfqError: of the lowest shard that fails, whatever the number of workers; results of all
        shards before it have been yielded.
      Exception: what `shards` itself raises, when all shards before it have been yielded.
    """
    source = iter(shards)
    waiting: deque[tuple[Shard, Any]] = deque()
    ended, trouble, done = False, None, 0
    try:
        while True:
            while not ended and len(waiting) < limit:
                try:
                    shard = next(source)
                except StopIteration:
                    ended = True
                except Exception as e:
                    ended, trouble = True, e
                else:
                    waiting.append((shard, session.submit(shard)))
            if not waiting:
                break
            result = _settle(session, *waiting[0])
            waiting.popleft()
            done += 1
            if progress is not None:
                progress(done)
            yield result
            del result
    finally:
        for _, handle in waiting:
            session.cancel(handle)
    if trouble is not None:
        raise trouble


def _settle(session: Session, shard: Shard, handle: Any) -> Any:
    """Waits for one shard, trying it again while that may help."""
    attempts = deaths = 0
    while True:
        attempts += 1
        try:
            result = session.wait(handle)
        except WorkerDiedError as e:
            deaths += 1
            if deaths >= session.deaths:
                raise TfqError(
                    f"{_named(shard)} could not be worked on: the worker process died "
                    f"{deaths} times ({e}). If it ran out of memory, use fewer workers or "
                    "smaller batches; if not, these samples crash the model's kernels."
                ) from e
        else:
            if not isinstance(result, Failure):
                return result
            if result.error is not None:
                raise result.error from RemoteError(result.trace)
            if attempts >= ATTEMPTS:
                raise TfqError(
                    f"{_named(shard)} could not be worked on, {attempts} times over: "
                    f"{result.message}. Run these samples alone with workers=1 to see more."
                ) from RemoteError(result.trace)
        handle = session.submit(shard)


def _named(shard: Shard) -> str:
    return f"{shard.what[:1].upper()}{shard.what[1:]} (shard {shard.index})"
