"""tfq: TensorFlow models to full-integer TensorFlow Lite, calibrated, emitted and proven.

Nothing heavy is imported until a name is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfq import keras
    from tfq.benchmark import BenchmarkResult, benchmark_model
    from tfq.calibrate.statistics import Statistics
    from tfq.convert import ConversionResult, convert_model
    from tfq.data import DataOptions, save_representative_dataset
    from tfq.errors import DataError, ModelError, TfqError, UsageError
    from tfq.evaluate.run import EvaluationResult, evaluate_model
    from tfq.plan.plan import Plan
    from tfq.plan.scheme import LayerRule

__version__ = "0.1.0"

__all__ = [
    "BenchmarkResult",
    "ConversionResult",
    "DataError",
    "DataOptions",
    "EvaluationResult",
    "LayerRule",
    "ModelError",
    "Plan",
    "Statistics",
    "TfqError",
    "UsageError",
    "__version__",
    "benchmark_model",
    "convert_model",
    "evaluate_model",
    "keras",
    "save_representative_dataset",
]

_HOME = {
    "BenchmarkResult": "tfq.benchmark",
    "ConversionResult": "tfq.convert",
    "DataError": "tfq.errors",
    "DataOptions": "tfq.data",
    "EvaluationResult": "tfq.evaluate.run",
    "LayerRule": "tfq.plan.scheme",
    "ModelError": "tfq.errors",
    "Plan": "tfq.plan.plan",
    "Statistics": "tfq.calibrate.statistics",
    "TfqError": "tfq.errors",
    "UsageError": "tfq.errors",
    "benchmark_model": "tfq.benchmark",
    "convert_model": "tfq.convert",
    "evaluate_model": "tfq.evaluate.run",
    "save_representative_dataset": "tfq.data",
}


def __getattr__(name: str) -> Any:
    if name == "keras":
        return importlib.import_module("tfq.keras")
    if name not in _HOME:
        raise AttributeError(f"module 'tfq' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
