"""Labels of an image classifier: read, checked, and written into the file for apps.

MediaPipe Tasks, ML Kit and Android Studio read them from TFLite metadata and an attached file.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from tfq.data import DataOptions
from tfq.errors import DataError, UsageError
from tfq.graph.boundary import own_grid
from tfq.graph.classifier_metadata import classifier_metadata
from tfq.graph.metadata import METADATA
from tfq.graph.model import Model
from tfq.plan.plan import Plan
from tfq.plan.scheme import Config
from tfq.verify.input_range import span, usual

DEFAULT_NAME = "labels.txt"


@dataclasses.dataclass(frozen=True)
class Labels:
    """The names of a classifier's classes, in their order, and the file's name in the model."""

    name: str
    lines: tuple[str, ...]

    @property
    def content(self) -> bytes:
        return "".join(f"{line}\n" for line in self.lines).encode()


def read_labels(labels: str | os.PathLike[str] | Sequence[str]) -> Labels:
    """Labels from a text file, one a line, or from strings.

    Raises:
      UsageError: it is neither.
      DataError: the file cannot be read or is no text; there is no label, or an empty one.
    """
    if isinstance(labels, str | os.PathLike):
        path = os.fspath(labels)
        try:
            with open(path, "rb") as file:
                text = file.read().decode("utf-8-sig")
        except OSError as e:
            raise DataError(f"Cannot read the labels {path}: {e.strerror}.") from None
        except UnicodeDecodeError as e:
            raise DataError(
                f"The labels {path} are not UTF-8 text (byte {e.start}). Give a text file with "
                "one label a line."
            ) from None
        lines = [line.strip() for line in text.rstrip().split("\n")]
        name, where = os.path.basename(path), f"The labels {path}"
    elif isinstance(labels, Sequence) and all(isinstance(line, str) for line in labels):
        lines, name, where = [line.strip() for line in labels], DEFAULT_NAME, "The labels"
    else:
        raise UsageError(f"labels is a file, or a list of strings. Received: {labels!r}.")
    bad = [
        i for i, line in enumerate(lines, 1) if not line or "\n" in line or not line.isprintable()
    ]
    if bad or not lines:
        raise DataError(
            f"{where}: label {bad[0] if bad else 1} is empty, or no line of text. Every class has "
            "a line, in the order of the model's scores."
        )
    return Labels(name, tuple(lines))


def check_classifier(model: Model, labels: Labels) -> None:
    """Raises UsageError unless a model takes one image and gives one score for each label."""
    inputs, outputs = model.main.inputs, model.main.outputs
    shapes = [list(t.shape) for t in inputs]
    if len(inputs) != 1 or len(shapes[0]) != 4 or shapes[0][0] != 1 or shapes[0][3] not in (1, 3):
        raise UsageError(
            "labels are for a classifier of one image, [1, height, width, 3] or [1, height, "
            f"width, 1]; the model takes {', '.join(map(str, shapes))}. Leave labels out"
            + (", or batch." if shapes and shapes[0][:1] not in ([], [1]) else ".")
        )
    sizes = [list(t.shape) for t in outputs]
    if len(outputs) != 1 or not sizes[0] or int(np.prod(sizes[0])) != sizes[0][-1]:
        raise UsageError(
            "labels are for a classifier with one output that holds a score for each class; the "
            f"model gives {', '.join(map(str, sizes))}. Leave labels out."
        )
    classes = sizes[0][-1]
    if classes != len(labels.lines):
        raise UsageError(
            f"{labels.name} has {len(labels.lines)} labels, but the model has {classes} classes. "
            "Every class has a line, in the order of the model's scores."
        )


def with_labels_choices(config: Config, options: DataOptions | None, *, replayed: bool) -> Config:
    """The choices that labels make where the user made none: pixels go in as they are.

    MediaPipe Tasks takes no int8, so integer schemes get uint8 inputs and outputs; and where it is
    known how pixels became samples, an input spans just what pixels can be.

    Args:
      config: with the user's choices.
      options: how images became samples.
      replayed: whether a plan decided already.

    Raises:
      UsageError: the input is float, and nothing says which real values pixels are.
    """
    if options is not None and 0 in np.atleast_1d(options.scale):
        raise UsageError("labels: a scale of 0 makes all pixels alike. Received: scale=0.")
    if config.scheme.compute != "integer":
        if options is None:
            raise UsageError(
                f"labels: the input of scheme={config.scheme.name} is float32, and apps have to be "
                "told how pixels of 0 to 255 become its values. Give --mean and --scale, value = "
                "(pixel - mean) * scale (in Python, data_options), and images or no --data."
            )
        return config
    if replayed:
        return config
    given = config.input_range
    if given is None and options is not None:
        ends = _affine(options, np.array([[0.0], [255.0]]))
        lo, hi = float(ends.min()), float(ends.max())
        given = (lo, hi) if np.ptp(ends, axis=1).max() == 0 and lo <= 0 <= hi and lo < hi else None
    return dataclasses.replace(
        config,
        input_type=config.input_type or "uint8",
        output_type=config.output_type or "uint8",
        input_range=given,
    )


def _affine(options: DataOptions, pixels: np.ndarray) -> np.ndarray:
    return (pixels - np.atleast_1d(options.mean)) * np.atleast_1d(options.scale)


def attach_labels(
    model: Model,
    labels: Labels,
    name: str,
    plan: Plan,
    options: DataOptions | None,
) -> tuple[Model, str, list[str]]:
    """A converted model with labels and the metadata that names them, instead of any it has.

    Args:
      model: the quantized model.
      labels: one for each class.
      name: of the model.
      plan: what it was made by; may have been told the input's range.
      options: how images became samples, where they did.

    Returns:
      The model, a line on what was written, and warnings.
    """
    (image,), (scores,) = model.main.inputs, model.main.outputs
    channels = image.shape[-1]
    ends = _told_range(plan)
    mean: list[float] = []
    std: list[float] = []
    warnings: list[str] = []
    grid = own_grid(image)
    real = grid.range() if grid is not None else ends
    if image.dtype == "float32":
        mean, std = _normalization(model, ends, options)
        how = f"values are (pixel - {_listed(mean)}) / {_listed(std)}"
    elif real is None:
        how = "pixels go in as they are"
    else:
        how = f"pixels 0 to 255 stand for {span(real)}"
        if ends is None and usual(*real) is None:
            warnings.append(
                f"labels: apps put pixels in as they are, and 0 to 255 stand for {span(real)} "
                "here, which the samples reached. Say which values the pixels were made: "
                "--input_range=LO,HI."
            )
    if channels == 1:
        warnings.append("labels: MediaPipe Tasks refuses grayscale images; other apps take them.")
    note = f"{len(labels.lines)} in {labels.name}, attached with TFLite metadata; {how}"
    if "uint8" in (image.dtype, scores.dtype):
        note += "; uint8 because MediaPipe Tasks refuses int8"
    said = classifier_metadata(name, labels.name, channels=channels, mean=mean, std=std)
    labelled = dataclasses.replace(
        model,
        metadata={**model.metadata, METADATA: said},
        files={labels.name: labels.content},
    )
    return labelled, note, warnings


def _normalization(
    model: Model, ends: tuple[float, float] | None, options: DataOptions | None
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation: a float input's values are `(pixel - mean) / std`."""
    if options is not None:
        mean, scale = np.broadcast_arrays(np.atleast_1d(options.mean), np.atleast_1d(options.scale))
        return [float(m) for m in mean], [float(1 / s) for s in scale]
    if ends is None:  # The grid of the QUANTIZE behind it.
        image = model.main.inputs[0]
        behind = [op.outputs[0] for op in model.main.ops if image in op.inputs]
        grids = [g for t in behind if (g := own_grid(t)) is not None]
        if not grids:
            raise UsageError(
                "labels: the input is float32, and nothing says how pixels of 0 to 255 become its "
                "values. Give --input_range=LO,HI."
            )
        seen = grids[0].range()
        ends = usual(*seen) or seen
    std = 255.0 / (ends[1] - ends[0])
    return [-ends[0] * std], [std]


def _told_range(plan: Plan) -> tuple[float, float] | None:
    """The `input_range` that a plan was made with; a plan from a file may hold anything."""
    match plan.config.get("input_range"):
        case [float() | int() as lo, float() | int() as hi] if lo < hi:
            return float(lo), float(hi)
    return None


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{v:g}" for v in values)
