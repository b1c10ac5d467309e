"""Works for the tests of executors, in a module that workers can import."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np

from tfq.errors import DataError
from tfq.executors import Shard


class Sums:
    """Order-dependent float sums of a payload, slowed to `seconds` each.

    Each unpickling appends a line "pid thread" to `log`.
    """

    def __init__(self, log=None, seconds=0.0, ballast=b""):
        self.log = log
        self.seconds = seconds
        self.ballast = ballast

    def __setstate__(self, state):
        self.__dict__.update(state)
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()} {threading.get_ident()}\n")

    def __call__(self, payload, threads):
        time.sleep(self.seconds)
        return float(np.cumsum(payload.astype(np.float32))[-1]), os.getpid()


class Kills:
    """Ends its own process with SIGKILL at payload `at`; once, if `flag` is a path."""

    def __init__(self, at, flag=None):
        self.at = at
        self.flag = flag

    def __call__(self, payload, threads):
        if payload == self.at and _first(self.flag):
            os.kill(os.getpid(), signal.SIGKILL)
        return payload * 10


class Aborts:
    """Says something on standard error and ends its process, as a native check does."""

    def __call__(self, payload, threads):
        os.write(2, b"noise\nRUY_CHECK failed\n")
        os.abort()


class Raises:
    """Raises `kind` for the payloads `at`; only the first time, if `flag` is a path."""

    def __init__(self, at, kind=ValueError, flag=None):
        self.at = set(at)
        self.kind = kind
        self.flag = flag

    def __call__(self, payload, threads):
        if payload in self.at and _first(self.flag):
            raise self.kind(f"payload {payload} is bad")
        return payload * 10


class OddError(DataError):
    """An error that cannot be unpickled."""

    def __init__(self, one, two="two"):
        super().__init__(f"{one}{two}")

    def __reduce__(self):
        return (OddError, ())


class Threads:
    def __call__(self, payload, threads):
        return threads


class OneThreadOnly:
    """Returns whether this copy was ever called by more than one thread."""

    def __init__(self):
        self.callers = set()

    def __call__(self, payload, threads):
        self.callers.add(threading.get_ident())
        time.sleep(0.01)
        return len(self.callers), id(self), threading.get_ident()


class NotPickled:
    def __reduce__(self):
        raise RuntimeError("never pickled in one process")

    def __call__(self, payload, threads):
        return payload


class Unsendable:
    """A result that no pipe takes."""

    def __call__(self, payload, threads):
        return threading.Lock()


class Peak:
    """The largest resident size of the worker, in KB."""

    def __call__(self, payload, threads):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Pids:
    """Leaves its pid in a folder, then works for so long."""

    def __init__(self, folder, seconds):
        self.folder = folder
        self.seconds = seconds

    def __call__(self, payload, threads):
        (Path(self.folder) / str(os.getpid())).touch()
        time.sleep(self.seconds)
        return os.getpid()


def _first(flag):
    """Whether this is the first caller of all processes."""
    if flag is None:
        return True
    with contextlib.suppress(FileExistsError):
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
        return True
    return False


def numbers(count):
    return [Shard(i, f"samples {8 * i} to {8 * i + 7}", i) for i in range(count)]


def arrays(count, rows=100, seed=3):
    rng = np.random.default_rng(seed)
    for i in range(count):
        yield Shard(i, f"samples {rows * i}", rng.normal(size=rows))


class Spins:
    """Keeps a core busy for so many seconds of CPU time."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __call__(self, payload, threads):
        end = time.thread_time() + self.seconds
        while time.thread_time() < end:
            pass
        return 0
