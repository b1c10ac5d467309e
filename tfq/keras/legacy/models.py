"""What tensorflow-model-optimization can be given, and a copy of it.

Its pruning and clustering wrap the very layers of the model they are given: training the pruned
model changes the given one, a second call shares weights with the first, and clustering takes the
kernels out of the given model. So everything here works on a copy.
"""

from __future__ import annotations

from typing import Any

from tfq.errors import ModelError, UsageError
from tfq.keras.legacy.backend import annotate, quantize_layer, tf_keras, wrapper

_KERAS_3 = "or build the model with Keras 3, whose models of every kind tfq.keras takes"


def check_model(model: Any, what: str) -> None:
    """Refuses what tensorflow-model-optimization cannot do, before it fails somewhere inside.

    Args:
      model: a tf_keras model.
      what: is to be done with it: "quantize".

    Raises:
      UsageError: it is not built.
      ModelError: it is subclassed or nested, or holds the wrappers of an earlier call.
    """
    if not model.built:
        raise UsageError(
            f"Model {model.name!r} is not built, so there are no weights to {what}. Call "
            f"model.build(input_shape), or give its first layer an input shape."
        )
    if not (isinstance(model, tf_keras.Sequential) or model._is_graph_network):
        raise ModelError(
            f"Model {model.name!r} ({type(model).__name__}) is subclassed; of tf_keras models only "
            f"Functional and Sequential ones can be {what}d. Rebuild it with "
            f"tf_keras.Model(inputs, outputs), {_KERAS_3}."
        )
    nested = [layer.name for layer in model.layers if isinstance(layer, tf_keras.Model)]
    if nested:
        raise ModelError(
            f"Model {model.name!r} holds models as layers ({', '.join(nested)}), which "
            f"tensorflow-model-optimization cannot {what}. Call their layers directly, {_KERAS_3}."
        )
    quantized = (wrapper.QuantizeWrapper, quantize_layer.QuantizeLayer, annotate.QuantizeAnnotate)
    strips = {
        "PruneLowMagnitude": "tfmot.sparsity.keras.strip_pruning",
        "ClusterWeights": "tfmot.clustering.keras.strip_clustering",
        "ClusterWeightsRNN": "tfmot.clustering.keras.strip_clustering",
        "ClusterWeightsMHA": "tfmot.clustering.keras.strip_clustering",
    }
    for layer in model.layers:
        if isinstance(layer, quantized):
            raise ModelError(
                f"Model {model.name!r} is quantized already: layer {layer.name!r} is a "
                f"{type(layer).__name__}. Give the float model it was made from."
            )
        if strip := strips.get(type(layer).__name__):
            raise ModelError(
                f"Layer {layer.name!r} still has the wrapper of an earlier call "
                f"({type(layer).__name__}). Take it off first: {strip}(model)."
            )


def copy_model(model: Any) -> Any:
    """A model of the same layers and weights that shares nothing with `model`.

    Raises:
      ModelError: a layer of the user's that tf_keras cannot make again from its config.
    """
    try:
        copy = tf_keras.models.clone_model(model)
    except (TypeError, ValueError, NotImplementedError) as e:
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise ModelError(
            f"Model {model.name!r} cannot be copied: {reason} Layers of your own need get_config."
        ) from e
    if not copy.built:
        copy.build(model.input_shape)
    copy.set_weights(model.get_weights())
    return copy
