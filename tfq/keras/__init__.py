"""The training side: quantization-aware training, pruning, clustering and distillation of Keras 3
models, and an integer simulator.

    import tfq

    model = tfq.keras.quantize(float_model, data=x_train[:256])
    model.compile(...)
    model.fit(x_train, y_train, callbacks=[tfq.keras.Schedule()])
    tfq.convert_model(model).save("model.tflite")

Importing this package imports TensorFlow, and registers the layers that saved models name.
"""

from __future__ import annotations

import importlib
from typing import Any

from tfq.keras import batch_norm, layers, legacy, quantizers

_HOME = {
    "ConstantSparsity": "tfq.keras.pruning",
    "PolynomialDecay": "tfq.keras.pruning",
    "Schedule": "tfq.keras.schedule",
    "check_ranges": "tfq.keras.quantizers",
    "cluster": "tfq.keras.clustering",
    "distill": "tfq.keras.distillation",
    "freeze_batch_norm": "tfq.keras.batch_norm",
    "is_quantized": "tfq.keras.quantizing",
    "keep_clusters": "tfq.keras.clustering",
    "keep_sparsity": "tfq.keras.pruning",
    "prune": "tfq.keras.pruning",
    "pruning_report": "tfq.keras.pruning",
    "quantize": "tfq.keras.quantizing",
    "remove_channels": "tfq.keras.pruning",
    "set_phase": "tfq.keras.quantizers",
    "simulate": "tfq.keras.simulation",
}

__all__ = [*sorted(_HOME), "batch_norm", "layers", "legacy", "quantizers"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tfq.keras' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    if name in legacy.CALLS:
        value = legacy.sending(value)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
