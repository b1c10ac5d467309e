"""Signals: a waveform for a waveform, [time] or [time, channels].

SI-SDR is the scale-invariant signal to distortion ratio of Le Roux, Wisdom, Erdogan and Hershey,
"SDR - half-baked or well done?", ICASSP 2019, equation 1: with the label s, the output y and
a = <y, s> / <s, s>, it is 10 log10(|a s|^2 / |a s - y|^2), of each channel, averaged over channels
and samples. Means are not taken off. SNR is the same with a = 1.

Both are kept within -100 and 100 dB: an exact output has no noise.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.errors import DataError, UsageError
from tfq.evaluate.metrics import regression
from tfq.evaluate.metrics.core import (
    Labels,
    Metric,
    Outputs,
    SampleMetric,
    Task,
    numbers_like,
    only,
    require_labels,
)

LIMIT_DB = 100.0


def si_sdr(
    outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None
) -> np.ndarray:
    """SI-SDR of each sample, dB [n]."""
    y, s = _pairs(outputs, labels)
    with np.errstate(invalid="ignore"):  # Infinite outputs: NaN, which is reported.
        scale = (y * s).sum(axis=1, keepdims=True) / (s * s).sum(axis=1, keepdims=True)
        return _ratio(scale * s, y)


def snr(
    outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None
) -> np.ndarray:
    """Signal to noise ratio of each sample, dB [n]."""
    y, s = _pairs(outputs, labels)
    return _ratio(s, y)


def _pairs(outputs: Outputs, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Output and label: float64 [n, time, channels]."""
    _, values = only(outputs, "A signal")
    labels = require_labels(labels, len(values), "A signal")
    shape = (*values.shape[:2], int(np.prod(values.shape[2:], dtype=int)))
    y, s = (np.asarray(v, np.float64).reshape(shape) for v in (values, labels))
    return y, s


def _ratio(target: np.ndarray, y: np.ndarray) -> np.ndarray:
    power = np.square(target).sum(axis=1)
    noise = np.square(target - y).sum(axis=1)
    least = 10 ** (-LIMIT_DB / 10)
    # An output of zeros has neither signal nor noise: the worst.
    ratio = power / np.maximum(noise, np.maximum(power * least, 1e-300))
    ratio = np.where(np.isfinite(noise), ratio, np.nan)
    return np.asarray(10 * np.log10(np.maximum(ratio, least)).mean(axis=1))


@dataclasses.dataclass(frozen=True)
class Signal(Task):
    @property
    def name(self) -> str:
        return "signal"

    @property
    def all_metrics(self) -> tuple[str, ...]:
        return ("si_sdr", "snr", "mae", "mse")

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return ("si_sdr", "snr")

    def check(self, outputs: Outputs, labels: Labels, start: int = 0) -> np.ndarray | None:
        """As `Task.check`; labels have the output's shape, but for axes of size 1.

        Returns:
          float64 of the output's shape.

        Raises:
          DataError: also where a label is silent: no ratio has a value there.
        """
        name, values = only(outputs, "A signal")
        if values.ndim not in (2, 3):
            raise UsageError(
                f"Signals need an output of shape [time] or [time, channels] for each sample; the "
                f"output {name!r} has {list(values.shape[1:])}. Choose another task or output."
            )
        numbers = numbers_like(outputs, labels, start, self.name)[1]
        if numbers is not None:
            silent = (numbers == 0).all(axis=1).reshape(len(numbers), -1).any(axis=1)
            if silent.any():
                raise DataError(
                    f"The label of sample {start + int(silent.argmax())} is silent: no ratio to it "
                    f"has a value. Leave the sample out, or choose the task regression."
                )
        return numbers

    def _build(self, name: str) -> Metric:
        if name in ("mae", "mse"):
            return regression.mae() if name == "mae" else regression.mse()
        return SampleMetric(
            name=name,
            title={"si_sdr": "SI-SDR", "snr": "SNR"}[name],
            unit="dB",
            better="higher",
            bounds=(-LIMIT_DB, LIMIT_DB),
            function=si_sdr if name == "si_sdr" else snr,
        )
