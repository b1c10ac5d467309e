"""What every place that work can run in has in common, and the simplest: this process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from tfq.cores import threads_for
from tfq.executors.remote import run
from tfq.executors.shards import Session, Shard, run_in_order

Work = Callable[[Any, int], Any]
"""`work(payload, threads) -> result`."""


class Workers:
    """A place where work runs. Close it, or use it as a context manager.

    Attributes:
      count: shards that run at once.
      threads: CPU threads that a work should use for one shard.
      description: such as "2 processes".
    """

    def __init__(self, count: int, threads: int, description: str):
        self.count = count
        self.threads = threads
        self.description = description

    def map(
        self, work: Work, shards: Iterable[Shard], progress: Callable[[int], None] | None = None
    ) -> Iterator[Any]:
        """Yields `work(shard.payload, threads)` for each shard, in the order of the shards.

        Args:
          work: a callable object that can be pickled, class and all: its class is in a module that
            workers can import. It reaches every worker once and stays there, one copy per thread,
            so it may build interpreters when first called; `__getstate__` has to drop them.
          shards: pulled as room is made. At most 2 * count + 1 are pulled and not yet yielded, so
            memory does not depend on how many there are.
          progress: called in this thread with the number of shards done.

        Raises:
          TfqError: what `work` raises, unchanged; or a shard that failed in another way three
            times, or whose worker died three times, by name. Always that of the lowest shard.
        """
        with self._session(work) as session:
            limit = self._limit()
            yield from run_in_order(session, shards, limit, progress)

    def close(self) -> None:
        """Ends what was started for these workers; shards still running are dropped."""

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _limit(self) -> int:
        return 2 * self.count + 1

    def _session(self, work: Work) -> contextlib.AbstractContextManager[Session]:
        """Brings the work to where it runs, for as long as the context is open."""
        raise NotImplementedError


class _Here(Session):
    def __init__(self, work: Work, threads: int):
        self._work = work
        self._threads = threads

    def submit(self, shard: Shard) -> Shard:
        return shard

    def wait(self, handle: Shard) -> Any:
        return run(self._work, handle.payload, self._threads)


class ThisProcess(Workers):
    """Runs shards one by one, when their results are asked for. Nothing is pickled."""

    def __init__(self) -> None:
        super().__init__(1, threads_for(1), "this process")

    def _limit(self) -> int:
        return 1

    def _session(self, work: Work) -> contextlib.AbstractContextManager[Session]:
        return contextlib.nullcontext(_Here(work, self.threads))
