"""Whether a model runs at all, found out in a process that may die of it.

A damaged flatbuffer can make the interpreter read out of bounds, and a crash there takes the
user's process along. So a file from outside is first parsed in Python, which bounds-checks, and
then allocated and invoked once on zeros in a child process with limits on time and memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfq.children import end_with_parent, environment, lifeline
from tfq.errors import ModelError, TfqError
from tfq.graph.model import Model, numpy_dtype
from tfq.graph.runnable import runnable
from tfq.runtime import Runner
from tfq.temporary import temporary_folder

_KERNELS = ("xnnpack", "builtin")
# LiteRT counts bytes of one tensor in places with 32 bits.
_MAX_TENSOR_BYTES = 2**31
# Seconds that allocating and one run with each set of kernels may take, where nobody says else.
TIME_LIMIT = 60.0
# What LiteRT says of an op that it has no kernel for: a foreign custom op, or one of TensorFlow's.
_UNRESOLVED = (
    "Encountered unresolved custom op",
    "Select TensorFlow op(s), included in the given model",
    "Regular TensorFlow ops are not supported by this interpreter",
)


class UnresolvedOpError(ModelError):
    """LiteRT has no kernel for an op of the model, so nothing of it can run."""


def check_runs(model: bytes, *, where: str = "the model", time_limit: float | None = None) -> Model:
    """Checks a `.tflite` file's structure and runs it once in a child process.

    Of a model with ops that LiteRT has no kernel for, only the structure is checked: no run of it
    gets further than that. LiteRT has kernels of its own for some custom ops.

    Args:
      model: the file's bytes.
      where: what to call the file in an error.
      time_limit: seconds that allocating and one run with each set of kernels may take; None:
        `TIME_LIMIT`.

    Returns:
      The parsed model.

    Raises:
      ModelError: the structure is damaged, or the model crashes, is refused, takes more memory
        than the machine has, or does not finish.
    """
    try:
        parsed = Model.from_bytes(model, where=where)
    except MemoryError:
        raise ModelError(f"Cannot read {where}: it is damaged. Export or copy it again.") from None
    check_structure(parsed, where)
    with contextlib.suppress(UnresolvedOpError):
        run_in_child(runnable(model), where=where, time_limit=time_limit)
    return parsed


def run_in_child(
    model: bytes,
    *,
    where: str,
    time_limit: float | None = None,
    kernels: Sequence[str] = _KERNELS,
    shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int | None = None,
) -> None:
    """Runs a model of good structure once in a child process, as `check_runs` does.

    Args:
      model: the file's bytes.
      where: what to call the file in an error.
      time_limit: seconds; None: `TIME_LIMIT`.
      kernels: the sets to run it with, as for `Runner`.
      shapes, batch: what its inputs are resized to, as for `Runner`.

    Raises:
      UnresolvedOpError: LiteRT has no kernel for one of its ops.
      ModelError: it crashes, is refused, takes too much memory, or does not finish.
    """
    resized: dict[str, Any] = {"shapes": shapes, "batch": batch}
    time_limit = TIME_LIMIT if time_limit is None else time_limit
    # A process with threads (TensorFlow's, say) cannot fork safely: their locks stay taken.
    if hasattr(os, "fork") and threading.active_count() == 1 and "tensorflow" not in sys.modules:
        code, said = _in_fork(model, time_limit, kernels, resized)
    else:
        code, said = _in_subprocess(model, time_limit, kernels, resized)
    if code == 0:
        return
    if code is None:
        raise ModelError(
            f"{_start(where)} does not finish one run in {time_limit:g} s. It is damaged, or holds "
            "an endless loop."
        )
    if code == 1 and said:
        kind = UnresolvedOpError if any(text in said for text in _UNRESOLVED) else ModelError
        raise kind(f"{_start(where)} does not run: {said} Export or copy it again.")
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    raise ModelError(
        f"{_start(where)} crashes the LiteRT interpreter ({how}): it is damaged. "
        "Export or copy it again."
    )


def _start(where: str) -> str:
    return where[:1].upper() + where[1:] if where.startswith("the ") else where


def check_structure(model: Model, where: str) -> None:
    """What the interpreter trusts without looking: dimensions, and who computes what.

    Raises:
      ModelError: the message names the tensor, and the op where one reads it too early.
    """
    for graph in model.graphs:
        for tensor in graph.tensors():
            bad = [d for d in tensor.shape if d < 0]
            width = 1
            if tensor.dtype not in ("string", "resource", "variant"):
                width = numpy_dtype(tensor.dtype).itemsize
            count = 1
            for d in tensor.shape:
                count *= max(d, 1)
            if bad or count * width > _MAX_TENSOR_BYTES:
                raise ModelError(
                    f"Cannot read {where}: tensor {tensor.name!r} has the impossible shape "
                    f"{list(tensor.shape)}; it is damaged. Export or copy it again."
                )
        known = {t for t in graph.tensors() if t.is_const or t.is_variable} | set(graph.inputs)
        for op in graph.ops:
            for read in op.inputs:
                if read is not None and read not in known and read.size:
                    raise ModelError(
                        f"Cannot read {where}: {op.label} reads {read.name!r} before anything "
                        "computes it; the file is damaged. Export or copy it again."
                    )
            known.update(op.outputs)
        lost = [t for t in graph.outputs if t not in known]
        if lost:
            raise ModelError(
                f"Cannot read {where}: nothing computes its output {lost[0].name!r}; it is "
                "damaged. Export or copy it again."
            )

    for signature in model.signatures:
        graph = model.graphs[signature.graph]
        for named, ends in (
            (signature.inputs, graph.inputs),
            (signature.outputs, graph.outputs),
        ):
            for name, tensor in named.items():
                if tensor not in ends:
                    raise ModelError(
                        f"Cannot read {where}: signature {signature.key!r} calls {name!r} what is "
                        f"no input or output of its graph ({tensor.name!r}); the file is damaged. "
                        "Export or copy it again."
                    )


def run_once(
    model: bytes, kernels: Sequence[str] = _KERNELS, resized: Mapping[str, Any] | None = None
) -> None:
    """Allocates and invokes on zeros with each set of kernels."""
    for each in kernels:
        Runner(model, kernels=each, **(resized or {})).run_on_zeros()


def _child(model: bytes, kernels: Sequence[str], resized: Mapping[str, Any]) -> tuple[int, str]:
    """The child's whole work: exit code and, for 1, the reason."""
    _limit_memory()
    try:
        run_once(model, kernels, resized)
    except TfqError as e:
        return 1, str(e)
    except MemoryError as e:
        return 1, f"{type(e).__name__}: {e}."
    return 0, ""


def _limit_memory() -> None:
    """Caps the address space at what the process has now plus the machine's memory, so that an
    absurd size fails to allocate instead of driving the machine into swapping."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = (pages + os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (ImportError, OSError, ValueError):
        return  # Not Linux: no cap.


def _in_fork(
    model: bytes, time_limit: float, kernels: Sequence[str], resized: Mapping[str, Any]
) -> tuple[int | None, str]:
    # LiteRT is loaded before the fork: the child then needs milliseconds, not a new import.
    import ai_edge_litert.interpreter  # noqa: F401

    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    life, parents_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        # Nothing may escape from here: the parent's handlers, buffers and tests live in this copy.
        code = 3
        try:
            os.close(reader)
            os.close(parents_end)
            end_with_parent(life)
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE):
                signal.signal(number, signal.SIG_DFL)
            code, said = _child(model, kernels, resized)
            os.write(writer, said.encode()[:4000])
        finally:
            os._exit(code)
    os.close(writer)
    os.close(life)
    try:
        deadline = time.monotonic() + time_limit
        ready, _, _ = select.select([reader], [], [], time_limit)
        said = os.read(reader, 4096).decode("utf-8", "replace") if ready else ""
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                pid = 0
                return os.waitstatus_to_exitcode(status), said
            time.sleep(0.001)
        return None, ""
    finally:
        os.close(reader)
        os.close(parents_end)
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _in_subprocess(
    model: bytes, time_limit: float, kernels: Sequence[str], resized: Mapping[str, Any]
) -> tuple[int | None, str]:
    with temporary_folder("check") as folder, lifeline() as life:
        file = Path(folder) / "model.tflite"
        file.write_bytes(model)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tfq.graph.check", str(file), json.dumps(resized), *kernels],
                stdin=life,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=time_limit + 10,  # Starting Python and LiteRT takes part of it.
                env=environment(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None, ""
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _main() -> int:
    end_with_parent()
    code, said = _child(Path(sys.argv[1]).read_bytes(), sys.argv[3:], json.loads(sys.argv[2]))
    sys.stdout.write(said)
    return code


if __name__ == "__main__":
    sys.exit(_main())
