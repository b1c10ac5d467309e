"""One input: a seed with a damaged file, the command run on it, and what may be said of the end.

Good ends are two: the command is done and its files are there, sound; or it says one error, and
leaves nothing. All else is a fault.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

import forks
import mutate
import numpy as np
import seeds

from tfq.children import time_limit
from tfq.data import DataOptions, open_data
from tfq.errors import ModelError, TfqError
from tfq.graph import check
from tfq.graph.interface import ArgSpec
from tfq.graph.model import Model
from tfq.plan import arrays
from tfq.plan.plan import Plan
from tfq.runtime import Runner
from tfq.sources import certainly_untrained
from tfq.sources.scan_keras import refuse_keras_file
from tfq.verify import proof
from tfq.verify.apart import run_apart

# Of fifty inputs, so many of each target, mixed; an inspection costs 3 ms, a conversion 50.
_SHARES = {
    "inspect": 15,
    "data": 13,
    "statistics": 6,
    "plan": 5,
    "convert": 5,
    "evaluate": 4,
    "archive": 2,
}
MIXTURE = tuple(random.Random(0).sample(list(_SHARES), k=50, counts=_SHARES.values()))

# A process of its own for the reference kernels costs more than all else: one input in so many.
_APART = 8

_MUTATORS: Mapping[str, tuple[mutate.Mutator, ...]] = {
    ".tflite": (mutate.damage_model, mutate.damage_model, mutate.damage_bytes),
    ".json": (mutate.damage_json,),
    ".npz": (mutate.damage_npz,),
    ".npy": (mutate.damage_npy,),
    ".csv": (mutate.damage_text,),
    ".tfrecord": (mutate.damage_records,),
}


def _convert(argv: list[str]) -> int:
    from tfq.convert.command import run_command

    return run_command(argv)


def _evaluate(argv: list[str]) -> int:
    from tfq.evaluate.command import run_command

    return run_command(argv)


def _inspect(argv: list[str]) -> int:
    from tfq.inspect import main

    return main(argv)


def _read(argv: list[str]) -> int:
    """Reads samples as calibration and as evaluation do, without a model."""
    shape = tuple(int(n) for n in argv[1:])
    inputs = (ArgSpec("x0", "x0", (1, *shape), "float32"),)
    try:
        options = DataOptions() if argv[0].endswith((".csv", "p.tfrecord")) else None
        for _ in open_data(argv[0], inputs, options=options, limit=50):
            pass
        for block in open_data(argv[0], inputs, options=options, limit=50).blocks(4):
            block.decode()
    except TfqError as e:
        sys.stderr.write(f"error: {e}\n")
        return e.exit_code
    return 0


def _archive(argv: list[str]) -> int:
    """What `convert` asks of a Keras file without TensorFlow: its training, and its code."""
    try:
        certainly_untrained(argv[0])
        _refuse_code(argv[0])
    except TfqError as e:
        sys.stderr.write(f"error: {e}\n")
        return e.exit_code
    return 0


def _refuse_code(path: str) -> None:
    """In a process with a time limit, as in the worker of `convert`: HDF5 can loop for ever."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with time_limit(5):
                refuse_keras_file(path, path)
            code = 0
        except TfqError:
            code = 3
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == -signal.SIGALRM:
        raise ModelError("does not end")
    if code == 3:
        raise ModelError("refused")
    if code != 0:
        raise RuntimeError(f"refuse_keras_file ended with {code}")


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "convert": _convert,
    "evaluate": _evaluate,
    "inspect": _inspect,
    "read": _read,
    "archive": _archive,
}


def make(number: int, seed: int, targets: tuple[str, ...] = MIXTURE) -> seeds.Seed:
    """Input `number` of the run with `seed`: the same files whenever it is asked for."""
    rng = random.Random(f"{seed}/{number}")
    own = seeds.seeds(targets[number % len(targets)])
    chosen = rng.choice(own)
    suffix = os.path.splitext(chosen.subject)[1]
    how = rng.choice(_MUTATORS.get(suffix, (mutate.damage_bytes,)))
    others = [rng.choice(own).files.get(chosen.subject, b"")]
    damaged = how(chosen.files[chosen.subject], rng, others)
    files = {**chosen.files, chosen.subject: damaged}
    if chosen.digest and rng.random() < 0.9:
        before = hashlib.sha256(chosen.files[chosen.subject]).hexdigest().encode()
        after = hashlib.sha256(damaged).hexdigest().encode()
        files[chosen.digest] = files[chosen.digest].replace(before, after)
    return dataclasses.replace(chosen, files=files)


def run(case: seeds.Seed, number: int = 0) -> forks.Verdict:
    """Runs a case in a folder of its own, and judges how it ended."""
    with tempfile.TemporaryDirectory(prefix="tfq_fuzz_") as name:
        here, temporary = Path(name) / "here", Path(name) / "tmp"
        temporary.mkdir()
        write(case, here)
        with (
            contextlib.chdir(here),
            mock.patch.object(tempfile, "tempdir", str(temporary)),
            mock.patch.dict(os.environ, TMPDIR=str(temporary)),
            # Of a model that takes longer for a run, nothing is to be learnt.
            mock.patch.object(check, "TIME_LIMIT", 5.0),
            mock.patch.object(proof, "run_apart", run_apart if number % _APART == 0 else _not_now),
        ):
            return _judged(case, number, Path(name))


def _not_now(*_: object, **__: object) -> dict[str, np.ndarray]:
    raise ModelError("not asked")


def write(case: seeds.Seed, folder: Path) -> None:
    for file, content in case.files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)


def _judged(case: seeds.Seed, number: int, place: Path) -> forks.Verdict:
    out, err = io.StringIO(), io.StringIO()
    before = _listing(place)
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            code = COMMANDS[case.command](list(case.argv))
    except BaseException as e:
        where = f"{type(e).__name__} in {_place(e)}"
        return forks.Verdict(number, "uncaught", traceback.format_exc(), where)
    said = err.getvalue().rpartition("\r")[2]
    if code not in (0, 1, 2) or (code and (out.getvalue() or not said.startswith("error: "))):
        return forks.Verdict(number, "garbled", f"exit {code}\n{out.getvalue()}\n{said}", "said")
    left = _listing(place) ^ before
    outputs = [*case.outputs, *_beside(case.outputs)] if code == 0 else []
    wanted = {f"here/{f}" for f in outputs}
    if left != wanted:
        return forks.Verdict(number, "leftover", f"exit {code}: {sorted(left ^ wanted)}", "left")
    if code:
        return forks.Verdict(number, "refused", said.strip())
    for file in case.outputs:
        try:
            _check_sound(Path(file))
        except Exception as e:
            return forks.Verdict(number, "unusable", f"{file}: {e}", f"unusable {file}")
    return forks.Verdict(number, "ok")


def _beside(outputs: tuple[str, ...]) -> list[str]:
    """Files of arrays beside the plans that were written."""
    found = [arrays.written_beside(f) for f in outputs if f.endswith(".json")]
    return [os.path.basename(f) for f in found if f is not None]


def _listing(place: Path) -> set[str]:
    return {str(p.relative_to(place)) for p in place.rglob("*")}


def _place(error: BaseException) -> str:
    """The innermost line of tfq that an exception came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f"{os.sep}tfq{os.sep}" in f.filename] or frames
    return f"{own[-1].filename.rpartition(f'{os.sep}tfq{os.sep}')[2]}:{own[-1].lineno}"


def _check_sound(path: Path) -> None:
    if path.suffix == ".json":
        body = json.loads(path.read_text(), parse_constant=_no_constant)
        if isinstance(body, dict) and "model_sha256" in body:
            Plan.load(path)
        return
    content = path.read_bytes()
    Model.from_bytes(content)
    Runner(content)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def save(case: seeds.Seed, verdict: forks.Verdict, folder: Path) -> None:
    """Keeps an input so that it can be run again."""
    shutil.rmtree(folder, ignore_errors=True)
    write(case, folder / "files")
    about = {**dataclasses.asdict(case), "files": None, "verdict": dataclasses.asdict(verdict)}
    (folder / "case.json").write_text(json.dumps(about, indent=1))


def load(folder: Path) -> seeds.Seed:
    """What `save` kept."""
    about = json.loads((folder / "case.json").read_text())
    about.pop("verdict")
    root = folder / "files"
    files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    about |= {"files": files, "argv": tuple(about["argv"]), "outputs": tuple(about["outputs"])}
    return seeds.Seed(**about)
