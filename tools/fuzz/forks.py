"""Work in children that may crash, hang or be killed, each input judged all the same.

A child is forked once and works through many inputs; it says in a pipe at which one it is. Where it
dies or stands still, the input it was at is to blame, and another child goes on behind it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# A new child now and then: what native code leaks does not add up.
_INPUTS_OF_A_CHILD = 400


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of one input.

    Attributes:
      number: of the input.
      kind: "ok" (done), "refused" (one error, as it should be), or a fault: "uncaught", "garbled",
        "leftover", "unusable", "crash", "hang".
      detail: the traceback, the signal, or what was left.
      where: what faults of one kind are counted by.
      seconds: that it took.
    """

    number: int
    kind: str
    detail: str = ""
    where: str = ""
    seconds: float = 0.0

    @property
    def fault(self) -> bool:
        return self.kind not in ("ok", "refused")


class _Child:
    """One forked process and the inputs that are left to it."""

    def __init__(self, work: Callable[[int], Verdict], numbers: list[int], memory: int):
        self.numbers = numbers
        self.at = numbers[0]
        self.since = time.monotonic()
        self.buffer = b""
        self.reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self.reader)
                _child(work, numbers[:_INPUTS_OF_A_CHILD], writer, memory)
                code = 0
            finally:
                os._exit(code)
        os.close(writer)

    def end(self) -> int:
        """Ends the child and all that it started; its exit code, below 0 a signal."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        os.close(self.reader)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _child(
    work: Callable[[int], Verdict], numbers: Sequence[int], writer: int, memory: int
) -> None:
    os.setsid()  # A group of its own, so that what it starts ends with it.
    sink = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(sink, descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent ends it.
    for number in (signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory:  # An absurd size must fail here, and not fill the machine.
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    gc.freeze()
    for number in numbers:
        os.write(writer, f"{number}\n".encode())
        start = time.monotonic()
        verdict = dataclasses.replace(work(number), seconds=time.monotonic() - start)
        os.write(writer, json.dumps(dataclasses.asdict(verdict)).encode() + b"\n")


def judge(
    work: Callable[[int], Verdict],
    numbers: Sequence[int],
    *,
    workers: int = 1,
    time_limit: float = 120.0,
    memory: int = 0,
    seconds: float | None = None,
) -> Iterator[Verdict]:
    """Does `work` on every number, in children; yields what became of each.

    Args:
      work: what is done with the input of that number. Whatever it does to its process is found
        out; an exception that it lets out ends the child, and counts as a crash.
      numbers: of the inputs.
      workers: children at a time.
      time_limit: seconds that one input may take.
      memory: bytes of address space that a child may have; 0: no limit.
      seconds: no input begins later than so long after the start.
    """
    until = None if seconds is None else time.monotonic() + seconds
    queues = [list(numbers[i::workers]) for i in range(workers)]
    children = [_Child(work, queue, memory) for queue in queues if queue]
    try:
        while children:
            ready, _, _ = select.select([c.reader for c in children], [], [], 1.0)
            for child in list(children):
                late = until is not None and time.monotonic() > until
                verdicts, ended = (
                    _read(child)
                    if child.reader in ready
                    else ([], time.monotonic() - child.since > time_limit)
                )
                yield from verdicts
                if not ended and not (late and verdicts):
                    continue
                children.remove(child)
                hung = child.reader not in ready
                began = child.since
                code = child.end()
                if late and not ended:
                    continue
                if child.numbers and child.at == child.numbers[0] and (hung or code):
                    yield _fault(child, code, hung, time.monotonic() - began)
                    child.numbers.pop(0)
                if child.numbers and not late:
                    children.append(_Child(work, child.numbers, memory))
    finally:
        for child in children:
            child.end()


def _read(child: _Child) -> tuple[list[Verdict], bool]:
    """What the child said; whether that was all."""
    said = os.read(child.reader, 1 << 16)
    *lines, child.buffer = (child.buffer + said).split(b"\n")
    verdicts = []
    for line in lines:
        message: Any = json.loads(line)
        if isinstance(message, int):
            child.at, child.since = message, time.monotonic()
        else:
            verdicts.append(Verdict(**message))
            child.numbers.pop(0)
    return verdicts, not said


def _fault(child: _Child, code: int, hung: bool, seconds: float) -> Verdict:
    if hung:
        return Verdict(child.at, "hang", f"not done after {seconds:.0f} s", "hang")
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return Verdict(child.at, "crash", how, how)
