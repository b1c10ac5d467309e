"""A whole conversion of MobileNetV2-224 with 100 samples, as a user waits for it.

tfq runs with its defaults and "fast" (min/max ranges and nothing else). --vision=DIR adds
MobileNetV1-0.25-224, `DIR/mobilenet_v1_0.25_224*.tflite`, on the photos of `DIR/images`.

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
import networks
import numpy as np
import stats

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent.parent
GOAL_RATIO, GOAL_HELP_SECONDS = 0.4, 0.5
V2, V1 = "MobileNetV2-224", "MobileNetV1-0.25-224"
V1_FILES, V1_GOAL_SECONDS, V1_GOAL_MB = "mobilenet_v1_0.25_224*.tflite", 5, 400


def convert_once(
    column: str, prepared: models.Prepared | networks.Prepared, samples: int, out: pathlib.Path
) -> dict:
    """The worker's answer, with `wall`: seconds from starting the process to its end."""
    converter, job = harness.conversion(column, prepared, out, samples=samples)
    started = time.perf_counter()
    answer = harness.run_job(converter, job, timeout=1800)
    if not answer["ok"]:
        raise SystemExit(f"{column}: {answer['error']}")
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


def of_vision(folder: pathlib.Path, work: pathlib.Path) -> networks.Prepared:
    """The MobileNetV1 of a folder and its photos, prepared in `work`."""
    found = sorted(folder.glob(V1_FILES))
    if not found:
        raise SystemExit(f"There is no {V1_FILES} in {folder}.")
    network = networks.Network(found[0].stem, found[0], *networks.value_range(found[0]))
    return networks.prepare(network, networks.Photos(folder), work)


def measure(
    prepared: models.Prepared | networks.Prepared, columns: list[str], rounds: int, samples: int
) -> dict[str, list[dict]]:
    """The answers of each column, one a round; in each round they run one after the other."""
    answers: dict[str, list[dict]] = {c: [] for c in columns}
    with tempfile.TemporaryDirectory() as work:
        for _ in range(rounds):
            for column in columns:
                out = pathlib.Path(work, f"{column}.tflite")
                answers[column].append(convert_once(column, prepared, samples, out))
    return answers


def report(network: str, answers: dict[str, list[dict]], samples: int) -> dict:
    """Prints one network's table, ratios and goals; returns the figures."""
    wall = {c: [a["wall"] for a in found] for c, found in answers.items()}
    memory = {c: max(a["peak_rss_mb"] for a in found) for c, found in answers.items()}
    rows = [
        [c, f"{np.median(s):.2f}", f"{min(s):.2f}-{max(s):.2f}", f"{memory[c]:.0f}"]
        for c, s in wall.items()
    ]
    print(stats.table([f"{network}, {samples} samples", "s (median)", "range", "peak MB"], rows))
    figures: dict = {"wall": wall, "peak_rss_mb": memory}
    for ours in (c for c in ("tfq", "tfq-fast") if c in wall):
        for peer in (c for c in ("tensorflow", "litert-quantizer") if c in wall):
            ratio = stats.ratio_of_medians(wall[ours], wall[peer])
            judged = network == V2 and (ours, peer) == ("tfq", "tensorflow")
            goal = f" (goal <= {GOAL_RATIO})" if judged else ""
            print(f"{ours} / {peer}: {ratio:.3f}{goal}")
            figures[f"{ours} / {peer}"] = ratio
    if network == V1 and "tfq" in wall:
        print(f"tfq: {np.median(wall['tfq']):.2f} s (goal <= {V1_GOAL_SECONDS}), "
              f"{memory['tfq']:.0f} MB (goal <= {V1_GOAL_MB})")  # fmt: skip
    return figures


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5; quick: 1)")
    parser.add_argument("--samples", type=int, default=100, help="samples (default 100)")
    parser.add_argument("--vision", type=pathlib.Path, metavar="DIR", help="networks and photos")
    flags = harness.start(parser)
    rounds, samples = (1, 20) if flags.quick else (flags.rounds, flags.samples)
    columns = harness.columns(flags.converters)
    figures: dict = {}
    with tempfile.TemporaryDirectory() as work:
        prepared: dict[str, models.Prepared | networks.Prepared] = {}
        if flags.vision:
            prepared[V1] = of_vision(flags.vision, pathlib.Path(work))
        prepared[V2] = models.prepare("mobilenet_v2")
        imported = False
        for network, files in prepared.items():
            answers = measure(files, columns, rounds, samples)
            figures[network] = report(network, answers, samples)
            print()
            imported |= any(
                a.get("tensorflow_imported", False) for c in answers.values() for a in c
            )
    if "tfq" in flags.converters:
        print(f"TensorFlow imported on the .tflite path: {'YES' if imported else 'no'}")
        cpu = sorted(help_cpu_seconds() for _ in range(1 if flags.quick else 5))
        median = cpu[len(cpu) // 2]
        print(f"tfq.convert --help: {median:.2f} s of CPU (goal < {GOAL_HELP_SECONDS})")
        figures |= {"tensorflow_imported": imported, "help_cpu_seconds": median}
    harness.write_json(flags, figures)


if __name__ == "__main__":
    main()
