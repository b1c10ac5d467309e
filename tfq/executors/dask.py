"""Workers of a Dask cluster, reached through its scheduler.

The packed work is a task of its own, copied to every worker: Dask computes it again when all of its
holders have died, and brings it to workers that join later.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import pickle
import time
import warnings
from collections.abc import Iterator
from typing import Any

import tfq
from tfq.errors import TfqError, UsageError
from tfq.executors.remote import Failure, PackedWork, pack, run_packed
from tfq.executors.shards import Session, Shard, WorkerDiedError
from tfq.executors.workers import Work, Workers

_CONNECT_SECONDS = 6.0
_NO_WORKERS_SECONDS = 30.0
"""A worker that its nanny starts again is back in a few."""
_POLL_SECONDS = 2.0

_FACTS = (
    "(__import__('socket').gethostname(), len(__import__('os').sched_getaffinity(0)),"
    " __import__('tfq').__version__, __import__('tfq.executors.remote').__name__)"
)
"""Evaluated by each worker, without anything of tfq in the message: it may not be there."""


def connect(address: str) -> Workers:
    """Connects to a Dask scheduler.

    Args:
      address: such as "tcp://127.0.0.1:8786".

    Raises:
      UsageError: Dask is not installed, or nothing answers at the address.
      TfqError: there are no workers, or they cannot run tfq.
    """
    try:
        import distributed
    except ImportError as e:
        raise UsageError(
            f"scheduler={address!r} needs Dask, which is not installed. "
            "Install it: pip install 'tfq[dask]'."
        ) from e
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        try:
            # In a thread: the caller may have an event loop of its own.
            with concurrent.futures.ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, _probe(address)).result()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Versions that differ: `_facts` looks itself.
                client = distributed.Client(
                    address, timeout=_CONNECT_SECONDS, set_as_default=False, name="tfq"
                )
        except Exception as e:
            raise UsageError(
                f"No Dask scheduler answers at {address!r} ({_reason(e)}). "
                "Start one with 'dask scheduler' and pass the address it prints, such as "
                "tcp://127.0.0.1:8786."
            ) from e
        stack.callback(client.close, timeout=2)
        workers = DaskWorkers(client, client.get_executor(), f"Dask {address}")
        workers.closing = stack.pop_all()
    return workers


async def _probe(address: str) -> None:
    """Asks who is there: a Client waits for ever on what listens and says nothing."""
    import distributed
    from distributed.comm import connect as connect_to

    async with asyncio.timeout(_CONNECT_SECONDS):
        comm = await connect_to(address, timeout=_CONNECT_SECONDS)
        try:
            await comm.write({"op": "identity", "reply": True})
            answer = await comm.read()
        finally:
            comm.abort()
    if not isinstance(answer, dict) or "Scheduler" not in str(answer.get("type")):
        raise distributed.CommClosedError("no scheduler")


def use_executor(executor: Any) -> Workers:
    """Workers over `client.get_executor()` of a Dask client, which stays open.

    Raises:
      UsageError: the client is closed.
      TfqError: there are no workers, or they cannot run tfq.
    """
    client = executor._client
    if client.status != "running":
        raise UsageError("The Dask client of the executor is closed. Pass one that is open.")
    return DaskWorkers(client, executor, f"Dask {client.scheduler.address}")


class DaskWorkers(Workers):
    """The worker threads of a cluster; each works on one shard at a time."""

    def __init__(self, client: Any, executor: Any, place: str):
        only = executor._kwargs.get("workers")
        facts = _facts(client, only)
        slots = sum(n for n, _, _ in facts)
        hosts: dict[str, int] = {}
        for n, host, _ in facts:
            hosts[host] = hosts.get(host, 0) + n
        threads = min(max(1, min(4, cores // hosts[host])) for _, host, cores in facts)
        plural = "s" * (slots > 1)
        super().__init__(slots, threads, f"{place}, {slots} worker{plural}")
        self._client = client
        self._executor = executor
        self.closing = contextlib.ExitStack()

    def close(self) -> None:
        self.closing.close()

    @contextlib.contextmanager
    def _session(self, work: Work) -> Iterator[Session]:
        packed = pack(work)
        with warnings.catch_warnings():
            # The work holds a model: large, and sent once.
            warnings.filterwarnings("ignore", "Sending large graph")
            future = self._client.submit(_hold, packed, key=f"tfq-work-{packed.digest}")
        if self.count > 1:
            self._client.replicate([future])
        yield _DaskSession(self._client, self._executor, future, self.threads)


class _DaskSession(Session):
    # Dask runs what was beside a dead worker up to four times before it gives up. What has failed
    # with company has one more such round, in which it is the oldest.
    deaths = 2

    def __init__(self, client: Any, executor: Any, work: Any, threads: int):
        self._client = client
        self._executor = executor
        self._work = work
        self._threads = threads

    def submit(self, shard: Shard) -> concurrent.futures.Future[Any]:
        with warnings.catch_warnings():
            # A shard is as large as pays for sending it. Sent apart, with `scatter`, it would be
            # lost with its worker; an argument Dask can send again.
            warnings.filterwarnings("ignore", "Sending large graph")
            future: concurrent.futures.Future[Any] = self._executor.submit(
                run_packed, self._work, shard.payload, self._threads, pure=False
            )
        return future

    def wait(self, handle: concurrent.futures.Future[Any]) -> Any:
        import distributed

        alone_since = None
        while True:
            try:
                concurrent.futures.wait([handle], timeout=_POLL_SECONDS)
                if handle.done():
                    return pickle.loads(handle.result())
                alone_since = self._look(alone_since)
            except TfqError:
                raise
            except distributed.KilledWorker as e:
                last = e.last_worker.address
                raise WorkerDiedError(f"Dask gave it to several, last {last}") from e
            except concurrent.futures.CancelledError as e:
                self._look(None)
                raise WorkerDiedError("its task was lost") from e
            except Exception as e:
                return Failure(None, f"{type(e).__name__}: {e}", "")

    def cancel(self, handle: concurrent.futures.Future[Any]) -> None:
        handle.cancel()

    def _look(self, alone_since: float | None) -> float | None:
        """Looks whether anyone is left to finish; returns since when there is nobody."""
        if self._client.status != "running":
            raise TfqError(
                "The connection to the Dask scheduler was lost. "
                "See what ended it in the scheduler's own log, start it, and run again."
            )
        if self._client.nthreads():
            return None
        now = time.monotonic()
        if alone_since is not None and now - alone_since > _NO_WORKERS_SECONDS:
            raise TfqError(
                f"The Dask scheduler has had no workers for {_NO_WORKERS_SECONDS:g} s. "
                "If they ran out of memory, start them with more, or make batches smaller."
            )
        return alone_since or now


def _hold(packed: PackedWork) -> PackedWork:
    return packed


def _facts(client: Any, only: Any) -> list[tuple[int, str, int]]:
    """For each worker: its threads, its host, and the host's cores."""
    names = [only] if isinstance(only, str) else only
    try:
        client.wait_for_workers(1, timeout=_CONNECT_SECONDS / 2)
    except Exception as e:
        raise TfqError(
            f"The Dask scheduler {client.scheduler.address} has no workers. "
            f"Start some: dask worker {client.scheduler.address} --nthreads 1."
        ) from e
    slots = client.nthreads()
    answers = client.run(eval, _FACTS, workers=names, on_error="return")
    facts = []
    for worker, answer in answers.items():
        if isinstance(answer, BaseException):
            raise TfqError(
                f"The Dask worker {worker} cannot run tfq ({_reason(answer)}). "
                "Install the same tfq in the environment of every worker."
            ) from answer
        host, cores, version, _ = answer
        if version != tfq.__version__:
            raise TfqError(
                f"The Dask worker {worker} has tfq {version}, this process {tfq.__version__}. "
                "Install the same version everywhere: results would not be the same."
            )
        facts.append((slots.get(worker, 1), host, cores))
    return facts


def _reason(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    said = str(exc).strip().splitlines()
    return f"{type(exc).__name__}: {said[0][:200]}" if said else type(exc).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Dask's own logs off the terminal: what matters becomes an error here."""
    names = [n for n in logging.root.manager.loggerDict if n.split(".")[0] in _NOISY]
    before = {name: logging.getLogger(name).level for name in {*names, *_NOISY}}
    for name in before:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


_NOISY = ("distributed", "tornado")
