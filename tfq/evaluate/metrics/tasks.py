"""The tasks, and which one shapes and types speak for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfq.errors import UsageError, unknown_option
from tfq.evaluate.metrics.classification import Classification, one_hot
from tfq.evaluate.metrics.core import Task
from tfq.evaluate.metrics.detection import Detection, roles
from tfq.evaluate.metrics.embedding import Embedding
from tfq.evaluate.metrics.image import Image
from tfq.evaluate.metrics.regression import Regression
from tfq.evaluate.metrics.signal import Signal

_TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "regression": Regression,
    "image": Image,
    "embedding": Embedding,
    "detection": Detection,
    "signal": Signal,
}
# Of which task each option of `get_task` is.
_OPTIONS = {"scores": "classification", "data_range": "image"}


def tasks() -> tuple[str, ...]:
    """The names of all tasks."""
    return tuple(_TASKS)


def get_task(name: str, **options: Any) -> Task:
    """The task called `name`.

    Args:
      name: one of `tasks()`.
      **options: what is not to be learnt from the first block: `scores` ("probabilities" or
        "logits") of a classification, `data_range` of images.

    Raises:
      UsageError: there is no such task, an option is another task's, or its value is wrong.
    """
    if name not in _TASKS:
        raise unknown_option("task", name, _TASKS)
    for option in options:
        if option not in _OPTIONS:
            raise unknown_option("option of a task", option, _OPTIONS)
        if name != _OPTIONS[option]:
            raise UsageError(
                f"--{option} is for the task {_OPTIONS[option]}, and the task is {name}. Leave it "
                f"out, or choose --task={_OPTIONS[option]}."
            )
    if (scores := options.get("scores")) not in (None, "probabilities", "logits"):
        raise unknown_option("value for --scores", str(scores), ("probabilities", "logits"))
    if (data_range := options.get("data_range")) is not None and not _positive(data_range):
        raise UsageError(
            f"--data_range is the highest less the lowest value that an image can have, a number "
            f"above 0 such as 255. Received: {data_range!r}."
        )
    return _TASKS[name](**options)


def _positive(value: Any) -> bool:
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return bool(number and 0 < value < math.inf)


def guess_task(
    output_shapes: Mapping[str, Sequence[int]],
    output_dtypes: Mapping[str, Any],
    label_shape: Sequence[int] | None,
    label_dtype: Any,
    labels: np.ndarray | None = None,
) -> str:
    """The task that a model's outputs and the labels speak for.

    - boxes, classes and scores, and labels [m, 5]: detection;
    - one vector and a class number or a one-hot row: classification;
    - an output and numbers of the same shape: image where it has three axes of which the last is
      1, 3 or 4, else regression.

    Embeddings and signals are not told from these by their shapes, and are never guessed.

    Args:
      output_shapes: of one sample, without the batch axis, by name, in the model's order.
      output_dtypes: by name (of the dequantized outputs).
      label_shape: of one label, or None without labels.
      label_dtype: of the labels.
      labels: some of them: shows whether float rows are one-hot, or float numbers whole.

    Raises:
      UsageError: nothing fits.
    """
    shapes = {name: tuple(int(d) for d in shape) for name, shape in output_shapes.items()}
    if label_shape is None:
        raise UsageError(f"The data has no labels, so the task cannot be told. {_choose()}")
    label, kind = tuple(label_shape), np.dtype(label_dtype).kind
    if len(label) == 2 and label[1] == 5 and roles(shapes) is not None:
        return "detection"
    if len(shapes) == 1:
        shape = next(iter(shapes.values()))
        if np.dtype(next(iter(output_dtypes.values()))).kind in "fiu" and kind in "iubf":
            found = _guess_one(shape, label, kind, labels)
            if found:
                return found
    which = " Or choose one output." if len(shapes) > 1 else ""
    shown = ", ".join(f"{name!r} {list(shape)}" for name, shape in shapes.items())
    raise UsageError(
        f"No task fits the outputs {shown} and labels of shape {list(label)} and type "
        f"{np.dtype(label_dtype)}. {_choose()}{which}"
    )


def _guess_one(
    shape: tuple[int, ...], label: tuple[int, ...], kind: str, labels: np.ndarray | None
) -> str | None:
    size = math.prod(shape)
    if size == (shape[-1] if shape else 1):  # A vector, or one number.
        number = math.prod(label) == 1
        if number and (kind != "f" or (size > 1 and labels is not None and _whole(labels))):
            return "classification"
        rows = labels is not None and one_hot(np.asarray(labels))
        if size > 1 and label == (size,) and rows:
            return "classification"
    if tuple(d for d in shape if d != 1) != tuple(d for d in label if d != 1):
        return None
    return (
        "image" if len(shape) == 3 and shape[-1] in (1, 3, 4) and size > shape[-1] else "regression"
    )


def _whole(labels: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(labels)) and np.all(labels == np.round(labels)))


def _choose() -> str:
    return f"Choose one: {', '.join(_TASKS)}."
