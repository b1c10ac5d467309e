"""Layer analysis of int8 MobileNetV2-224 on 32 samples, both readings, against float inference.

Float inference is the interpreter on the same samples with the same threads, in the same round.
Both have run before: the interpreter all samples once, the analysis one.
"""

from __future__ import annotations

import harness
import models
import numpy as np
import stats

GOAL = 20.0


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5; quick: 1)")
    parser.add_argument("--samples", type=int, default=32, help="samples (default 32)")
    flags = harness.start(parser)
    prepared = models.prepare("mobilenet_v2")
    model = str(prepared.folder / "tfq.tflite")
    files = {"model": str(prepared.float_model), "out": model, "data": str(prepared.calibration)}
    made = harness.run_job("tfq", {"action": "convert", **files, "samples": 20})
    if not made["ok"]:
        raise SystemExit(made["error"])
    found: dict[str, list[float]] = {"float inference": [], "layer analysis": []}
    for _ in range(1 if flags.quick else flags.rounds):
        plain = harness.run_job(
            "judge", {"action": "float_time", **files, "samples": flags.samples}
        )
        ours = harness.run_job("tfq", {"action": "analyse", **files, "samples": flags.samples})
        for answer in (plain, ours):
            if not answer["ok"]:
                raise SystemExit(answer["error"])
        found["float inference"].append(plain["seconds"])
        found["layer analysis"].append(ours["seconds"])
    rows = [
        [name, f"{np.median(s):.3f}", f"{min(s):.3f}-{max(s):.3f}"] for name, s in found.items()
    ]
    print(stats.table([f"{flags.samples} samples, MobileNetV2-224", "s (median)", "range"], rows))
    ratio = stats.ratio_of_medians(found["layer analysis"], found["float inference"])
    verdict = "reached" if ratio <= GOAL else "missed"
    print(f"\nanalysis / inference: {ratio:.1f} (goal <= {GOAL:g}: {verdict})")
    print(f"{ours['both']} of {ours['tensors']} tensors have both readings; peak memory "
          f"{ours['peak_rss_mb']:.0f} MB")  # fmt: skip
    harness.write_json(flags, {"seconds": found, "ratio": ratio, "tensors": ours["tensors"]})


if __name__ == "__main__":
    main()
