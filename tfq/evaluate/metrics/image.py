"""Image-to-image: an image for an image, [height, width] or [height, width, channels].

PSNR and SSIM are scikit-image's, of each image, averaged over images. SSIM is that of Wang, Bovik,
Sheikh and Simoncelli, "Image quality assessment", IEEE TIP 2004: Gaussian window of 11, sigma 1.5,
averaged over channels. Both need the range of the values. Unless it is given it is taken from the
first block's labels (outputs where there are none): 255 for integers or where one is above 2, else
2 where one is below -0.5, else 1; a later label that spans more is an error.

Images that are equal have no PSNR; they count as 100 dB, which no other is above either.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from tfq.errors import DataError, UsageError
from tfq.evaluate.metrics import regression
from tfq.evaluate.metrics.core import (
    Labels,
    Metric,
    Outputs,
    SampleMetric,
    Task,
    array_of,
    numbers_like,
    only,
    require_labels,
)
from tfq.evaluate.metrics.libraries import library

LIMIT_DB = 100.0

_WINDOW = 11  # SSIM's; a smaller image has none.


def psnr(
    outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None, *, data_range: float
) -> np.ndarray:
    """Peak signal to noise ratio of each image, dB [n]; at most 100."""
    metrics = library("skimage.metrics", "PSNR")
    found = []
    for value, label in zip(*_pairs(outputs, labels), strict=True):
        if np.array_equal(value, label):
            found.append(LIMIT_DB)
        elif np.isfinite(value).all():
            ratio = metrics.peak_signal_noise_ratio(label, value, data_range=data_range)
            found.append(min(ratio, LIMIT_DB))
        else:
            found.append(np.nan)
    return np.array(found, np.float64)


def ssim(
    outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None, *, data_range: float
) -> np.ndarray:
    """Structural similarity of each image, [n]."""
    metrics = library("skimage.metrics", "SSIM")
    found = []
    for value, label in zip(*_pairs(outputs, labels), strict=True):
        if not np.isfinite(value).all():
            found.append(np.nan)
            continue
        found.append(
            metrics.structural_similarity(
                label,
                value,
                data_range=data_range,
                channel_axis=-1 if value.ndim == 3 else None,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
        )
    return np.array(found, np.float64)


def _pairs(outputs: Outputs, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    _, values = only(outputs, "Image-to-image")
    labels = require_labels(labels, len(values), "Image-to-image")
    return np.asarray(values, np.float64), np.asarray(labels, np.float64).reshape(values.shape)


def value_range(images: np.ndarray) -> float:
    """Highest less lowest possible value of images; the rule is the module's."""
    if images.dtype.kind != "f" or np.max(images, initial=0) > 2:
        return 255.0
    return 2.0 if np.min(images, initial=0) < -0.5 else 1.0


@dataclasses.dataclass(frozen=True)
class Image(Task):
    """Attributes:
    data_range: highest less lowest possible value; None until `fit` decides.
    """

    data_range: float | None = None

    @property
    def name(self) -> str:
        return "image"

    @property
    def all_metrics(self) -> tuple[str, ...]:
        return ("psnr", "ssim", "mae", "mse")

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return ("psnr", "ssim")

    def fit(self, outputs: Outputs, labels: Labels) -> Image:
        _, values = only(outputs, "Image-to-image")
        if self.data_range is not None:
            return self
        images = values if labels is None else array_of(labels, len(values), 0, self.name)
        return Image(value_range(images))

    def facts(self) -> dict[str, Any]:
        return {"data_range": None if self.data_range is None else float(self.data_range)}

    def check(self, outputs: Outputs, labels: Labels, start: int = 0) -> np.ndarray | None:
        """As `Task.check`; labels have the output's shape, but for axes of size 1.

        Returns:
          float64 of the output's shape.
        """
        name, values = only(outputs, "Image-to-image")
        if values.ndim not in (3, 4):
            raise UsageError(
                f"Image-to-image needs an output of shape [height, width, channels] for each "
                f"sample; the output {name!r} has {list(values.shape[1:])}. Choose another task "
                f"or output."
            )
        if min(values.shape[1:3]) < _WINDOW:
            raise UsageError(
                f"SSIM needs images of {_WINDOW} by {_WINDOW} at least; the output {name!r} has "
                f"{list(values.shape[1:])}. Choose the task regression."
            )
        numbers = numbers_like(outputs, labels, start, self.name)[1]
        if numbers is not None and self.data_range is not None:
            self._check_range(numbers, start)
        return numbers

    def _check_range(self, labels: np.ndarray, start: int) -> None:
        flat = labels.reshape(len(labels), -1)
        span = flat.max(axis=1) - flat.min(axis=1)
        wide = span > (self.data_range or 0) * 1.01
        if wide.any():
            at = int(wide.argmax())
            raise DataError(
                f"The image that is the label of sample {start + at} spans {span[at]:.4g}, and the "
                f"range of the values is {self.data_range:g}, as given or by the first samples. "
                f"Give the right one with --data_range=NUMBER (from Python: data_range=NUMBER)."
            )

    def _build(self, name: str) -> Metric:
        if name in ("mae", "mse"):
            return regression.mae() if name == "mae" else regression.mse()
        if self.data_range is None:
            raise ValueError("The task has to be fitted first.")
        if name == "psnr":
            return SampleMetric(
                name="psnr",
                title="PSNR",
                unit="dB",
                better="higher",
                function=functools.partial(psnr, data_range=self.data_range),
            )
        return SampleMetric(
            name="ssim",
            title="SSIM",
            unit="",
            better="higher",
            bounds=(-1, 1),
            function=functools.partial(ssim, data_range=self.data_range),
        )
