"""Child processes that end when the process that started them ends, however that ends.

The child holds one end of a pipe whose other end only its parent holds. The kernel closes that with
the parent, by kill -9 too, and sends the child SIGIO, which ends it.

Not with a thread of the child that waits for the end of the pipe: it would need Python's lock,
which TensorFlow's converter keeps for as long as it works. Nor with Linux's PR_SET_PDEATHSIG: it
ends the child with the thread that started it, and misses a parent that has ended before the child
asks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import stat
from collections.abc import Iterator
from pathlib import Path


def environment() -> dict[str, str]:
    """In which a child's `python -m tfq...` finds the tfq that this process runs."""
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@contextlib.contextmanager
def lifeline() -> Iterator[int]:
    """What a child started in the block gets as its standard input, to `end_with_parent` by."""
    reader, writer = os.pipe()
    try:
        yield reader
    finally:
        os.close(reader)
        os.close(writer)


def end_with_parent(pipe: int = 0) -> None:
    """Called by the child: ends it, now or later, as soon as its parent has ended.

    Args:
      pipe: of `lifeline`, or another that nothing is ever written to. Anything else than a pipe
        (the child was started by hand) is left alone.
    """
    if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
        return
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:  # The parent ended before there was a signal.
        os._exit(1)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Ends this process by SIGALRM where the block takes longer. For a child; its parent says why.

    Not an exception: C code that loops, as HDF5 does on some damaged files, never comes back to
    where Python would raise one.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
