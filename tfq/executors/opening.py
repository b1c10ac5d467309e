"""`workers=`, `scheduler=` and `executor=`: exactly one way to run."""

from __future__ import annotations

import concurrent.futures

from tfq.errors import UsageError
from tfq.executors.workers import ThisProcess, Workers


def open_workers(
    workers: int = 1,
    scheduler: str | None = None,
    executor: concurrent.futures.Executor | None = None,
) -> Workers:
    """Opens the workers that were asked for; the result is a context manager.

    Args:
      workers: processes on this machine; 1 runs in this process, without pickling.
      scheduler: the address of a Dask scheduler, such as "tcp://127.0.0.1:8786".
      executor: one of your own: `client.get_executor()` of a Dask client, or any other of
        `concurrent.futures`. Its workers have to see this machine's temporary folder, except
        Dask's. It is not shut down.

    Raises:
      UsageError: more than one way is asked for, or the one asked for does not exist.
      TfqError: the scheduler does not answer, or has no workers that can run tfq.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise UsageError(f"workers must be an integer of 1 or more. Received: {workers!r}.")
    if scheduler is not None and not isinstance(scheduler, str):
        raise UsageError(
            "scheduler must be the address of a Dask scheduler, such as 'tcp://127.0.0.1:8786'. "
            f"Received: {scheduler!r}."
        )
    if executor is not None and not isinstance(executor, concurrent.futures.Executor):
        hint = " Pass client.get_executor()." if hasattr(executor, "get_executor") else ""
        raise UsageError(
            f"executor must be a concurrent.futures.Executor. Received: {executor!r}.{hint}"
        )
    asked = {
        f"workers={workers}": workers > 1,
        f"scheduler={scheduler!r}": scheduler is not None,
        "an executor": executor is not None,
    }
    ways = [name for name, given in asked.items() if given]
    if len(ways) > 1:
        raise UsageError(f"Choose one way to run. Received: {' and '.join(ways)}.")
    if scheduler is not None:
        from tfq.executors.dask import connect

        return connect(scheduler)
    if executor is not None:
        from tfq.executors.foreign import use

        return use(executor)
    if workers > 1:
        from tfq.executors.pool import PoolWorkers

        return PoolWorkers(workers)
    return ThisProcess()
