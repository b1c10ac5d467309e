"""Runs jobs in the workers' environments and survives the jobs that kill their process."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jobs
import venvs

CONVERTERS = ("tfq", "tensorflow", "litert-quantizer")
# What "tfq-fast" sets: minimum and maximum, and no improvement.
FAST = {"quality": "fast"}
_WORKERS = {
    "tfq": "worker_tfq.py",
    "tensorflow": "worker_tf.py",
    "litert-quantizer": "worker_lq.py",
    "judge": "worker_judge.py",
    "training": "worker_train.py",
    "tfmot": "worker_tfmot.py",
}
_HERE = pathlib.Path(__file__).parent
# One thread wherever a library would take more, so that per-sample times can be compared.
_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "-1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TFQ_BENCH_CHECKOUT": str(_HERE.parent.parent),
}


def run_jobs(
    converter: str, todo: Sequence[jobs.Job], *, timeout: float = 600
) -> dict[str, dict[str, Any]]:
    """Does `todo` in one process of the converter; the process is restarted after a crash.

    Args:
      converter: a name of `CONVERTERS`, or "judge".
      todo: jobs with unique ids.
      timeout: seconds that a process may go without finishing a job.

    Returns:
      For each id the worker's answer: `ok`, and either its figures or `error`. A job whose process
      died has `ok` False and the signal's name as its error.

    Raises:
      RuntimeError: the worker ended by itself with jobs left: its environment is broken.
    """
    python = venvs.python_of(converter)
    answers: dict[str, dict[str, Any]] = {}
    left = list(todo)
    with tempfile.TemporaryDirectory() as work:
        jobs_file, results, log = (pathlib.Path(work, n) for n in ("jobs", "results", "log"))
        while left:
            jobs_file.write_text(json.dumps(left))
            results.write_text("")
            command = [str(python), str(_HERE / _WORKERS[converter]), str(jobs_file), str(results)]
            with log.open("wb") as sink:
                process = subprocess.Popen(
                    command, env={**os.environ, **_ENVIRONMENT}, stdout=sink, stderr=sink
                )
                end = _wait(process, results, timeout)
            done = [json.loads(line) for line in results.read_text().splitlines()]
            answers.update({d.pop("id"): d for d in done})
            left = left[len(done) :]
            if left:
                if process.returncode > 0:
                    tail = log.read_bytes()[-3000:].decode("utf-8", "replace")
                    raise RuntimeError(f"{' '.join(command)} could not work:\n{tail}")
                answers[left.pop(0)["id"]] = {"ok": False, "error": end}
    return answers


def _wait(process: subprocess.Popen, results: pathlib.Path, timeout: float) -> str:
    """Waits for the end; returns why the process ended early, if it did."""
    seen, since = -1, time.monotonic()
    while process.poll() is None:
        size = results.stat().st_size
        if size != seen:
            seen, since = size, time.monotonic()
        if time.monotonic() - since > timeout:
            process.kill()
            process.wait()
            return f"no answer within {timeout:.0f} s"
        time.sleep(0.02)
    return f"process died: {signal.Signals(-code).name}" if (code := process.returncode) < 0 else ""


def run_job(converter: str, job: jobs.Job, *, timeout: float = 600) -> dict[str, Any]:
    """One job in a process of its own."""
    return run_jobs(converter, [{"id": "job", **job}], timeout=timeout)["job"]


def columns(converters: Sequence[str]) -> list[str]:
    """The converters, and "tfq-fast" after tfq."""
    return [c for name in converters for c in ([name, "tfq-fast"] if name == "tfq" else [name])]


def conversion(
    column: str,
    prepared: Any,
    out: pathlib.Path,
    *,
    settings: dict[str, Any] | None = None,
    samples: int | None = None,
) -> tuple[str, jobs.Job]:
    """The converter of a column, and the job for it.

    Args:
      column: a name of `columns`.
      prepared: `models.Prepared`, or `networks.Prepared`, which has no SavedModel.
      out: where the int8 file goes.
      settings: `convert_model`'s keywords for tfq with its defaults.
      samples: how many of the calibration samples, repeated if there are not so many; None: all.
    """
    converter = column.removesuffix("-fast")
    job: jobs.Job = {
        "action": "convert",
        "model": str(prepared.float_model),
        "saved_model": None,
        "data": str(prepared.calibration),
        "samples": samples,
        "out": str(out),
    }
    if hasattr(prepared, "saved_model"):
        job["saved_model"] = str(prepared.saved_model)
    if converter == "tfq":
        job["settings"] = FAST if column == "tfq-fast" else settings or {}
    return converter, job


def parser(doc: str) -> argparse.ArgumentParser:
    """The flags that every benchmark has."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="fewer cases and rounds: a smoke run")
    made.add_argument("--json", metavar="FILE", help="write all figures there as well")
    made.add_argument("--venv_dir", help="where the peers' environments are kept")
    made.add_argument(
        "--converters",
        default=",".join(CONVERTERS),
        help=f"which of them to run (default {','.join(CONVERTERS)})",
    )
    return made


def start(made: argparse.ArgumentParser) -> argparse.Namespace:
    """Parses the flags; `converters` becomes a list."""
    flags = made.parse_args()
    if flags.venv_dir:
        os.environ["TFQ_BENCH_VENVS"] = flags.venv_dir
    flags.converters = flags.converters.split(",")
    unknown = set(flags.converters) - set(CONVERTERS)
    if unknown:
        made.error(f"unknown converters {sorted(unknown)}; known: {', '.join(CONVERTERS)}")
    return flags


def write_json(flags: argparse.Namespace, figures: Any) -> None:
    """Writes `figures` to --json, if given."""
    if flags.json:
        target = pathlib.Path(flags.json)
        work = target.with_name(f".{target.name}.{os.getpid()}")
        work.write_text(json.dumps(figures, indent=1) + "\n")
        work.replace(target)
