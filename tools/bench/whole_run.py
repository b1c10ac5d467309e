"""A whole conversion of MobileNetV2-224 with 100 samples, as a user waits for it.

From starting Python to the int8 file on disk: tfq and litert-quantizer from the float `.tflite`,
TensorFlow's converter from the SavedModel, since that is what it takes (so its time has the float
conversion in it). Then the CPU time of `python -m tfq.convert --help`, and which modules a
conversion of a `.tflite` imports: TensorFlow must not be one of them.
"""

from __future__ import annotations

import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import harness
import models
import numpy as np
import stats

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent.parent
GOAL_RATIO, GOAL_HELP_SECONDS = 0.25, 0.5


def convert_once(converter: str, samples: int, out: pathlib.Path) -> dict:
    """The worker's answer, with `wall`: seconds from starting the process to its end."""
    prepared = models.Prepared("mobilenet_v2")
    job = {
        "action": "convert",
        "model": str(prepared.float_model),
        "saved_model": str(prepared.saved_model),
        "data": str(prepared.calibration),
        "samples": samples,
        "out": str(out),
    }
    started = time.perf_counter()
    answer = harness.run_job(converter, job, timeout=1800)
    if not answer["ok"]:
        raise SystemExit(f"{converter}: {answer['error']}")
    return {**answer, "wall": time.perf_counter() - started}


def help_cpu_seconds() -> float:
    """User and system time of one `python -m tfq.convert --help`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "tfq.convert", "--help"]
    run = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not run.stdout:
        raise SystemExit(f"tfq.convert --help said nothing: {run.stderr.decode()[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5; quick: 1)")
    parser.add_argument("--samples", type=int, default=100, help="samples (default 100)")
    flags = harness.start(parser)
    models.prepare("mobilenet_v2")
    rounds, samples = (1, 20) if flags.quick else (flags.rounds, flags.samples)
    answers: dict[str, list[dict]] = {c: [] for c in flags.converters}
    with tempfile.TemporaryDirectory() as work:
        for _ in range(rounds):
            for converter in flags.converters:
                out = pathlib.Path(work, f"{converter}.tflite")
                answers[converter].append(convert_once(converter, samples, out))
    wall = {c: [a["wall"] for a in found] for c, found in answers.items()}
    memory = {c: max(a["peak_rss_mb"] for a in found) for c, found in answers.items()}
    rows = [
        [c, f"{np.median(s):.2f}", f"{min(s):.2f}-{max(s):.2f}", f"{memory[c]:.0f}"]
        for c, s in wall.items()
    ]
    print(stats.table([f"whole run, {samples} samples", "s (median)", "range", "peak MB"], rows))
    figures: dict = {"wall": wall, "peak_rss_mb": memory}
    if "tfq" in wall:
        for peer in ("tensorflow", "litert-quantizer"):
            if peer in wall:
                ratio = stats.ratio_of_medians(wall["tfq"], wall[peer])
                goal = f" (goal <= {GOAL_RATIO})" if peer == "tensorflow" else ""
                print(f"tfq / {peer}: {ratio:.3f}{goal}")
                figures[f"tfq / {peer}"] = ratio
        imported = any(a["tensorflow_imported"] for a in answers["tfq"])
        print(f"TensorFlow imported on the .tflite path: {'YES' if imported else 'no'}")
        cpu = sorted(help_cpu_seconds() for _ in range(1 if flags.quick else 5))
        median = cpu[len(cpu) // 2]
        print(f"tfq.convert --help: {median:.2f} s of CPU (goal < {GOAL_HELP_SECONDS})")
        figures |= {"tensorflow_imported": imported, "help_cpu_seconds": median}
    harness.write_json(flags, figures)


if __name__ == "__main__":
    main()
