"""`tfq COMMAND ...`: the commands of `python -m tfq.COMMAND` under one name."""

from __future__ import annotations

import importlib
import sys

from tfq import __version__
from tfq.errors import nearest

COMMANDS = {
    "benchmark": "models side by side where they run: time, memory, which op runs where",
    "convert": "a Keras, TensorFlow or .tflite model to a proven full-integer .tflite",
    "evaluate": "models side by side on labelled data: accuracy, statistics, error by layer",
    "inspect": "shows a .tflite file: ops, tensors, dtypes, scales, signatures",
}

_HELP = """usage: tfq COMMAND [arguments]

{commands}

tfq COMMAND --help shows a command's flags; tfq --version the version."""


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit code (2: there is no such command)."""
    argv = sys.argv[1:] if argv is None else argv
    name, rest = (argv[0], argv[1:]) if argv else ("", [])
    if name in COMMANDS:
        try:
            return int(importlib.import_module(f"tfq.{name}").main(rest))
        except KeyboardInterrupt:  # While still importing; afterwards the command answers it.
            sys.stderr.write("error: interrupted.\n")
            return 130
    if name in ("--version", "-V"):
        sys.stdout.write(f"tfq {__version__}\n")
        return 0
    listing = "\n".join(f"  {c:<11}{text}" for c, text in COMMANDS.items())
    if name in ("--help", "-h", "help"):
        sys.stdout.write(_HELP.format(commands=listing) + "\n")
        return 0
    if name:
        sys.stderr.write(
            f"error: There is no command {name!r}; there are: {', '.join(COMMANDS)}."
            f"{nearest(name, COMMANDS)}\n"
        )
    else:
        sys.stderr.write(_HELP.format(commands=listing) + "\n")
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
