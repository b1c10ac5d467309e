"""What the three workers share: reading jobs, feeding samples, timing, peak memory.

A worker is `python worker_NAME.py JOBS RESULTS`: JOBS is a JSON list of objects with an `id` and an
`action`; one JSON line per job is appended to RESULTS as soon as it is done, so that a job that
kills the process loses only itself. Imports numpy alone: it runs in the peers' environments too.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Job = dict[str, Any]


def peak_rss_mb() -> float:
    """Peak resident memory of this process in MB.

    From VmHWM and not from getrusage, whose maximum survives exec and so counts the parent's.
    """
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no VmHWM line.")


class Samples:
    """Samples of an `.npz` as one dict per sample, batch 1; may be read any number of times.

    Args:
      path: `.npz` with one array per input, samples along the first axis; `y` is left out.
      count: how many samples a pass yields; the file's samples are cycled when it has fewer.

    Attributes:
      marks: after a pass, the times in seconds at which the consumer asked for a sample and for the
        end; their differences are what one sample cost.
    """

    def __init__(self, path: str, count: int | None = None):
        with np.load(path) as file:
            self._arrays = {k: file[k] for k in file.files if k != "y"}
        self._stored = len(next(iter(self._arrays.values())))
        self.count = self._stored if count is None else count
        self.marks: list[float] = []

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        self.marks = []
        for i in range(self.count):
            self.marks.append(time.perf_counter())
            k = i % self._stored
            yield {name: a[k : k + 1] for name, a in self._arrays.items()}
        self.marks.append(time.perf_counter())

    def ms_per_sample(self, warmup: int) -> float:
        """Mean milliseconds per sample of the last pass, without its first `warmup` samples."""
        spent = self.marks[-1] - self.marks[warmup]
        return 1000 * spent / (len(self.marks) - 1 - warmup)


def serve(actions: dict[str, Callable[[Job], dict[str, Any]]]) -> None:
    """Does every job of the file named on the command line; see the module's docstring."""
    jobs, results = sys.argv[1], pathlib.Path(sys.argv[2])
    for job in json.loads(pathlib.Path(jobs).read_text()):
        try:
            answer = {"ok": True, **actions[job["action"]](job)}
        # A peer may raise anything; what it raised is the result.
        except Exception as e:
            traceback.print_exc()
            text = " ".join(str(e).split())
            answer = {"ok": False, "error": f"{type(e).__name__}: {text[:400]}"}
        with results.open("a") as file:
            file.write(json.dumps({"id": job["id"], **answer}) + "\n")
