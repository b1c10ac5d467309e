"""Labels of several outputs: one structured array, with a field for every output that has labels.

Data says whose labels are whose with a dict by output, or with arrays called `y/OUTPUT`. A
structured array goes wherever an array of labels goes: it is cut, joined, sent and stored alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from tfq.errors import DataError

LABEL_KEYS = ("y", "label", "labels")
"""Names that mean labels, unless an input is called so; the first that there is."""

T = TypeVar("T")


def output_of(key: str) -> tuple[str, str] | None:
    """("y", "scores") of "y/scores": the name of labels and the output's; None of other names."""
    name, _, output = key.partition("/")
    return (name, output) if name in LABEL_KEYS and output else None


def gathered(
    arrays: Mapping[str, T], inputs: Sequence[str], what: str
) -> tuple[dict[str, T], dict[str, dict[str, T]]]:
    """Tells what is called `y/OUTPUT` from the rest.

    Args:
      arrays: by name.
      inputs: names that are inputs, whatever they look like.
      what: names the data in messages.

    Returns:
      The rest, and by name of labels ("y") what is there by output.

    Raises:
      DataError: there are labels of that name besides.
    """
    rest: dict[str, T] = {}
    labels: dict[str, dict[str, T]] = {}
    for key, array in arrays.items():
        found = None if key in inputs else output_of(key)
        if found is None:
            rest[key] = array
        else:
            labels.setdefault(found[0], {})[found[1]] = array
    for name, fields in labels.items():
        if name in rest:
            raise DataError(
                f"{what} has both {name!r} and {f'{name}/{next(iter(fields))}'!r}. Name the labels "
                f"of every output, as {name}/OUTPUT, or give those of one output alone."
            )
    return rest, labels


def structure(dtypes: Mapping[str, np.dtype], shapes: Mapping[str, tuple[int, ...]]) -> np.dtype:
    """The type of a row of labels, from every output's type and shape of a label."""
    return np.dtype([(name, dtype, shapes[name]) for name, dtype in dtypes.items()])


def rows_of(fields: Mapping[str, np.ndarray]) -> np.ndarray:
    """Labels by output, each [n, ...], as one structured array [n]."""
    dtype = structure(
        {n: a.dtype for n, a in fields.items()}, {n: a.shape[1:] for n, a in fields.items()}
    )
    rows = np.empty(len(next(iter(fields.values()))), dtype)
    for name, array in fields.items():
        rows[name] = array
    return rows


def form(row: np.ndarray) -> tuple[Any, ...]:
    """What rows of labels have in common that can be stacked."""
    return (row.shape, row.dtype if row.dtype.names else None)
