"""Coverage-guided damage for what reads files in plain Python: models, plans, statistics.

    pip install atheris
    python tools/fuzz/guided.py corpus -runs=200000 -max_len=8192

`corpus` is a folder; it is filled with the seeds, and libFuzzer adds what reaches new lines. The
other arguments are libFuzzer's. An exception that is no TfqError ends the run, and the input is
written to a file, which `python tools/fuzz/guided.py FILE` runs again.

atheris follows Python code alone, in one process that would end with LiteRT: so it looks at
the readers, and `run.py` at the commands.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

with atheris.instrument_imports(include=["tfq.graph", "tfq.plan", "tfq.calibrate", "tfq.inspect"]):
    from tfq.calibrate.statistics import Statistics
    from tfq.convert.arguments import load_plan
    from tfq.errors import TfqError
    from tfq.graph.describe import describe
    from tfq.inspect import render
    from tfq.plan import arrays

_FILE = Path(tempfile.mkdtemp(prefix="tfq_guided_")) / "input"
# A plan that says nothing but which file is beside it.
_PLAN = {"version": 1, "model_sha256": "", "config": {"scheme": "int8"}} | {
    section: {} for section in ("tensors", "ops", "inputs", "outputs")
}
_ARRAYS = {"file": "input.npz", "biases": ["a", "b"], "weights": ["a"]}


def try_one(data: bytes) -> None:
    """Reads an input as what its first byte says: a model, a plan, its arrays, or statistics."""
    kind, body = data[:1], data[1:]
    with contextlib.suppress(TfqError):
        if kind == b"m":
            render("m.tflite", describe(body), ops=True, tensors=True, width=80)
            return
        _FILE.write_bytes(body)
        if kind == b"p":
            load_plan(_FILE)
        elif kind == b"a":
            _FILE.with_suffix(".npz").write_bytes(body)
            section = {**_ARRAYS, "sha256": hashlib.sha256(body).hexdigest()}
            _FILE.write_text(json.dumps({**_PLAN, "arrays": section}))
            load_plan(_FILE)
        else:
            Statistics.load(_FILE)


def _fill(folder: Path) -> None:
    import seeds

    folder.mkdir(exist_ok=True)
    kinds = {"inspect": b"m", "plan": b"p", "statistics": b"s"}
    for target, kind in kinds.items():
        for i, seed in enumerate(seeds.seeds(target)[::7]):
            (folder / f"{target}{i}").write_bytes(kind + seed.files[seed.subject])
    packed = arrays.pack([np.arange(3), np.zeros((2, 1), np.int32), np.ones((2, 2), np.int8)])
    (folder / "arrays").write_bytes(b"a" + packed)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    places = [Path(a) for a in sys.argv[1:] if not a.startswith("-")]
    if places and not places[0].is_file():
        _fill(places[0])
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()
