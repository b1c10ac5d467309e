"""Models that live in the user's process: recognised without importing TensorFlow, then saved."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfq.errors import ModelError, TfqError
from tfq.sources.causes import root_cause


def kind_of(source: Any) -> str | None:
    """ "keras_object", "tf_keras_object" or "concrete_function"; None for anything else."""
    for base in type(source).__mro__:
        package = base.__module__.split(".")[0]
        if base.__name__ == "Model" and package in ("keras", "tf_keras"):
            return "keras_object" if package == "keras" else "tf_keras_object"
        if base.__name__ == "ConcreteFunction" and package == "tensorflow":
            return "concrete_function"
    return None


def save_object(source: Any, kind: str, folder: Path, batch: int) -> dict[str, Any]:
    """Traces the object with static shapes and saves it as a SavedModel in `folder`.

    Returns:
      The fields of a worker request that describe it.

    Raises:
      ModelError: it cannot be traced or saved.
    """
    from tfq.sources import tracing  # Imports TensorFlow, as the object's owner has.

    with _quiet():
        try:
            if kind == "concrete_function":
                entry = tracing.trace_signature(
                    source, key="serving_default", batch=batch, owner=_owner(source)
                )
            else:
                entry = tracing.trace_keras(source, batch=batch)
            entry.save(folder)
        except (TfqError, MemoryError):
            raise
        except Exception as e:  # TensorFlow and the model's own code raise anything.
            raise ModelError(
                f"The {type(source).__name__} cannot be traced and saved: {root_cause(e)}"
            ) from None
    return {
        "kind": "saved_model",
        "path": str(folder),
        "signature": entry.key,
        "input_names": entry.input_names,
        "output_names": entry.output_names,
        "layers": entry.layers,
        "allow_code": True,  # The user's own, which runs in this process too.
    }


def _owner(function: Any) -> Any:
    import tensorflow as tf

    owner = tf.Module()
    owner.variables_read = list(function.graph.variables)
    return owner


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TensorFlow's remarks about saving are not for the user."""
    loggers = [logging.getLogger(n) for n in ("tensorflow", "absl")]
    levels = [(x, x.level) for x in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)
