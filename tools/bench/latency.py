"""Speed and size of the emitted int8 MobileNetV2-224: one thread, XNNPACK, LiteRT interpreter.

The three files are loaded in one process and invoked in turn, in blocks; the median block of each
is compared. Below it the file sizes.
"""

from __future__ import annotations

import pathlib
import shutil
import tempfile

import harness
import models
import numpy as np
import stats


def emit(converters: list[str], folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """int8 MobileNetV2 by every converter, on the same 20 samples; kept for later runs."""
    prepared = models.prepare("mobilenet_v2")
    files = {}
    for converter in converters:
        out = folder / f"{converter}.tflite"
        job = {
            "action": "convert",
            "model": str(prepared.float_model),
            "saved_model": str(prepared.saved_model),
            "data": str(prepared.calibration),
            "samples": 20,
            "out": str(out),
        }
        answer = harness.run_job(converter, job)
        if not answer["ok"]:
            raise SystemExit(f"{converter}: {answer['error']}")
        files[converter] = out
    return files


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--blocks", type=int, default=41, help="blocks a model (default 41)")
    parser.add_argument("--keep", metavar="DIR", help="keep the emitted files there")
    flags = harness.start(parser)
    with tempfile.TemporaryDirectory() as work:
        files = emit(flags.converters, pathlib.Path(work))
        files["float"] = models.Prepared("mobilenet_v2").float_model
        job = {
            "action": "interleaved",
            "files": {k: str(v) for k, v in files.items()},
            "blocks": 5 if flags.quick else flags.blocks,
            "per_block": 10,
        }
        answer = harness.run_job("judge", job)
        if not answer["ok"]:
            raise SystemExit(answer["error"])
        sizes = {k: v.stat().st_size for k, v in files.items()}
        if flags.keep:
            shutil.copytree(work, flags.keep, dirs_exist_ok=True)
    ms = answer["ms"]
    ours = "tfq" if "tfq" in ms else flags.converters[0]
    rows = [
        [k, f"{np.median(ms[k]):.3f}", f"{min(ms[k]):.3f}", sizes[k],
         f"{stats.ratio_of_medians(ms[ours], ms[k]):.3f}", f"{sizes[ours] / sizes[k]:.4f}"]
        for k in files
    ]  # fmt: skip
    header = ["model", "ms (median)", "ms (least)", "bytes", f"{ours}'s time / its",
              f"{ours}'s size / its"]  # fmt: skip
    print(stats.table(header, rows))
    harness.write_json(flags, {"ms": ms, "bytes": sizes})


if __name__ == "__main__":
    main()
