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
from tfq.evaluate.metrics.segmentation import IGNORE_INDEX, Segmentation, channels_first
from tfq.evaluate.metrics.signal import Signal

_TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "segmentation": Segmentation,
    "regression": Regression,
    "image": Image,
    "embedding": Embedding,
    "detection": Detection,
    "signal": Signal,
}
# Of which tasks each option of `get_task` is.
_OPTIONS = {
    "scores": ("classification", "segmentation"),
    "data_range": ("image",),
    "ignore_index": ("segmentation",),
}


def tasks() -> tuple[str, ...]:
    """The names of all tasks."""
    return tuple(_TASKS)


def options_of(name: str) -> tuple[str, ...]:
    """The options of `get_task` that are for the task called `name`."""
    return tuple(option for option, names in _OPTIONS.items() if name in names)


def get_task(name: str, **options: Any) -> Task:
    """The task called `name`.

    Args:
      name: one of `tasks()`.
      **options: what is not to be learnt from the first block: `scores` ("probabilities" or
        "logits") of a classification or segmentation, `data_range` of images, `ignore_index` of a
        segmentation.

    Raises:
      UsageError: there is no such task, an option is another task's, or its value is wrong.
    """
    if name not in _TASKS:
        raise unknown_option("task", name, _TASKS)
    for option in options:
        if option not in _OPTIONS:
            raise unknown_option("option of a task", option, _OPTIONS)
        if name not in _OPTIONS[option]:
            raise UsageError(
                f"--{option} is for the task {' or '.join(_OPTIONS[option])}, and the task is "
                f"{name}. Leave it out, or choose --task={_OPTIONS[option][0]}."
            )
    if (scores := options.get("scores")) not in (None, "probabilities", "logits"):
        raise unknown_option("value for --scores", str(scores), ("probabilities", "logits"))
    if (data_range := options.get("data_range")) is not None and not _positive(data_range):
        raise UsageError(
            f"--data_range is the highest less the lowest value that an image can have, a number "
            f"above 0 such as 255. Received: {data_range!r}."
        )
    ignore = options.get("ignore_index")
    if ignore is not None and (isinstance(ignore, bool) or not isinstance(ignore, int)):
        raise UsageError(f"--ignore_index is a label, a whole number. Received: {ignore!r}.")
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
    - scores [height, width, classes] or integers [height, width], and whole numbers [height, width]
      of an integer type: segmentation (of scores of another size, where all are classes; of a
      single score, where all are 0 or 1, or all 0 or 255);
    - an output and numbers of the same shape: image where it has three axes of which the last is
      1, 3 or 4, else regression.

    Embeddings and signals are not told from these by their shapes, and are never guessed.

    Args:
      output_shapes: of one sample, without the batch axis, by name, in the model's order.
      output_dtypes: by name (of the dequantized outputs).
      label_shape: of one label, or None without labels.
      label_dtype: of the labels.
      labels: some of them: shows whether float rows are one-hot, float numbers whole, and maps of
        integers class numbers.

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
        dtype = np.dtype(next(iter(output_dtypes.values())))
        if kind in "iub" and _class_maps(shape, dtype, label, labels):
            return "segmentation"
        if dtype.kind in "fiu" and kind in "iubf":
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


def _class_maps(
    shape: tuple[int, ...], dtype: np.dtype, label: tuple[int, ...], labels: np.ndarray | None
) -> bool:
    """Whether integer labels are class maps for an output."""
    if len(label) not in (2, 3) or label[2:] not in ((), (1,)) or min(label[:2]) < 2:
        return False
    if dtype.kind in "iu":  # Smaller integers may be the pixels of an image.
        return dtype.itemsize >= 4 and shape[:2] == label[:2] and shape[2:] in ((), (1,))
    if len(shape) != 3 or dtype.kind != "f":
        return False
    first = channels_first(shape, label)
    classes, size = (shape[0], shape[1:]) if first else (shape[2], shape[:2])
    if classes > 1 and size == label[:2]:
        return True  # Nothing else takes such labels.
    if labels is None or min(size) < 2:
        return False
    values = np.unique(labels)
    if classes == 1:  # Of black and white masks too: what 255 means is then asked.
        return size == label[:2] and values.tolist() in ([0, 1], [0, IGNORE_INDEX])
    ignored = classes <= IGNORE_INDEX
    return bool(np.all((values >= 0) & (values < classes) | (ignored & (values == IGNORE_INDEX))))


def _whole(labels: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(labels)) and np.all(labels == np.round(labels)))


def _choose() -> str:
    return f"Choose one: {', '.join(_TASKS)}."
