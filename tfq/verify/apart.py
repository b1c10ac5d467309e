"""Runs a model in a process of its own.

The reference kernels answer what they cannot do with an abort that ends the process; a proof must
come back with the reason instead.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfq.children import end_with_parent, lifeline
from tfq.errors import ModelError, TfqError
from tfq.runtime import Runner
from tfq.temporary import temporary_folder

_FAILED = 3


def run_apart(
    model: bytes, inputs: Mapping[str, np.ndarray], *, kernels: str, time_limit: float = 300.0
) -> dict[str, np.ndarray]:
    """The outputs of one run, by tensor name.

    Args:
      model: the `.tflite` bytes.
      inputs: tensor name -> values, as `Runner.run` takes them.
      kernels: as for `Runner`.
      time_limit: seconds.

    Raises:
      ModelError: the kernels refuse the model, crash, or do not finish; the message says which.
    """
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    with temporary_folder("apart") as name, lifeline() as life:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(model)
        names = list(inputs)
        np.savez(folder / "inputs.npz", *inputs.values())
        (folder / "names").write_text("\0".join(names), encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tfq.verify.apart", name, kernels],
                stdin=life,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=time_limit,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ModelError(
                f"the {kernels} kernels do not finish one run in {time_limit:g} s"
            ) from None
        if done.returncode == _FAILED:
            raise ModelError(done.stdout.decode("utf-8", "replace"))
        if done.returncode < 0:
            how = signal.Signals(-done.returncode).name
            raise ModelError(f"the {kernels} kernels crash on it ({how})")
        if done.returncode:
            raise ModelError(f"the {kernels} kernels could not be run (exit {done.returncode})")
        with np.load(folder / "outputs.npz") as file:
            names = (folder / "output_names").read_text(encoding="utf-8").split("\0")
            return dict(zip(names, [file[f"arr_{i}"] for i in range(len(names))], strict=True))


def _main(folder: Path, kernels: str) -> int:
    end_with_parent()
    names = (folder / "names").read_text(encoding="utf-8").split("\0")
    with np.load(folder / "inputs.npz") as file:
        inputs = {n: file[f"arr_{i}"] for i, n in enumerate(names)} if names != [""] else {}
    try:
        runner = Runner((folder / "model.tflite").read_bytes(), kernels=kernels)
        outputs = runner.run(inputs)
    except TfqError as e:
        sys.stdout.write(str(e))
        return _FAILED
    np.savez(folder / "outputs.npz", *outputs.values())
    (folder / "output_names").write_text("\0".join(outputs), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(Path(sys.argv[1]), sys.argv[2]))
