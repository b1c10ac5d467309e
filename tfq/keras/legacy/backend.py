"""tensorflow-model-optimization, imported without what its import does to the process.

On import it sets TF_USE_LEGACY_KERAS, and whoever asks for `tf.keras` first then gets Keras 2,
here and in every process started from here: a Keras 3 script then breaks far from the cause.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import tensorflow as tf

_FLAG = "TF_USE_LEGACY_KERAS"
_CORE = "tensorflow_model_optimization.python.core"


def _import(name: str) -> Any:
    before = os.environ.get(_FLAG)
    # Settles which Keras `tf.keras` is while the environment is still the user's.
    _ = tf.keras.layers
    try:
        return importlib.import_module(name)
    finally:
        if before is None:
            os.environ.pop(_FLAG, None)
        else:
            os.environ[_FLAG] = before


tfmot = _import("tensorflow_model_optimization")
tf_keras = _import("tf_keras")
quantization = tfmot.quantization.keras

# What the public names leave out, and a scheme of one's own needs.
default_8bit = _import(f"{_CORE}.quantization.keras.default_8bit")
configs_8bit = _import(f"{_CORE}.quantization.keras.default_8bit.default_8bit_quantize_configs")
registry_8bit = _import(f"{_CORE}.quantization.keras.default_8bit.default_8bit_quantize_registry")
scheme_8bit = _import(f"{_CORE}.quantization.keras.default_8bit.default_8bit_quantize_scheme")
transforms_8bit = _import(f"{_CORE}.quantization.keras.default_8bit.default_8bit_transforms")
transformer = _import(f"{_CORE}.quantization.keras.graph_transformations.model_transformer")
aware_activation = _import(f"{_CORE}.quantization.keras.quantize_aware_activation")
quantize_config = _import(f"{_CORE}.quantization.keras.quantize_config")
quantize_layer = _import(f"{_CORE}.quantization.keras.quantize_layer")
annotate = _import(f"{_CORE}.quantization.keras.quantize_annotate")
wrapper = _import(f"{_CORE}.quantization.keras.quantize_wrapper")
utils = _import(f"{_CORE}.quantization.keras.utils")
