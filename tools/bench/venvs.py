"""The environments that tfq and its peers run in, made on first use and then reused.

tfq runs in the Python that runs the benchmark; each peer in a virtual environment of its own, under
`~/.cache/tfq-bench/venvs` or `$TFQ_BENCH_VENVS`. An existing one is taken as it is when the peer's
package in it has the right version.

    python tools/bench/venvs.py [--venv_dir=DIR]
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
import venv

PEERS = {
    "tensorflow": ("tensorflow", "2.21.0"),
    "litert-quantizer": ("litert-quantizer", "0.11.0"),
    "tfmot": ("tensorflow-model-optimization", "0.8.1"),
}
# What a peer needs beside its package, and does not ask for itself.
_WITH = {"tfmot": ["tensorflow==2.21.0", "tf_keras==2.21.0"]}
_DEFAULT = "~/.cache/tfq-bench/venvs"


def venv_dir() -> pathlib.Path:
    return pathlib.Path(os.environ.get("TFQ_BENCH_VENVS", _DEFAULT)).expanduser()


def _has(python: pathlib.Path, package: str, version: str) -> bool:
    code = f"import importlib.metadata as m, sys; sys.exit(m.version({package!r}) != {version!r})"
    run = subprocess.run([str(python), "-c", code], stderr=subprocess.DEVNULL, check=False)
    return run.returncode == 0


def python_of(name: str) -> pathlib.Path:
    """The interpreter of tfq, or of a peer, whose environment is created if it is missing."""
    if name not in PEERS:
        return pathlib.Path(sys.executable)
    package, version = PEERS[name]
    folder = venv_dir() / name
    python = folder / "bin" / "python"
    if not (python.exists() and _has(python, package, version)):
        print(f"installing {package}=={version} in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        wanted = [f"{package}=={version}", *_WITH.get(name, [])]
        command = [str(python), "-m", "pip", "install", "-q", *wanted]
        subprocess.run(command, check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv_dir", help=f"where they are kept (default {_DEFAULT})")
    flags = parser.parse_args()
    if flags.venv_dir:
        os.environ["TFQ_BENCH_VENVS"] = flags.venv_dir
    for name in ("tfq", *PEERS):
        print(f"{name:18s} {python_of(name)}")


if __name__ == "__main__":
    main()
