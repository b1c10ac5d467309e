"""A quantization scheme for `quantize_apply`: its layout, with what is wrong in it replaced.

tensorflow-model-optimization rewrites the model by patterns (Conv + BatchNorm + ReLU is one op) and
leaves a QuantizeConfig for each layer. Every such config is replaced here, after the rewriting:

  default layer         weights per channel, quantized activation, output where its registry says so
  marked "no-op"        nothing after the layer, as marked; but weights are quantized all the same
                        (its own Conv2D + ReLU layer leaves the kernel float)
  before a Concatenate  neither output nor activation quantized: both share the concatenation's grid
  activation=relu6      quantized after the clamp (its own says the activation is not supported)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfq.errors import ModelError
from tfq.keras.legacy.backend import (
    aware_activation,
    configs_8bit,
    quantization,
    quantize_layer,
    registry_8bit,
    scheme_8bit,
    tf_keras,
    transformer,
    transforms_8bit,
    utils,
)
from tfq.keras.legacy.quantizers import ChannelWeightQuantizer, DataActivationQuantizer

# Layer -> the kernel's attribute, and where its output channels are.
_KERNELS = {
    "Conv2D": ("kernel", "last"),
    "Conv2DTranspose": ("kernel", "transposed"),
    "Dense": ("kernel", "last"),
    "DepthwiseConv2D": ("depthwise_kernel", "depthwise"),
}
_BEFORE = frozenset({"softmax", "sigmoid", "tanh"})
_AFTER = frozenset({"linear", "relu", "relu6", "swish", "gelu"})
_ADDED = ("_depthwise", "_pointwise", "_QAT_SepConv2D")
# Training leaves no exact zeros; what has this share of them was pruned.
_PRUNED = 0.1


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is quantized in a layer.

    Attributes:
      bits: of the kernel, or None to leave it float.
      activations: its output (or activation) is quantized where the layout says so.
    """

    bits: int | None = 8
    activations: bool = True


class ChannelQuantizeConfig(quantization.QuantizeConfig):
    """What is quantized in one layer.

    Args:
      kernel: [attribute, bits, layout, sparse] of the weights (`ChannelWeightQuantizer`), or None.
      activation: the layer's `activation` is quantized, before or after as it needs.
      output: the layer's output is quantized.
    """

    def __init__(
        self,
        kernel: Sequence[Any] | None = None,
        activation: bool = False,
        output: bool = False,
    ) -> None:
        self.kernel = kernel
        self.activation = activation
        self.output = output

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        if self.kernel is None:
            return []
        attribute, *arguments = self.kernel
        return [(getattr(layer, attribute), ChannelWeightQuantizer(*arguments))]

    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        return [(layer.activation, DataActivationQuantizer())] if self.activation else []

    def set_quantize_weights(self, layer: Any, quantize_weights: Sequence[Any]) -> None:
        if self.kernel is not None:
            setattr(layer, self.kernel[0], quantize_weights[0])

    def set_quantize_activations(self, layer: Any, quantize_activations: Sequence[Any]) -> None:
        if self.activation:
            layer.activation = quantize_activations[0]

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        return [DataActivationQuantizer()] if self.output else []

    def get_config(self) -> dict[str, Any]:
        return {"kernel": self.kernel, "activation": self.activation, "output": self.output}


def make_config(layer: Any, given: Any, choice: Choice) -> ChannelQuantizeConfig | None:
    """The config of a layer after the layout's rewriting.

    Args:
      layer: not wrapped.
      given: the config that the rewriting left for it, or None.
      choice: the scheme's and the rules'.

    Returns:
      None where tensorflow-model-optimization does not know the layer.
    """
    config = _placed(layer, given)
    if config is None:
        return None
    kernel = None
    if choice.bits is not None and not isinstance(
        given, configs_8bit.Default8BitOutputQuantizeConfig
    ):
        kernel = _kernel(layer, choice.bits)
    if not choice.activations:
        return ChannelQuantizeConfig(kernel)
    return ChannelQuantizeConfig(kernel, config.activation, config.output)


def _kernel(layer: Any, bits: int) -> list[Any] | None:
    """Arguments of the quantizer of a layer's kernel."""
    if type(layer).__name__ not in _KERNELS:
        return None
    attribute, layout = _KERNELS[type(layer).__name__]
    zeros = float(np.mean(np.asarray(getattr(layer, attribute)) == 0))
    return [attribute, bits, layout, zeros >= _PRUNED]


def _placed(layer: Any, given: Any) -> ChannelQuantizeConfig | None:
    """Where after the layer a quantizer stands."""
    fused = type(layer).__name__ in _KERNELS
    name = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if isinstance(given, configs_8bit.Default8BitOutputQuantizeConfig):
        return ChannelQuantizeConfig(output=True)
    if isinstance(given, configs_8bit.NoOpQuantizeConfig):
        # A following ReLU layer is part of this op, unless an activation comes between.
        return ChannelQuantizeConfig(activation=fused and name in _BEFORE)
    registry = registry_8bit.Default8BitQuantizeRegistry()
    if not registry.supports(layer):
        return None
    if fused and isinstance(layer.activation, aware_activation.NoOpActivation):
        return ChannelQuantizeConfig()
    if name not in _BEFORE | _AFTER:
        return None
    if "get_output_quantizers" in vars(given or object):
        return ChannelQuantizeConfig(activation=fused and name in _BEFORE)
    if fused:
        relu6 = name == "relu6"
        return ChannelQuantizeConfig(activation=not relu6, output=relu6)
    output = registry.get_quantize_config(layer).get_output_quantizers(layer)
    return ChannelQuantizeConfig(output=bool(output))


class InputQuantize(transforms_8bit.InputLayerQuantize):
    """The input's quantizer follows the data as all others do."""

    def replacement(self, match_layer: Any) -> Any:
        node = super().replacement(match_layer)
        layer = quantize_layer.QuantizeLayer(DataActivationQuantizer(), name=node.layer["name"])
        node.layer.update(utils.serialize_layer(layer, use_legacy_format=True))
        return node

    def custom_objects(self) -> dict[str, Any]:
        return {**super().custom_objects(), **custom_objects()}


class SeparableConvQuantize(transforms_8bit.SeparableConvQuantize):
    """The two layers are named after the one they came from, so that rules find them."""

    def replacement(self, match_layer: Any) -> Any:
        name = match_layer.layer["config"]["name"]
        node = super().replacement(match_layer)
        parts = ((node, "_pointwise"), (node.input_layers[0], "_depthwise"))
        for part, suffix in parts:
            part.layer["name"] = part.layer["config"]["name"] = name + suffix
        return node


def _relu6(base: Any, name: str) -> Any:
    """`base`, a pattern that ends in Activation("relu"), for Activation("relu6")."""

    def pattern(self: Any) -> Any:
        found = base.pattern(self)
        found.config = {"activation": "relu6"}
        return found

    # The transformer keeps a list of matches under the class's name.
    return type(name, (base,), {"pattern": pattern})


class Layout(quantization.QuantizeLayoutTransform):
    """The default 8-bit layout with configs made by `make_config`.

    Args:
      choices: by the names of the user's layers.
    """

    def __init__(self, choices: Mapping[str, Choice]) -> None:
        self.choices = choices

    def apply(self, model: Any, layer_quantize_map: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        t = transforms_8bit
        steps = [
            InputQuantize(),
            t.SeparableConv1DQuantize(),
            SeparableConvQuantize(),
            t.Conv2DReshapeBatchNormReLUQuantize(),
            t.Conv2DReshapeBatchNormActivationQuantize(),
            t.Conv2DBatchNormReLUQuantize(),
            t.Conv2DBatchNormActivationQuantize(),
            _relu6(t.Conv2DBatchNormActivationQuantize, "Conv2DBatchNormReLU6")(),
            t.Conv2DReshapeBatchNormQuantize(),
            t.Conv2DBatchNormQuantize(),
            t.ConcatTransform6Inputs(),
            t.ConcatTransform5Inputs(),
            t.ConcatTransform4Inputs(),
            t.ConcatTransform3Inputs(),
            t.ConcatTransform(),
            t.DenseBatchNormReLUQuantize(),
            t.DenseBatchNormActivationQuantize(),
            _relu6(t.DenseBatchNormActivationQuantize, "DenseBatchNormReLU6")(),
            t.DenseBatchNormQuantize(),
            t.LayerReLUQuantize(),
            t.LayerReluActivationQuantize(),
            _relu6(t.LayerReluActivationQuantize, "LayerReLU6")(),
        ]
        model, found = transformer.ModelTransformer(
            model, steps, set(layer_quantize_map), layer_quantize_map
        ).transform()
        unknown = []
        for layer in model.layers:
            if layer.name not in found or isinstance(
                layer, tf_keras.layers.InputLayer | quantize_layer.QuantizeLayer
            ):
                continue
            given = found[layer.name].get("quantize_config")
            config = make_config(layer, given, self.choices[_original(layer.name)])
            if config is None:
                unknown.append(_describe(layer))
            found[layer.name]["quantize_config"] = config
        if unknown:
            raise ModelError(
                f"tensorflow-model-optimization, which trains tf_keras models, does not know "
                f"{', '.join(unknown)}. Leave layers unquantized with a rule "
                f'({{"regex": "...", "weights": None, "activations": None}}), or build the model '
                f"with Keras 3, where tfq.keras.quantize trains them."
            )
        return model, found


class Registry(registry_8bit.Default8BitQuantizeRegistry):
    """Asked for layers that are not quantized themselves but whose output feeds one that is."""

    def get_quantize_config(self, layer: Any) -> Any:
        # None: the output stays as it is, and is calibrated when the model is converted.
        return make_config(layer, None, Choice(bits=None))


class Scheme(scheme_8bit.Default8BitQuantizeScheme):
    """The scheme for `quantize_apply`; see the module."""

    def __init__(self, choices: Mapping[str, Choice]) -> None:
        self.choices = choices

    def get_layout_transformer(self) -> Any:
        return Layout(self.choices)

    def get_quantize_registry(self) -> Any:
        return Registry()


def custom_objects() -> dict[str, Any]:
    """What a scope has to know besides tensorflow-model-optimization's classes."""
    classes = (ChannelQuantizeConfig, ChannelWeightQuantizer, DataActivationQuantizer)
    return {c.__name__: c for c in classes}


def _original(name: str) -> str:
    """The user's layer that one made by the layout came from."""
    for suffix in _ADDED:
        name = name.removesuffix(suffix)
    return name


def _describe(layer: Any) -> str:
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    what = type(layer).__name__
    return f"{layer.name!r} ({what}{f' with {activation}' if activation else ''})"
