"""tf_keras (Keras 2) models, the world of tensorflow-model-optimization: the calls of `tfq.keras`.

Quantization-aware training is its own (its wrappers and its graph rewriting), with quantizers that
correct what is wrong in it; what comes out is a model of its kind, which `tfq.convert_model` takes.
Pruning and clustering are callbacks, as for Keras 3,
since its wrappers for them damage the given model. `docs/from-tfmot.md` lists the defects.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any

_HOME = {
    "cluster": "tfq.keras.legacy.clustering",
    "distill": "tfq.keras.legacy.distilling",
    "prune": "tfq.keras.legacy.pruning",
    "quantize": "tfq.keras.legacy.quantizing",
    "scope": "tfq.keras.legacy.quantizing",
}

CALLS = ("cluster", "distill", "prune", "quantize")

__all__ = [*sorted(_HOME), "is_tf_keras"]


def is_tf_keras(model: Any) -> bool:
    """Whether `model` is a tf_keras model; imports nothing, since its owner has imported it."""
    tf_keras = sys.modules.get("tf_keras")
    return tf_keras is not None and isinstance(model, tf_keras.Model)


def sending(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, one of CALLS, sent to this package where a model it is given is a tf_keras one."""

    @functools.wraps(call)
    def either(*args: Any, **options: Any) -> Any:
        if any(is_tf_keras(x) for x in (*args, *options.values())):
            return __getattr__(call.__name__)(*args, **options)
        return call(*args, **options)

    return either


def __getattr__(name: str) -> Any:
    # tensorflow-model-optimization takes a second to import.
    if name not in _HOME:
        raise AttributeError(f"module 'tfq.keras.legacy' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
