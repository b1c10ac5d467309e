"""Damaged inputs for every command: none may end in a traceback, a crash, a hang or half a file.

    python tools/fuzz/run.py --inputs=2000                  # a look
    python tools/fuzz/run.py --inputs=100000 --seed=7       # a long run
    python tools/fuzz/run.py --targets=convert,plan --seconds=600
    python tools/fuzz/run.py --replay=fuzz_found/crash-convert-7-1234

Input N of a seed is the same in every run. What is found is kept in a folder of its own under
--out, three of a kind; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import os
import signal
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Mapping
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import forks  # noqa: E402
import seeds  # noqa: E402
import targets  # noqa: E402

_MEMORY = 6 << 30
_KEPT = 3


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", help=f"of {', '.join(seeds.TARGETS)}; default: a mixture")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("fuzz_found"))
    parser.add_argument("--replay", type=Path, help="run what is kept in this folder")
    flags = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ends as Ctrl-C does: tidily.
    with (
        # Here lies what a child leaves that ends in the middle of something.
        tempfile.TemporaryDirectory(prefix="tfq_fuzz_") as place,
        unittest.mock.patch.object(tempfile, "tempdir", place),
    ):
        return _replay(targets.load(flags.replay)) if flags.replay else _campaign(flags)


def _work(seed: int, mixture: tuple[str, ...], number: int) -> forks.Verdict:
    return targets.run(targets.make(number, seed, mixture), number)


def _replay(case: seeds.Seed) -> int:
    work = functools.partial(targets.run, case)
    (verdict,) = forks.judge(work, [0], memory=_MEMORY)
    print(f"{verdict.kind} {verdict.where}\n{verdict.detail}")
    return int(verdict.fault)


def _campaign(flags: argparse.Namespace) -> int:
    mixture = tuple(flags.targets.split(",")) if flags.targets else targets.MIXTURE
    for target in mixture:
        seeds.seeds(target)  # Before any child is forked, so that all have them.
    start = time.monotonic()
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    found: collections.Counter[str] = collections.Counter()
    spent: collections.Counter[str] = collections.Counter()
    verdicts = forks.judge(
        functools.partial(_work, flags.seed, mixture),
        range(flags.first, flags.first + flags.inputs),
        workers=flags.workers,
        memory=_MEMORY,
        seconds=flags.seconds,
    )
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C: what was done is said.
        for done, verdict in enumerate(verdicts, 1):
            target = mixture[verdict.number % len(mixture)]
            counts[target, verdict.kind] += 1
            spent[target] += verdict.seconds
            if verdict.fault:
                name = f"{target}: {verdict.kind}, {verdict.where}"
                found[name] += 1
                if found[name] <= _KEPT:
                    folder = flags.out / f"{verdict.kind}-{target}-{flags.seed}-{verdict.number}"
                    targets.save(targets.make(verdict.number, flags.seed, mixture), verdict, folder)
                    print(f"FOUND {name}: {folder}", flush=True)
            if done % 5000 == 0:
                print(f"{done} inputs, {time.monotonic() - start:.0f} s", flush=True)
    _report(counts, found, spent, flags.seed, time.monotonic() - start)
    return int(bool(found))


def _report(
    counts: collections.Counter[tuple[str, str]],
    found: collections.Counter[str],
    spent: Mapping[str, float],
    seed: int,
    seconds: float,
) -> None:
    for target in sorted({t for t, _ in counts}):
        kinds = {k: n for (t, k), n in sorted(counts.items()) if t == target}
        shown = ", ".join(f"{n} {k}" for k, n in kinds.items())
        print(f"{target:<11}{sum(kinds.values()):>7} inputs, {spent[target]:>5.0f} s: {shown}")
    print(f"{counts.total()} inputs, seed {seed}, {seconds:.0f} s: {found.total()} faults")
    for name, count in found.most_common():
        print(f"  {count:>5}  {name}")


if __name__ == "__main__":
    sys.exit(main())
