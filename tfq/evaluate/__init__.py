"""What quantization cost, where, and whether it is real: models side by side on labelled data.

    python -m tfq.evaluate model.keras model_int8.tflite --data=test.npz --report=report.html

`evaluate_model` is the same from Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfq.evaluate.run import EvaluationResult, evaluate_model

__all__ = ["EvaluationResult", "evaluate_model", "main"]


def main(argv: list[str] | None = None) -> int:
    from tfq.evaluate.command import run_command

    return run_command(argv)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'tfq.evaluate' has no attribute {name!r}")
    from tfq.evaluate import run

    return getattr(run, name)
