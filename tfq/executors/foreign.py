"""An executor of the user's own: the work goes through a file that its workers read once."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pickle
import tempfile
import traceback
from collections.abc import Iterator
from typing import Any

from tfq.cores import available, threads_for
from tfq.errors import TfqError, UsageError
from tfq.executors.remote import Failure, WorkFile, pack, run_packed
from tfq.executors.shards import Session, Shard, WorkerDiedError
from tfq.executors.workers import Work, Workers
from tfq.temporary import temporary_folder


@contextlib.contextmanager
def work_file(work: Work, folder: str) -> Iterator[WorkFile]:
    """A file in `folder` that holds the packed work; removed afterwards."""
    packed = pack(work)
    descriptor, path = tempfile.mkstemp(dir=folder, suffix=".work")
    try:
        with open(descriptor, "wb") as file:
            file.write(packed.data)
        yield WorkFile(packed.digest, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


class FileSession(Session):
    """Shards through any `concurrent.futures.Executor`."""

    def __init__(self, executor: concurrent.futures.Executor, file: WorkFile, threads: int):
        self._executor = executor
        self._file = file
        self._threads = threads

    def submit(self, shard: Shard) -> concurrent.futures.Future[Any]:
        try:
            return self._executor.submit(run_packed, self._file, shard.payload, self._threads)
        except concurrent.futures.BrokenExecutor as e:
            raise _broken(e) from e
        except RuntimeError as e:
            raise UsageError(f"The executor takes no work ({e}). Pass one that is open.") from e

    def wait(self, handle: concurrent.futures.Future[Any]) -> Any:
        try:
            return pickle.loads(handle.result())
        except (WorkerDiedError, TfqError):
            raise
        except concurrent.futures.BrokenExecutor as e:
            raise _broken(e) from e
        except concurrent.futures.CancelledError as e:
            raise UsageError(
                "The executor was shut down before the work was done. Keep it open."
            ) from e
        except Exception as e:
            return Failure(None, f"{type(e).__name__}: {e}", traceback.format_exc())

    def cancel(self, handle: concurrent.futures.Future[Any]) -> None:
        handle.cancel()


class ForeignWorkers(Workers):
    """The workers of an executor that someone else opened and will close."""

    def __init__(self, executor: concurrent.futures.Executor, count: int, threads: int):
        name = type(executor).__name__
        super().__init__(count, threads, f"{name}, {count} worker{'s' * (count > 1)}")
        self._executor = executor
        self._open = contextlib.ExitStack()
        self._folder = self._open.enter_context(temporary_folder("workers"))

    def close(self) -> None:
        self._open.close()

    @contextlib.contextmanager
    def _session(self, work: Work) -> Iterator[Session]:
        with work_file(work, self._folder) as file:
            yield FileSession(self._executor, file, self.threads)


def use(executor: concurrent.futures.Executor) -> Workers:
    """Workers over an executor of `concurrent.futures`, or a Dask client's."""
    if type(executor).__module__.startswith("distributed."):
        from tfq.executors.dask import use_executor

        return use_executor(executor)
    count = getattr(executor, "_max_workers", None)
    if not isinstance(count, int) or count < 1:
        return ForeignWorkers(executor, available(), 1)
    return ForeignWorkers(executor, count, threads_for(count))


def _broken(exc: Exception) -> TfqError:
    return TfqError(
        f"A worker of the executor died, and with it the executor ({exc}). "
        "Pass workers=N instead: such a pool replaces workers that die."
    )
