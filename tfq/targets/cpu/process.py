"""The other end of `worker`: starts it, asks, waits, and makes one error of what goes wrong."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tfq.children import environment, lifeline
from tfq.errors import ModelError
from tfq.temporary import temporary_folder

_START_SECONDS = 60.0  # What starting Python and LiteRT may take, beside the time limit.


class Process:
    """A model in a process of its own.

    Args:
      model: `.tflite` bytes.
      kernels, threads: as of `tfq.targets.Asked`.
      timeout: seconds that one answer may take.

    Attributes:
      loaded: the worker's answer to "load".
      folder: for files, removed with the process.
      model: the file of it there.

    Raises:
      ModelError: LiteRT refuses the model, or the process ends or hangs; so do the methods.
    """

    def __init__(self, model: bytes, *, kernels: str, threads: int, timeout: float) -> None:
        self._kernels = kernels
        self._timeout = timeout
        self._stack = contextlib.ExitStack()
        try:
            self.folder = Path(self._stack.enter_context(temporary_folder("benchmark")))
            self.model = self.folder / "model.tflite"
            self.model.write_bytes(model)
            life = self._stack.enter_context(lifeline())
            self._said = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            self._child = self._start(life)
            self._stack.callback(self._end)
            self.loaded = self.ask(
                "load", wait=_START_SECONDS, model=str(self.model), kernels=kernels, threads=threads
            )
        except BaseException:
            self._stack.close()
            raise

    def _start(self, life: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tfq.targets.cpu.worker", str(life)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            pass_fds=[life],
            env=environment(),
        )

    def ask(self, what: str, wait: float = 0.0, **arguments: Any) -> dict[str, Any]:
        """Sends a command and returns its answer.

        Args:
          what: the command.
          wait: seconds that the answer may take beside the time limit.
          arguments: of the command.
        """
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write((json.dumps({"do": what, **arguments}) + "\n").encode("ascii"))
            self._child.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        line = self._line(self._child.stdout.fileno(), self._timeout + wait)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            reason = " ".join(answer["error"].split()).rstrip(".")
            refused = "refuses the model" if what == "load" else "fails while running the model"
            other = self._kernels == "xnnpack" and "XNNPack" in reason
            raise ModelError(
                f"LiteRT ({self._kernels} kernels) {refused}: {reason}."
                + (" Other kernels may take it: builtin." if other else "")
            )
        return answer

    def _line(self, handle: int, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        parts: list[bytes] = []
        while not (parts and parts[-1].endswith(b"\n")):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([handle], [], [], left)[0]:
                self._child.kill()
                raise ModelError(
                    f"LiteRT ({self._kernels} kernels) does not answer within {seconds:g} s: the "
                    "model is too slow for that, or never ends. Allow more time (timeout)."
                )
            part = os.read(handle, 1 << 20)
            if not part:
                raise self._ended()
            parts.append(part)
        return b"".join(parts)

    def _ended(self) -> ModelError:
        try:
            code = self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            code = self._child.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").split("\n")
        last = next((x.strip() for x in reversed(lines) if x.strip()), "")
        return ModelError(
            f"The model ends the process that runs it ({how}; LiteRT, {self._kernels} kernels)."
            + (f" It said: {last[:300]}" if last else "")
        )

    def _end(self) -> None:
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._child.kill()
        self._child.wait()

    def close(self) -> None:
        """Ends the process and removes its files."""
        self._stack.close()
