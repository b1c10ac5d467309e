"""tf_keras (Keras 2) models: the calls of `tfq.keras`, done with tensorflow-model-optimization.

Its own API does the work where it is right (layout of wrappers, pruning and clustering of layers);
what is wrong in it is replaced here: see `docs/from-tfmot.md` for the list with figures. A model
that comes out of these calls is an ordinary model of tensorflow-model-optimization: its scopes load
it, its wrappers are in it, and `tfq.convert_model` takes it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["is_tf_keras", "quantize", "scope"]


def is_tf_keras(model: Any) -> bool:
    """Whether `model` is a tf_keras model; imports nothing, since its owner has imported it."""
    tf_keras = sys.modules.get("tf_keras")
    return tf_keras is not None and isinstance(model, tf_keras.Model)


def quantize(
    model: Any,
    scheme: str = "int8",
    *,
    weights: Any = None,
    activations: Any = None,
    rules: Sequence[Mapping[str, Any]] = (),
    data: Any = None,
    samples: int | None = None,
) -> Any:
    """See `tfq.keras.legacy.quantizing.quantize`."""
    from tfq.keras.legacy import quantizing

    return quantizing.quantize(
        model,
        scheme,
        weights=weights,
        activations=activations,
        rules=rules,
        data=data,
        samples=samples,
    )


def scope() -> Any:
    """The scope to load a saved model in, as `quantize_scope`, with tfq's quantizers included.

    with tfq.keras.legacy.scope():
        model = tf_keras.models.load_model("model.h5")
    """
    from tfq.keras.legacy import quantizing

    return quantizing.scope()
