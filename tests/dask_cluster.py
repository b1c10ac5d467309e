"""A real Dask cluster on loopback, for tests."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parent


class Cluster:
    """A scheduler, and workers that may come and go.

    Args:
      folder: of logs.
      paths: where workers find modules besides tfq.
    """

    def __init__(self, folder, *paths):
        self.folder = folder
        self.paths = paths
        self.processes = []
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", "0")
        pattern = r"Scheduler at:\s+(tcp://\S+)"
        self.address = self.read(self.scheduler, pattern)

    def worker(self, *options, path=()):
        worker = self.start(
            *("worker", self.address, "--nthreads", "1", "--local-directory", str(self.folder)),
            *(options or ("--no-nanny",)),
            path=path,
        )
        self.read(worker, r"Registered to:\s+(tcp://\S+)")
        return worker

    def start(self, *arguments, path=()):
        log = self.folder / f"{len(self.processes)}.log"
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments, "--no-dashboard"],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                cwd=self.folder,  # Not where tfq itself is: `path` decides.
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(
                        [*path, str(TESTS.parent), *map(str, self.paths)]
                    ),
                    "PYTHONWARNINGS": "ignore",
                },
            )
        process.log = log
        self.processes.append(process)
        return process

    def read(self, process, pattern):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if found := re.search(pattern, process.log.read_text()):
                return found[1]
            time.sleep(0.05)
        raise AssertionError(process.log.read_text())

    def close(self):
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
