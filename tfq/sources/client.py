"""Starts the worker process, listens to it, and turns its end into a result or one error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tfq.errors
from tfq.children import lifeline
from tfq.errors import ModelError, TfqError
from tfq.sources.causes import last_errors, signal_name

_COMMAND = [sys.executable, "-m", "tfq.sources.worker"]


def run_worker(
    request: dict[str, Any], folder: Path, progress: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Runs one request in a process of its own and returns the worker's answer.

    Args:
      request: as `tfq.sources.worker` documents it.
      folder: an empty scratch folder; request, log and answer are written there.
      progress: called with each stage the worker enters.

    Raises:
      TfqError: what the worker reported, or how it died; never with a traceback.
      KeyboardInterrupt: after the worker has been killed.
    """
    request_path, answer_path, log_path = (
        folder / "request.json",
        folder / "answer.json",
        folder / "log.txt",
    )
    request_path.write_text(json.dumps(request))
    stage = "starting"
    with open(log_path, "wb") as log, lifeline() as life:
        worker = subprocess.Popen(
            [*_COMMAND, str(request_path), str(answer_path)],
            stdin=life,
            stdout=subprocess.PIPE,
            stderr=log,
            env=_environment(folder),
            start_new_session=os.name == "posix",  # Ctrl-C comes to this process, which decides.
            text=True,
        )
        try:
            assert worker.stdout is not None
            for line in worker.stdout:
                stage = line.strip()
                if progress is not None:
                    progress(stage)
            code = worker.wait()
        finally:
            _end(worker)
    if code == 0 and answer_path.exists():
        answer = json.loads(answer_path.read_text())
        if "error" in answer:
            kind = getattr(tfq.errors, answer["error"]["type"], ModelError)
            raise kind(answer["error"]["message"])
        return answer
    if code == -signal.SIGALRM:
        raise ModelError(
            f"Cannot read {request['shown']}: reading its configuration does not end; the file is "
            "damaged. Copy it again, or save the model again."
        )
    raise _died(code, stage, log_path.read_text("utf-8", "replace"))


def _environment(folder: Path) -> dict[str, str]:
    package_root = str(Path(tfq.errors.__file__).resolve().parent.parent)
    paths = [package_root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **os.environ,
        "TMPDIR": str(folder),  # TensorFlow's own temporary files, which a killed one leaves.
        "PYTHONPATH": os.pathsep.join(paths),
        "TF_CPP_MIN_LOG_LEVEL": "2",  # Errors stay: they are the root cause if the worker dies.
        "CUDA_VISIBLE_DEVICES": "",
        "TF_ENABLE_ONEDNN_OPTS": "0",  # The same sums in the same order on every machine.
        "KERAS_BACKEND": "tensorflow",
        "PYTHONFAULTHANDLER": "",
    }


def _end(worker: subprocess.Popen) -> None:
    """Makes sure that the worker and whatever it started are gone."""
    if worker.poll() is None:
        if os.name == "posix":
            os.killpg(worker.pid, signal.SIGKILL)
        else:
            worker.kill()
        worker.wait()
    if worker.stdout is not None:
        worker.stdout.close()


def _died(code: int, stage: str, log: str) -> TfqError:
    said = last_errors(log)
    if "No module named 'tensorflow'" in log:
        return ModelError(
            "TensorFlow is not installed, and only .tflite files convert without it. "
            "Install it: pip install tensorflow."
        )
    how = f"was ended by {signal_name(code)}" if code < 0 else f"ended with exit code {code}"
    hint = ""
    if code == -signal.SIGKILL:
        hint = " The machine may have run out of memory."
    return ModelError(
        f"TensorFlow {how} in the stage {stage!r}{': ' + said if said else ''}.{hint} "
        "Convert a smaller part of the model to find the layer, or export it to a float .tflite "
        "yourself and pass that."
    )
