"""Keras's layers with fake-quantized kernels: `QuantizedConv2D` is a Conv2D, and so on.

A quantized layer is a subclass of Keras's, so that everything that is known of a Conv2D (its call,
config, attributes, variables) holds for it. While its `call` runs, its kernels read as their
fake-quantized values: `keras.StatelessScope` swaps the value of a variable without touching the
variable, so that gradients flow to it through the quantizer. This works for any layer, however it
computes: a convolution, an LSTM in a loop, the projections of an attention.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfq.keras.quantizers import WeightQuantizer, get_weight_quantizer

__all__ = ["QUANTIZED", "Kernel", "QuantizedWeights", "kernels_of", "quantized_class"]


class Kernel:
    """A variable of weights, and its channels.

    Attributes:
      variable: of any shape.
      axes: its dimensions that count output channels, in order.
      name: "kernel", or "query/kernel" in a layer of layers.
    """

    def __init__(self, variable: Any, axes: tuple[int, ...], name: str):
        rank = len(variable.shape)
        self.variable, self.name = variable, name
        self.axes = tuple(a % rank for a in axes)
        rest = [a for a in range(rank) if a not in self.axes]
        self._order = [*rest, *self.axes]
        self._inner = [variable.shape[a] for a in rest]
        self._outer = [variable.shape[a] for a in self.axes]

    @property
    def shape(self) -> tuple[int, ...]:
        """With all channels in one last dimension: what quantizers see."""
        return (*self._inner, math.prod(self._outer))

    def channels_last(self, w: Any) -> Any:
        """`w`, a tensor or array of the variable's shape, in the shape `shape`."""
        backend = np if isinstance(w, np.ndarray) else tf
        if self._order != sorted(self._order):
            w = backend.transpose(w, self._order)
        return backend.reshape(w, self.shape)

    def restored(self, w: Any) -> Any:
        """The inverse of `channels_last`."""
        backend = np if isinstance(w, np.ndarray) else tf
        w = backend.reshape(w, [*self._inner, *self._outer])
        if self._order != sorted(self._order):
            w = backend.transpose(w, np.argsort(self._order))
        return w


def _einsum_axes(layer: Any) -> tuple[int, ...]:
    inputs, _, output = layer.equation.replace(" ", "").partition("->")
    data, _, kernel = inputs.partition(",")
    return tuple(i for i, a in enumerate(kernel) if a in output and a not in data)


def kernels_of(layer: Any) -> list[Kernel]:
    """The kernels of a built layer and of the layers inside it, each variable once.

    Embeddings have none: their table is on the grid of their output.
    """
    found: list[Kernel] = []
    seen: set[int] = set()
    for part in layer._flatten_layers(include_self=True, recursive=True):
        name = type(part).__name__.removeprefix("Quantized")
        for attribute in ("kernel", "recurrent_kernel"):
            variable = getattr(part, attribute, None)
            if not isinstance(variable, keras.Variable) or id(variable) in seen:
                continue
            axes: tuple[int, ...] = (-1,)
            if name.startswith("Depthwise"):
                axes = (-2, -1)
            elif name.startswith("Conv") and name.endswith("Transpose"):
                axes = (-2,)
            elif name == "EinsumDense":
                axes = _einsum_axes(part)
            elif len(variable.shape) < 2:
                continue
            seen.add(id(variable))
            where = attribute if part is layer else f"{part.name}/{attribute}"
            found.append(Kernel(variable, axes, where))
    return found


class QuantizedWeights:
    """What quantized layers add to Keras's (a mixin).

    Args:
      weight_quantizer: a name, config or object; every kernel gets one like it.
    """

    def __init__(self, *args: Any, weight_quantizer: Any = "minmax", **kwargs: Any):
        super().__init__(*args, **kwargs)
        prototype = get_weight_quantizer(weight_quantizer)
        # In a function, so that Keras does not count it among the layers inside this one.
        self._prototype = lambda: prototype
        self._kernels: list[Kernel] = []
        self.kernel_quantizers: list[WeightQuantizer] = []

    @property
    def weight_quantizer(self) -> WeightQuantizer:
        """What the quantizers of all kernels are made like."""
        return self._prototype()

    def get_config(self) -> dict[str, Any]:
        quantizer = keras.saving.serialize_keras_object(self.weight_quantizer)
        return {**super().get_config(), "weight_quantizer": quantizer}  # type: ignore[misc]

    def _build_quantizers(self) -> None:
        self._kernels = kernels_of(self)
        config = self.weight_quantizer.get_config()
        self.kernel_quantizers = [
            type(self.weight_quantizer).from_config(
                {**config, "name": k.name.replace("/", "_") + "_quantizer"}
            )
            for k in self._kernels
        ]
        for kernel, quantizer in zip(self._kernels, self.kernel_quantizers, strict=True):
            quantizer.build(kernel.shape)

    def _call_quantized(self, call: Any, args: Any, kwargs: Any) -> Any:
        with _full_precision():
            swapped = [
                (k.variable, k.restored(q(k.channels_last(tf.convert_to_tensor(k.variable)))))
                for k, q in zip(self._kernels, self.kernel_quantizers, strict=True)
            ]
        with keras.StatelessScope(state_mapping=swapped) as scope:
            result = call(self, *args, **kwargs)
        # What the layer itself changes (the seeds of dropout inside it) is to last.
        kernels = {id(k.variable) for k in self._kernels}
        for variable in self.non_trainable_variables:  # type: ignore[attr-defined]
            value = scope.get_current_value(variable)
            if value is not None and id(variable) not in kernels:
                variable.assign(value)
        return result

    @property
    def own_weights(self) -> list[Any]:
        """The variables that the layer has without its quantizers, in Keras's order."""
        mine = {id(v) for q in self.kernel_quantizers for v in q.variables}
        return [v for v in self.weights if id(v) not in mine]  # type: ignore[attr-defined]

    def initialize_quantizers(self) -> None:
        """Fits the quantizers to the kernels as they are now."""
        for kernel, quantizer in zip(self._kernels, self.kernel_quantizers, strict=True):
            values = keras.ops.convert_to_numpy(kernel.variable)
            quantizer.initialize(kernel.channels_last(np.asarray(values, np.float32)))

    def quantized_kernels(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """By kernel name: its integers, int8 in the kernel's own shape, and its scales.

        Scales are float32 [channels], or [1] where there is one for all. Integers times scales are
        the values that the layer computes with, and what the converted file holds.
        """
        found = {}
        for kernel, quantizer in zip(self._kernels, self.kernel_quantizers, strict=True):
            values = np.asarray(keras.ops.convert_to_numpy(kernel.variable), np.float32)
            w = kernel.channels_last(values)
            integers = kernel.restored(quantizer.integers(w))
            found[kernel.name] = integers, quantizer.scales(w)
        return found


def _full_precision() -> Any:
    """Variables read as float32, also inside a layer that computes in float16."""
    from keras.src.backend.common.variables import AutocastScope

    return AutocastScope(None)


_BASES = """
    Bidirectional Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D
    ConvLSTM2D ConvLSTM3D Dense DepthwiseConv1D DepthwiseConv2D EinsumDense GRU
    GroupedQueryAttention LSTM MultiHeadAttention RNN SimpleRNN TimeDistributed"""


def _make(name: str) -> type:
    base = getattr(keras.layers, {"GroupedQueryAttention": "GroupQueryAttention"}.get(name, name))

    # Keras reads the arguments' names from the signatures, which `wraps` keeps.
    @functools.wraps(base.build)
    def build(self: Any, *args: Any, **kwargs: Any) -> None:
        base.build(self, *args, **kwargs)
        self._build_quantizers()

    @functools.wraps(base.call)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._call_quantized(base.call, args, kwargs)

    cls = type(
        f"Quantized{name}",
        (QuantizedWeights, base),
        {
            "__module__": __name__,
            "__doc__": f"Keras's {base.__name__} with fake-quantized kernels.",
            "build": build,
            "call": call,
        },
    )
    return keras.saving.register_keras_serializable(package="tfq")(cls)


QUANTIZED: dict[str, type] = {name: _make(name) for name in _BASES.split()}
globals().update({cls.__name__: cls for cls in QUANTIZED.values()})


def quantized_class(layer: Any) -> Any:
    """The quantized class for a layer of Keras's, or None where it has no kernels to quantize."""
    if not type(layer).__module__.startswith("keras."):
        return None
    return QUANTIZED.get(type(layer).__name__)
