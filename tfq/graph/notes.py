"""What tfq writes into a model's metadata as JSON, read back as text from a file that may lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from tfq.errors import ModelError
from tfq.graph.model import Model

Note = TypeVar("Note")

# What reading values of other types and shapes than expected raises.
GARBLED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


def read_note(model: Model, name: str, read: Callable[[Any], Note]) -> Note | None:
    """The note `name` of a model's metadata; None where there is none.

    Args:
      model: with the metadata.
      name: of the note.
      read: makes of JSON what is wanted, and raises one of `GARBLED` for what it cannot be.

    Raises:
      ModelError: the note is damaged.
    """
    content = model.metadata.get(name)
    if content is None:
        return None
    try:
        return read(json.loads(content, parse_constant=no_number))
    except GARBLED as e:
        raise ModelError(
            f"The model's metadata {name!r} is damaged ({type(e).__name__}: {e}). Convert the "
            "model again."
        ) from None


def no_number(constant: str) -> float:
    """For `json.loads`, which would read NaN and Infinity."""
    raise ValueError(f"{constant} is no number")
