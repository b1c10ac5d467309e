"""A float `.tflite` of any number of layers: a residual depthwise network, random but alive."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.graph.model import Graph, Model, Op, Signature, Tensor, options_type

SIZE, CHANNELS, CLASSES = 8, 8, 10


class _Net:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.ops: list[Op] = []

    def op(self, name: str, layer: str, shape: tuple[int, ...], inputs: list, options: str,
           **fields: object) -> Tensor:  # fmt: skip
        made = options_type(options)()
        for key, value in fields.items():
            setattr(made, key, value)
        # As the converter names them: after the ops that became one.
        tensor = Tensor(f"{layer}/Relu6;{layer}/BiasAdd;{layer}/{name.title()}", shape, "float32")
        self.ops.append(Op(name, inputs, [tensor], made))
        return tensor

    def weights(self, layer: str, *shape: int, gain: float = 1.0) -> list[Tensor]:
        """A kernel [out, ..., in] (depthwise: [1, h, w, channels]) and a bias."""
        depthwise = shape[0] == 1
        fan = shape[1] * shape[2] if depthwise else int(np.prod(shape[1:]))
        kernel = self.rng.normal(0, gain * fan**-0.5, shape).astype(np.float32)
        units = shape[-1] if depthwise else shape[0]
        bias = self.rng.normal(0, 0.05, units).astype(np.float32)
        return [
            Tensor(f"{layer}/kernel", kernel.shape, "float32", kernel),
            Tensor(f"{layer}/bias", bias.shape, "float32", bias),
        ]

    def conv(self, layer: str, x: Tensor, gain: float = 1.0) -> Tensor:
        weights = self.weights(layer, CHANNELS, 1, 1, x.shape[3], gain=gain)
        return self.op("CONV_2D", layer, (*x.shape[:3], CHANNELS), [x, *weights],
                       "Conv2DOptions", strideH=1, strideW=1)  # fmt: skip

    def depthwise(self, layer: str, x: Tensor) -> Tensor:
        weights = self.weights(layer, 1, 3, 3, x.shape[3], gain=1.4)
        relu6 = schema.ActivationFunctionType.RELU6
        return self.op("DEPTHWISE_CONV_2D", layer, x.shape, [x, *weights],
                       "DepthwiseConv2DOptions", strideH=1, strideW=1, depthMultiplier=1,
                       fusedActivationFunction=relu6)  # fmt: skip


def build(layers: int) -> bytes:
    """A model with `layers` tensors from its input to its probabilities; x0 [1, 8, 8, 3] -> y0."""
    net = _Net()
    first = Tensor("serving_default_x0:0", (1, SIZE, SIZE, 3), "float32")
    x = net.conv("model/stem/conv2d", first)
    kept = x
    for i in range(layers - 5):  # Without input, stem, pooling, dense and softmax.
        block = f"model/stage_{i // 60}/block_{i // 3}"
        if i % 3 == 0:
            x = net.depthwise(f"{block}/depthwise_conv2d", x)
        elif i % 3 == 1:
            # Small, so that what the shortcuts add up to stays in bounds.
            x = net.conv(f"{block}/conv2d", x, gain=0.2)
        else:
            x = kept = net.op("ADD", f"{block}/add", x.shape, [kept, x], "AddOptions")
    axes = Tensor("axes", (2,), "int32", np.array([1, 2], np.int32))
    x = net.op("MEAN", "model/pooling", (1, CHANNELS), [x, axes], "ReducerOptions")
    weights = net.rng.normal(0, CHANNELS**-0.5, (CLASSES, CHANNELS)).astype(np.float32)
    dense = Tensor("model/dense/kernel", weights.shape, "float32", weights)
    bias = Tensor("model/dense/bias", (CLASSES,), "float32", np.zeros(CLASSES, np.float32))
    x = net.op("FULLY_CONNECTED", "model/dense", (1, CLASSES), [x, dense, bias],
               "FullyConnectedOptions")  # fmt: skip
    x = net.op("SOFTMAX", "model/softmax", (1, CLASSES), [x], "SoftmaxOptions", beta=1.0)
    signature = Signature("serving_default", {"x0": first}, {"y0": x})
    return Model([Graph("main", net.ops, [first], [x])], [signature]).to_bytes()
