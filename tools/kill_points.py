"""Kills tfq at random moments (kill -9) and looks for what is left.

    python tools/kill_points.py                       # 100 points over all cases, about ten minutes
    python tools/kill_points.py --points=5 --cases=convert --source=net.tflite --data=samples.npz

At every point: only the command's own process is killed; what it had started has to end by itself;
every output has to be what was there before or the whole new file; and after the next run of the
same command there has to be nothing but its outputs, neither beside them nor in the temporary
folder nor in the cache. Prints a line a case, and every fault; exits with 1 if there was any.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

_ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from tfq.errors import TfqError  # noqa: E402
from tfq.plan import arrays  # noqa: E402
from tfq.plan.plan import Plan  # noqa: E402

_DIGITS = _ROOT / "examples" / "digits" / "saved_model"
_PLAN = "plan.json"
_OLD = b"what was there before"
_ENDS_WITHIN_SECONDS = 20.0

# Plans of one run and of another, each with a file of arrays, in turn in one place.
_PLANS = (
    "import sys, numpy as np; from tfq.plan.plan import Plan\n"
    "for i in range(41):\n"
    "    b = {'a': np.full(300_000, i % 2, np.int32)}\n"
    "    Plan('', {}, {}, {}, {}, {}, biases=b).save(sys.argv[1])"
)

_WRITER = (
    "import sys; from tfq.files import write_atomic\n"
    "for i in range(40): write_atomic(sys.argv[1], bytes([i % 2]) * 3_000_000)"
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A command, and the files that it writes into the folder it runs in.

    Beside a plan there is the file of arrays that it names, if it names one.
    """

    name: str
    command: tuple[str, ...]
    outputs: tuple[str, ...]


def cases(model: str, data: str) -> list[Case]:
    """All cases, of a float `.tflite` and the example's SavedModel."""
    tfq = (sys.executable, "-m", "tfq")
    convert = (*tfq, "convert", model, f"--data={data}", "--output=out.tflite")
    side = ("--plan_out=plan.json", "--statistics_out=statistics.npz")
    source = (*tfq, "convert", str(_DIGITS), "--output=out.tflite")
    evaluate = (*tfq, "evaluate", model, f"--data={data}", "--report=page.html", "--json=page.json")
    return [
        Case("writer", (sys.executable, "-c", _WRITER, "out.bin"), ("out.bin",)),
        Case("plans", (sys.executable, "-c", _PLANS, "plan.json"), ("plan.json",)),
        Case("convert", (*convert, *side), ("out.tflite", "plan.json", "statistics.npz")),
        Case("convert_workers", (*convert, "--workers=2"), ("out.tflite",)),
        Case("evaluate_workers", (*evaluate, "--workers=2"), ("page.html", "page.json")),
        Case("saved_model", source, ("out.tflite",)),
    ]


class Place:
    """Where a case runs: a folder for outputs, one for temporary files, one for the cache."""

    def __init__(self, folder: pathlib.Path, case: Case):
        self.case = case
        self.outputs = folder / "outputs"
        self.temporary = folder / "temporary"
        self.cache = folder / "cache"
        for each in (self.outputs, self.temporary, self.cache):
            each.mkdir(parents=True)
        self.mark = f"TFQ_KILL_POINT={uuid.uuid4().hex}"
        name, value = self.mark.split("=")
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]),
            "TMPDIR": str(self.temporary),
            "XDG_CACHE_HOME": str(self.cache),
            "PYTHONHASHSEED": "0",
            name: value,
        }
        self.whole: dict[str, bytes] = {}

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.case.command,
            cwd=self.outputs,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self) -> float:
        """Runs the command to its end; returns the seconds that it took."""
        start = time.monotonic()
        process = self.start()
        said = process.communicate()[1].decode("utf-8", "replace")
        if process.returncode:
            raise RuntimeError(f"{self.case.name} ends with {process.returncode}: {said}")
        self.whole = {n: (self.outputs / n).read_bytes() for n in self.case.outputs}
        return time.monotonic() - start

    def processes(self) -> list[int]:
        """The command's processes that live, however far they are from it."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and self.mark in (entry / "environ").read_text("latin1"):
                    found.append(int(entry.name))
            except OSError:  # It has ended, or is another user's.
                continue
        return found

    def beside(self) -> str | None:
        """The file of arrays that the plan names."""
        path = arrays.written_beside(str(self.outputs / _PLAN))
        return None if path is None else os.path.basename(path)

    def torn(self) -> str:
        """What is wrong with a plan that is there, and the file beside it."""
        path = self.outputs / _PLAN
        try:
            if path.exists() and path.read_bytes() != _OLD:
                Plan.load(path)
        except TfqError as e:
            return str(e)
        return ""

    def left(self) -> list[str]:
        """What is there beside the outputs and the entries of the cache."""
        own = {*self.case.outputs, self.beside()}
        beside = [p for p in self.outputs.iterdir() if p.name not in own]
        cached = [p for p in self.cache.rglob("*") if p.is_file() and p.suffix == ".tfq-tmp"]
        return [str(p) for p in (*beside, *self.temporary.iterdir(), *cached)]


def kill_once(place: Place, delay: float, *, replacing: bool) -> list[str]:
    """One point; returns what is wrong.

    Args:
      place: whose command has run once.
      delay: seconds after which its process is killed.
      replacing: whether outputs are there before.
    """
    expected = dict(place.whole)
    shutil.rmtree(place.cache)
    place.cache.mkdir()
    for name in place.case.outputs:
        (place.outputs / name).unlink(missing_ok=True)
        if replacing:
            (place.outputs / name).write_bytes(_OLD)
    process = place.start()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wrong = []
    end = time.monotonic() + _ENDS_WITHIN_SECONDS
    while (alive := place.processes()) and time.monotonic() < end:
        time.sleep(0.02)
    if alive:
        wrong.append(f"{len(alive)} processes outlive it")
        for pid in alive:
            os.kill(pid, signal.SIGKILL)
    for name in place.case.outputs:
        path = place.outputs / name
        if name == _PLAN and (torn := place.torn()):
            wrong.append(torn)
        elif name != _PLAN and path.exists() and not _same(path, expected[name], _OLD):
            wrong.append(f"{name} is damaged")
    place.run()
    for name in place.case.outputs:
        if not _same(place.outputs / name, expected[name]):
            wrong.append(f"{name} of the next run is another")
    wrong += [f"left after the next run: {path}" for path in place.left()]
    return [f"{place.case.name}, {delay:.3f} s: {text}" for text in wrong]


def _same(path: pathlib.Path, *expected: bytes) -> bool:
    """Whether a file is the whole one: every command gives the same bytes each time, and the writer
    files of as many bytes that are all one."""
    content = path.read_bytes()
    return content in expected or (len(content) == len(expected[0]) and len(set(content)) == 1)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100, help="in all, over the cases in turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", help="some of them, with commas between")
    parser.add_argument("--source", help="a float .tflite; default: made of the example")
    parser.add_argument("--data", default=str(_DIGITS), help="samples for it")
    args = parser.parse_args(argv)
    rng = random.Random(args.seed)
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as work:
        model = os.path.abspath(args.source) if args.source else os.path.join(work, "float.tflite")
        if not args.source:
            make = [sys.executable, "-m", "tfq", "convert", str(_DIGITS), "--scheme=float32"]
            make.append("--cache=none")
            environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
            subprocess.run([*make, f"--output={model}"], check=True, env=environment)
        every = cases(model, os.path.abspath(args.data))
        chosen = args.cases.split(",") if args.cases else [c.name for c in every]
        known = {c.name: c for c in every}
        if set(chosen) - set(known):
            parser.error(f"--cases: choose among {', '.join(known)}")
        for i, name in enumerate(chosen):
            place = Place(pathlib.Path(work, name), known[name])
            seconds = max(place.run(), place.run())  # The second is of a warm disk.
            points = len(range(i, args.points, len(chosen)))
            found: list[str] = []
            for point in range(points):
                delay = rng.uniform(0, seconds * 1.05)
                found += kill_once(place, delay, replacing=point % 2 == 1)
            print(
                f"{name:<18}{points} points over {seconds:.1f} s, {len(found)} faults", flush=True
            )
            faults += found
    for fault in faults:
        print(fault)
    print(f"{args.points} points, {len(faults)} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
