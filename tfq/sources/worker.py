"""The process in which TensorFlow runs: `python -m tfq.sources.worker REQUEST ANSWER`.

TensorFlow's converter can end its process, leaks memory and prints at will, so it gets a process
of its own. The request is a JSON object:

    kind        "saved_model", "keras", "h5" or "frozen_graph"
    path        file or folder
    signature   key of a SavedModel's signature, or null
    batch       the batch size to write into the file
    output      where to write the float .tflite
    shown       what to call the source in errors
    scratch     an empty folder
    allow_code  whether code that the file contains may run (optional)
    input_names, output_names   the user's names for those in the file (optional)
    layers      names of layers that the source has (optional)

The answer is a JSON object: `signature`, `checks`, `layers`, `warnings`, `timings` in seconds; or
`error` with `type` and `message`. Lines on stdout name the stage entered.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from tfq.children import time_limit
from tfq.sources.scan_keras import refuse_keras_file

# To read the configuration of a Keras file takes a second at most.
_PATIENCE_SECONDS = 60.0


class Stages:
    """Tells the parent what is being done, and times it."""

    def __init__(self, channel: TextIO):
        self._channel = channel
        self._since = time.perf_counter()
        self._name = ""
        self.timings: dict[str, float] = {}

    def enter(self, name: str, text: str) -> None:
        self.leave()
        self._name = name
        self._channel.write(text + "\n")
        self._channel.flush()

    def leave(self) -> None:
        now = time.perf_counter()
        if self._name:
            self.timings[self._name] = now - self._since
        self._since, self._name = now, ""


def run(request: dict[str, Any], stages: Stages) -> dict[str, Any]:
    """Loads, converts, compares, writes the file; returns the answer."""
    if request["kind"] in ("keras", "h5") and not request.get("allow_code"):
        with time_limit(_PATIENCE_SECONDS):  # Without TensorFlow, at once.
            refuse_keras_file(request["path"], request["shown"])
    stages.enter("import", "Starting TensorFlow")
    from tfq.sources import compare, convert_float, loading, widen  # These import TensorFlow.

    stages.enter("load", "Loading the model")
    entry, warnings = loading.load(request)
    entry.layers = request.get("layers") or entry.layers
    stages.enter("convert", "Converting to float .tflite")
    entry = widen.widen(entry, Path(request["scratch"]))
    model, bare = convert_float.convert(entry, Path(request["scratch"]))
    stages.enter("compare", "Comparing with the source")
    entry.rename(request.get("input_names") or {}, request.get("output_names") or {})
    checks, notes = compare.compare(entry, model, bare)
    model = convert_float.restore_names(model, entry)
    Path(request["output"]).write_bytes(model)
    stages.leave()
    return {
        "signature": entry.key,
        "checks": checks,
        "layers": entry.layers,
        "warnings": [*warnings, *notes],
        "timings": stages.timings,
    }


def main(argv: list[str]) -> int:
    from tfq.children import end_with_parent
    from tfq.errors import ModelError, TfqError
    from tfq.sources.causes import root_cause

    request = json.loads(Path(argv[1]).read_text())
    # stdout speaks to the parent; what libraries print goes to the log.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    end_with_parent()
    stages = Stages(channel)
    try:
        answer = run(request, stages)
    except TfqError as e:
        answer = {"error": {"type": type(e).__name__, "message": str(e)}}
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except ModuleNotFoundError:
        raise
    except Exception as e:  # TensorFlow and models raise anything: report, never a traceback.
        message = f"{request['shown']} cannot be converted to float TFLite: {root_cause(e)}"
        answer = {"error": {"type": ModelError.__name__, "message": message}}
    Path(argv[2]).write_text(json.dumps(answer))
    # Skips TensorFlow's teardown, which takes long and can crash after the work is done.
    channel.close()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
