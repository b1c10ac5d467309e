"""A pool of processes that outlives its members.

`concurrent.futures.ProcessPoolExecutor` ends with the first process that dies, does not say which
call was the cause, and starts its processes by running the user's script again. Here every process
has one thread that feeds it, so a death belongs to one call, and costs that call only.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tfq
from tfq.cores import threads_for
from tfq.executors import messages
from tfq.executors.foreign import FileSession, work_file
from tfq.executors.shards import Session, WorkerDiedError
from tfq.executors.workers import Work, Workers
from tfq.temporary import temporary_folder

_START = (
    "import json, sys; calls, results, folder, path = sys.argv[1:]; sys.path[:] = json.loads(path);"
    "from tfq.executors.pool_worker import main; main(int(calls), int(results), folder)"
)


class ProcessPool(concurrent.futures.Executor):
    """Processes that each run one call at a time; one that dies is replaced.

    A call whose process dies ends with `WorkerDiedError`.

    Args:
      count: of processes; they are started when first needed.
      threads: CPU threads that numerical libraries may use in each.
      folder: removed by the processes if this one ends without closing the pool.
    """

    def __init__(self, count: int, threads: int, folder: str):
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._members = [_Member(threads, folder) for _ in range(count)]
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[Any]:
        if self._closed.is_set():
            raise RuntimeError("The pool is closed.")
        if kwargs:
            raise TypeError(f"Only positional arguments are sent. Received: {sorted(kwargs)}.")
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._feed, args=(member,), daemon=True)
                for member in self._members
            ]
            for thread in self._threads:
                thread.start()
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._calls.put((future, fn, args))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the processes, also in the middle of a call; calls that wait are cancelled."""
        self._closed.set()
        for member in self._members:
            self._calls.put(None)
            member.kill()
        for thread in self._threads:
            thread.join()
        for member in self._members:
            member.end()
        with contextlib.suppress(queue.Empty):
            while True:
                call = self._calls.get_nowait()
                if call is not None:
                    call[0].cancel()

    def _feed(self, member: _Member) -> None:
        while (call := self._calls.get()) is not None:
            future, function, arguments = call
            del call
            if self._closed.is_set() or not future.set_running_or_notify_cancel():
                future.cancel()
                continue
            try:
                ok, value = member.call(function, arguments, self._closed)
            except Exception as e:
                future.set_exception(e)
            else:
                if ok:
                    future.set_result(value)
                else:
                    future.set_exception(RuntimeError(value))
                del value
            del future, function, arguments


_Call = tuple[concurrent.futures.Future[Any], Callable[..., Any], tuple[Any, ...]]


class _Member:
    """One process at a time, its pipes, and what it says on standard error."""

    def __init__(self, threads: int, folder: str):
        self._threads = threads
        self._folder = folder
        self._lock = threading.Lock()  # `kill` comes from another thread than `call`.
        self._process: subprocess.Popen[bytes] | None = None
        self._calls = self._results = -1
        self._said: Any = None

    def call(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], closed: threading.Event
    ) -> tuple[bool, Any]:
        """Runs one call in the process, which is started if there is none."""
        with self._lock:
            if closed.is_set():
                raise WorkerDiedError("the pool was closed")
            if self._process is None:
                self._start()
        try:
            messages.send(self._calls, (function, arguments))
            answer: tuple[bool, Any] = messages.load(messages.receive(self._results))
            return answer
        except (OSError, EOFError):
            raise WorkerDiedError(self.end()) from None

    def kill(self) -> None:
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def end(self) -> str:
        """Makes sure that the process is gone; returns how it ended."""
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return "it was ended"
            os.close(self._calls)
            os.close(self._results)
            try:
                code = process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            self._said.seek(0)
            said = self._said.read().decode("utf-8", "replace").strip().splitlines()
            self._said.close()
        how = _signal_name(-code) if code < 0 else f"exit code {code}"
        return f"{how}: {said[-1][:300]}" if said else how

    def _start(self) -> None:
        calls, self._calls = os.pipe()
        self._results, results = os.pipe()
        messages.widen(self._calls)
        messages.widen(results)
        self._said = tempfile.TemporaryFile("ab+")  # noqa: SIM115 - `end` reads and closes it.
        try:
            arguments = [str(calls), str(results), self._folder, _path()]
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=(calls, results),
                start_new_session=True,  # Ctrl-C comes to this process, which decides.
                env=_environment(self._threads),
            )
        finally:
            os.close(calls)
            os.close(results)


class PoolWorkers(Workers):
    """Processes on this machine."""

    def __init__(self, count: int):
        super().__init__(count, threads_for(count), f"{count} processes")
        self._open = contextlib.ExitStack()
        self._folder = self._open.enter_context(temporary_folder("workers"))
        self._pool = ProcessPool(count, self.threads, self._folder)

    def close(self) -> None:
        self._pool.shutdown()
        self._open.close()

    @contextlib.contextmanager
    def _session(self, work: Work) -> Iterator[Session]:
        with work_file(work, self._folder) as file:
            yield FileSession(self._pool, file, self.threads)


def _path() -> str:
    """This process's module search path, for modules of the user's own."""
    root = str(Path(tfq.__file__).resolve().parents[1])
    here = [os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)]
    return json.dumps([*here, root])


def _environment(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**dict.fromkeys(names, str(threads)), **os.environ}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
