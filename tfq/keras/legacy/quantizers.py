"""Quantizers for tensorflow-model-optimization's wrappers: one scale per channel, ranges from data.

Weights: scale of channel c is max |w_c| / (2^(bits-1) - 1), read from the weights at every call. A
stored range (as tensorflow-model-optimization has it) is that of the weights before the last step,
and +-6 before the first. The grid is marked for `tfq.convert_model`.

Activations: the range follows lo <- m lo + (1 - m) min(x), likewise hi, with m = 0.99, starts where
data or else the first batch says, and always includes zero. m = 0.999 needs 1000 steps to forget
63 % of a wrong start; 0.99 needs 100.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfq.keras.fake_quantize import fake_quantize, mark
from tfq.keras.legacy.backend import quantization, tf_keras

MOMENTUM = 0.99
# A channel of zeros needs a scale as well; its integers are zero whatever it is.
_SMALLEST = 1e-6
# The largest weight must not lie a rounding error outside the grid: it would get no gradient.
_ROOM = 1 + 2**-22
# tensorflow-model-optimization's, for a model that is run before it has seen anything.
_START = 6.0


class ChannelWeightQuantizer(quantization.quantizers.Quantizer):
    """Symmetric weights with a scale per output channel.

    Args:
      bits: 8 or 4.
      layout: where the kernel's output channels are: "last" [..., out], "depthwise"
        [h, w, in, multiplier], both last dimensions together, or "transposed" [h, w, out, in].
      sparse: a mask goes with the weights, so that those pruned before stay zero.
    """

    def __init__(self, bits: int = 8, layout: str = "last", sparse: bool = False) -> None:
        self.bits = bits
        self.layout = layout
        self.sparse = sparse

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        if not self.sparse:
            return {}
        mask = layer.add_weight(
            name + "_mask", shape=tensor_shape, initializer="ones", trainable=False, dtype="float32"
        )
        return {"mask": mask}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        x = tf.cast(inputs, tf.float32)
        if self.sparse:
            x = x * weights["mask"]
        shape = x.shape
        if self.layout == "depthwise":
            x = tf.reshape(x, (shape[0], shape[1], shape[2] * shape[3]))
        axis = 2 if self.layout in ("depthwise", "transposed") else x.shape.rank - 1
        others = [i for i in range(x.shape.rank) if i != axis]
        largest = tf.maximum(tf.reduce_max(tf.abs(tf.stop_gradient(x)), axis=others), _SMALLEST)
        scale = largest * _ROOM / (2 ** (self.bits - 1) - 1)
        # A training step needs no marker for the converter, and is faster without.
        x = (fake_quantize if training else mark)(x, scale, bits=self.bits, axis=axis)
        if self.layout == "depthwise":
            x = tf.reshape(x, shape)
        return tf.cast(x, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"bits": self.bits, "layout": self.layout, "sparse": self.sparse}


class DataActivationQuantizer(quantization.quantizers.Quantizer):
    """Asymmetric 8-bit activations whose range starts from data and follows a moving average."""

    def __init__(self, momentum: float = MOMENTUM) -> None:
        self.momentum = momentum

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        def variable(suffix: str, start: float) -> Any:
            return layer.add_weight(
                name + suffix,
                shape=(),
                initializer=tf_keras.initializers.Constant(start),
                trainable=False,
                dtype="float32",
                # As BatchNormalization's statistics: replicas differ, their mean is kept.
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.MEAN,
            )

        return {
            "min_var": variable("_min", -_START),
            "max_var": variable("_max", _START),
            "seen": variable("_seen", 0.0),
        }

    def __call__(self, inputs: Any, training: Any, weights: dict[str, Any], **kwargs: Any) -> Any:
        x = tf.cast(inputs, tf.float32)
        lo, hi, seen = weights["min_var"], weights["max_var"], weights["seen"]
        if training or _observed is not None:
            smallest = tf.minimum(tf.reduce_min(x), 0.0)
            largest = tf.maximum(tf.reduce_max(x), 0.0)
        if _observed is not None:
            _observed.setdefault(id(lo), (weights, []))[1].append((smallest, largest))
            return inputs
        if training:
            keep = tf.where(seen > 0, self.momentum, 0.0)
            lo.assign(keep * lo + (1 - keep) * smallest)
            hi.assign(keep * hi + (1 - keep) * largest)
            seen.assign(tf.ones_like(seen))
        x = tf.quantization.fake_quant_with_min_max_vars(x, lo, hi, num_bits=8)
        return tf.cast(x, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"momentum": self.momentum}


# Only set while `observing`, in eager calls of one thread: nothing of it gets into a graph.
_observed: dict[int, tuple[dict[str, Any], list[tuple[Any, Any]]]] | None = None


@contextlib.contextmanager
def observing() -> Iterator[None]:
    """Eager calls inside note every activation's range instead of quantizing it.

    On leaving, each quantizer that saw something starts from the mean of its batches' extremes,
    which is where the moving average would end up on this data.
    """
    global _observed
    _observed = {}
    try:
        yield
        for variables, ranges in _observed.values():
            variables["min_var"].assign(tf.reduce_mean([lo for lo, _ in ranges]))
            variables["max_var"].assign(tf.reduce_mean([hi for _, hi in ranges]))
            variables["seen"].assign(1.0)
    finally:
        _observed = None
