"""A Dask cluster of processes on this machine, for as long as a block of code runs."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator


@contextlib.contextmanager
def start(workers: int) -> Iterator[str]:
    """Starts a scheduler and so many workers of one thread each; yields the address."""
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "scheduler.json")

        def run(*command: str) -> None:
            process = subprocess.Popen(
                [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)

        here = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file))
        run("dask_scheduler", *here, "--port", "0")
        while not file.exists():
            time.sleep(0.05)
        for _ in range(workers):
            run("dask_worker", *here, "--nthreads", "1", "--nworkers", "1")
        import json

        from distributed import Client

        address = json.loads(file.read_text())["address"]
        with Client(address) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address
