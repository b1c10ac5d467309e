"""Models side by side where they run: how fast, how large, and which op runs where.

    python -m tfq.benchmark model.tflite --target=cpu

`benchmark_model` is the same from Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfq.benchmark.run import BenchmarkResult, benchmark_model

__all__ = ["BenchmarkResult", "benchmark_model", "main"]


def main(argv: list[str] | None = None) -> int:
    from tfq.benchmark.command import run_command

    return run_command(argv)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'tfq.benchmark' has no attribute {name!r}")
    from tfq.benchmark import run

    return getattr(run, name)
