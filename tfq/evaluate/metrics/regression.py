"""Regression: numbers of the output's shape.

A sample's error is the mean over its values: MAE mean |y - t|, MSE mean (y - t)^2, and RMSE the
root of the mean of all samples' MSE. R2 is 1 - sum (y - t)^2 / sum (t - mean t)^2 for each value of
the output, averaged over them, as scikit-learn's r2_score.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tfq.evaluate.metrics.core import (
    Better,
    Kept,
    Labels,
    Metric,
    Outputs,
    SampleMetric,
    Task,
    UndefinedError,
    numbers_like,
    only,
    require_labels,
    require_numbers,
)
from tfq.evaluate.metrics.libraries import library


def errors(outputs: Outputs, labels: np.ndarray | None) -> np.ndarray:
    """Output less label: float64 [n, values]."""
    _, values = only(outputs, "An error")
    labels = require_labels(labels, len(values), "An error")
    off = np.asarray(values, np.float64) - np.asarray(labels, np.float64).reshape(values.shape)
    return off.reshape(len(off), -1)


def absolute(
    outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None
) -> np.ndarray:
    """Mean |y - t| of each sample."""
    return np.asarray(np.abs(errors(outputs, labels)).mean(axis=1))


def squared(
    outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None
) -> np.ndarray:
    """Mean (y - t)^2 of each sample."""
    return np.asarray(np.square(errors(outputs, labels)).mean(axis=1))


def mae() -> Metric:
    return SampleMetric(
        name="mae", title="mean absolute error", unit="", better="lower", function=absolute
    )


def mse() -> Metric:
    return SampleMetric(
        name="mse", title="mean squared error", unit="", better="lower", function=squared
    )


def rmse() -> Metric:
    return SampleMetric(
        name="rmse",
        title="root mean squared error",
        unit="",
        better="lower",
        function=squared,
        transform=np.sqrt,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class R2(Metric):
    """Coefficient of determination; keeps output and label in float64."""

    name: str = "r2"
    title: str = "R2"
    unit: str = ""
    better: Better = "higher"
    bounds: tuple[float, float] = (-np.inf, 1)

    def keep(
        self, outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None
    ) -> dict[str, np.ndarray]:
        _, values = only(outputs, self.title)
        labels = require_labels(labels, len(values), self.title)
        flat = (len(values), -1)
        return {
            "output": np.asarray(values, np.float64).reshape(flat),
            "label": np.asarray(labels, np.float64).reshape(flat),
        }

    def compute(self, kept: Kept) -> float:
        require_numbers(kept["output"])
        label = kept["label"]
        if len(label) < 2:
            raise UndefinedError("R2 needs two samples at least.")
        constant = (label == label[0]).all(axis=0)
        if constant.any():
            which = f" at {int(constant.argmax())}" if label.shape[1] > 1 else ""
            raise UndefinedError(f"R2 has no value where all labels are equal{which}.")
        metrics = library("sklearn.metrics", self.title)
        return float(metrics.r2_score(label, kept["output"]))

    def statistic(self, kept: Kept) -> Callable[[np.ndarray], float]:
        # Sums over counts of the samples, instead of copies of what the resample drew.
        label = kept["label"] - kept["label"].mean(axis=0)
        table = np.stack([label, label**2, (kept["output"] - kept["label"]) ** 2])

        def resampled(indices: np.ndarray) -> float:
            n = len(indices)
            counts = np.bincount(indices, minlength=n).astype(np.float64)
            total, squares, error = (table * counts[:, None]).sum(axis=1)
            spread = squares - total**2 / n
            if np.any(spread <= squares * 1e-12):
                raise UndefinedError("All labels of the resample are equal.")
            return float(np.mean(1 - error / spread))

        return resampled


@dataclasses.dataclass(frozen=True)
class Regression(Task):
    @property
    def name(self) -> str:
        return "regression"

    @property
    def all_metrics(self) -> tuple[str, ...]:
        return ("mae", "mse", "rmse", "r2")

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return ("mae", "rmse", "r2")

    def check(self, outputs: Outputs, labels: Labels, start: int = 0) -> np.ndarray | None:
        """As `Task.check`; labels have the output's shape, but for axes of size 1.

        Returns:
          float64 of the output's shape.
        """
        return numbers_like(outputs, labels, start, self.name)[1]

    def _build(self, name: str) -> Metric:
        return {"mae": mae, "mse": mse, "rmse": rmse, "r2": R2}[name]()
