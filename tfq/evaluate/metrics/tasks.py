"""The tasks, and which one shapes and types speak for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfq.errors import UsageError, unknown_option
from tfq.evaluate.metrics.classification import Classification, one_hot
from tfq.evaluate.metrics.core import Task

_TASKS: dict[str, type[Task]] = {
    "classification": Classification,
}


def tasks() -> tuple[str, ...]:
    """The names of all tasks."""
    return tuple(_TASKS)


def get_task(name: str, **options: Any) -> Task:
    """The task called `name`.

    Args:
      name: one of `tasks()`.
      **options: what is not to be learnt from the first block: `scores` ("probabilities" or
        "logits") of a classification.

    Raises:
      UsageError: there is no such task, or it has no such option.
    """
    if name not in _TASKS:
        raise unknown_option("task", name, _TASKS)
    return _TASKS[name](**options)


def guess_task(
    output_shapes: Mapping[str, Sequence[int]],
    output_dtypes: Mapping[str, Any],
    label_shape: Sequence[int] | None,
    label_dtype: Any,
    labels: np.ndarray | None = None,
) -> str:
    """The task that a model's outputs and the labels speak for.

    Args:
      output_shapes: of one sample, without the batch axis, by name.
      output_dtypes: by name (of the dequantized outputs).
      label_shape: of one label, or None without labels.
      label_dtype: of the labels.
      labels: some of them: shows whether float rows are one-hot.

    Returns:
      A name: class numbers or one-hot rows are a classification.

    Raises:
      UsageError: nothing fits, or more than one thing.
    """
    shapes = {name: tuple(int(d) for d in shape) for name, shape in output_shapes.items()}
    if label_shape is None:
        raise UsageError(f"The data has no labels, so the task cannot be told. {_choose()}")
    label, kind = tuple(label_shape), np.dtype(label_dtype).kind
    if len(shapes) == 1:
        shape = next(iter(shapes.values()))
        size = int(np.prod(shape, dtype=int))
        vector = size == (shape[-1] if shape else 1)
        if vector and kind in "iub" and int(np.prod(label, dtype=int)) == 1:
            return "classification"
        if (
            vector
            and size > 1
            and label == (size,)
            and (kind in "ub" or (labels is not None and one_hot(np.asarray(labels))))
        ):
            return "classification"
    raise UsageError(
        f"No task fits outputs of shape {shapes} and labels of shape {list(label)} and type "
        f"{label_dtype}. {_choose()}"
    )


def _choose() -> str:
    return f"Choose one: {', '.join(_TASKS)}."
