"""Converts a model to a proven `.tflite`: the stages of tfq, one after the other.

    python -m tfq.convert saved_model/

`convert_model` is the same from Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfq.convert.run import BIAS_CORRECTION, ConversionResult, convert_model

__all__ = ["BIAS_CORRECTION", "ConversionResult", "convert_model", "main"]


def main(argv: list[str] | None = None) -> int:
    from tfq.convert.command import run_command

    return run_command(argv)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'tfq.convert' has no attribute {name!r}")
    from tfq.convert import run

    return getattr(run, name)
