"""What every Keras layer and operation is to the integer kernels it becomes.

The same sorting as the op table of `tfq.graph.optable`, one level up: it says where a quantized
model has quantizers.

  WEIGHTED   kernels fake-quantized; a following BatchNormalization and ReLU are part of the op.
  COMPOSITE  several ops in one: kernels and outputs are trained, what is between is calibrated when
             the model is converted.                               LSTM, MultiHeadAttention, ...
  OWN        its output has a grid of its own.                     Add, GlobalAveragePooling2D, ...
  NORM       BatchNormalization: part of the weighted op before it, or a product and a sum.
  CLAMP      ReLU and ReLU6: part of the op before it where that can clamp.
  SAME       values are moved or selected: inputs and outputs share one grid.
                                                                   MaxPooling2D, Concatenate, ...
  AVERAGE    as SAME, but the results are rounded to that grid.    AveragePooling2D, ...
  FIXED      the kernel fixes the grid of its output.              Softmax, sigmoid, tanh
  IDENTITY   does nothing at inference.                            Dropout, ...
  PLAIN      gives integers or bools.                              Argmax, Greater, ...
"""

from __future__ import annotations

import enum
from typing import Any

__all__ = ["FIXED_GRIDS", "Kind", "clamps", "fixed_grid", "kind_of"]


class Kind(enum.Enum):
    """How a layer's grids are bound to each other."""

    WEIGHTED = "weighted"
    COMPOSITE = "composite"
    OWN = "own"
    NORM = "norm"
    CLAMP = "clamp"
    SAME = "same"
    AVERAGE = "average"
    FIXED = "fixed"
    IDENTITY = "identity"
    PLAIN = "plain"


_NAMES: dict[Kind, str] = {
    Kind.WEIGHTED: """
        Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose Dense DepthwiseConv1D
        DepthwiseConv2D EinsumDense""",
    Kind.COMPOSITE: """
        AdditiveAttention Attention Bidirectional ConvLSTM1D ConvLSTM2D ConvLSTM3D GRU
        GroupedQueryAttention LSTM MultiHeadAttention RNN SimpleRNN TimeDistributed
        GroupNormalization LayerNormalization RMSNormalization UnitNormalization
        LayerNorm RMSNorm DotProductAttention Normalize Var Std
        Average Dot Einsum Tensordot Normalization""",
    Kind.OWN: """
        Add Subtract Multiply Divide TrueDivide Matmul PReLU LeakyReLU ELU Embedding
        GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
        AveragePooling3D AdaptiveAveragePooling1D AdaptiveAveragePooling2D
        Mean Sum Square Sqrt Rsqrt Exp Log Absolute Abs Negative Reciprocal Power
        Elu LeakyRelu Gelu Silu Selu Celu Softplus Softsign HardSilu HardSwish HardSigmoid HardTanh
        Mish Swish Sin Cos Floor Ceil Round Clip Relu ReLU SquaredDifference Where Cumsum
        Activation Glu Prod Rescaling""",
    Kind.NORM: "BatchNormalization FreezableBatchNormalization",
    Kind.CLAMP: "Relu6",
    Kind.SAME: """
        Concatenate Cropping1D Cropping2D Cropping3D ExpandDims Flatten Flip GetItem
        GlobalMaxPooling1D GlobalMaxPooling2D Max MaxPool MaxPooling1D MaxPooling2D Maximum Min
        Minimum Moveaxis Pad Permute Ravel Repeat RepeatVector Reshape Split Squeeze Stack SwapAxes
        Take Tile Transpose UpSampling1D UpSampling2D ZeroPadding1D ZeroPadding2D ZeroPadding3D
        Unstack BroadcastTo Roll Hstack Vstack Swapaxes Amax Amin Append""",
    Kind.AVERAGE: "AveragePooling1D AveragePooling2D AveragePool",
    Kind.FIXED: "Softmax Sigmoid Tanh LogSoftmax",
    Kind.IDENTITY: """
        ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise Identity
        SpatialDropout1D SpatialDropout2D SpatialDropout3D StopGradient
        RandomBrightness RandomContrast RandomCrop RandomFlip RandomRotation RandomTranslation
        RandomZoom""",
    Kind.PLAIN: """
        Argmax Argmin Equal Greater GreaterEqual Less LessEqual NotEqual LogicalAnd LogicalNot
        LogicalOr Cast Shape Size OneHot Any All""",
}
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}

# What the integer kernels give out: (scale, zero point) by activation bits.
_SIXTEEN = (1 / 32768, 0)
FIXED_GRIDS: dict[str, dict[int, tuple[float, int]]] = {
    "softmax": {8: (1 / 256, -128), 16: _SIXTEEN},
    "sigmoid": {8: (1 / 256, -128), 16: _SIXTEEN},
    "tanh": {8: (1 / 128, 0), 16: _SIXTEEN},
    "log_softmax": {8: (16 / 256, 127)},
    "unit_norm": {8: (1 / 128, 0)},
}
_FIXED_NAMES = {
    "Softmax": "softmax",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "LogSoftmax": "log_softmax",
}


def kind_of(operation: Any) -> Kind | None:
    """The kind of a Keras layer or operation, or None where it is not known.

    Args:
      operation: a layer, or the operation of a `keras.ops` node. Only Keras's own classes are
        known, and tfq's: what a class of the user's does cannot be told from its name.
    """
    cls = type(operation)
    if cls.__module__.split(".")[0] not in ("keras", "tfq"):
        return None
    if clamps(operation):
        return Kind.CLAMP
    if fixed_grid(operation, 8) is not None:
        return Kind.FIXED
    if cls.__name__ == "UpSampling2D" and operation.interpolation == "bilinear":
        return Kind.AVERAGE
    if cls.__name__ == "Activation" and _function(operation) == "linear":
        return Kind.IDENTITY
    return _KINDS.get(cls.__name__.removeprefix("Quantized"))


def _function(operation: Any) -> str:
    """The name of the function that an Activation layer applies."""
    return getattr(getattr(operation, "activation", None), "__name__", "")


def clamps(operation: Any) -> bool:
    """Whether it is a ReLU or ReLU6 that kernels fuse into the op before it."""
    name = type(operation).__name__
    if name == "Activation":
        return _function(operation) in ("relu", "relu6")
    if name == "ReLU":
        top = operation.max_value
        plain = not operation.negative_slope and not operation.threshold
        return plain and (top is None or float(top) == 6.0)
    return name in ("Relu", "Relu6")


def fixed_grid(operation: Any, bits: int) -> tuple[float, int] | None:
    """The (scale, zero point) that the kernel gives its output, or None where it is free.

    Args:
      operation: a layer or operation.
      bits: of activations, 8 or 16.
    """
    name = type(operation).__name__
    function = _function(operation) if name == "Activation" else _FIXED_NAMES.get(name, "")
    if name == "UnitNormalization" and operation.axis in (-1, [-1], (-1,)):
        function = "unit_norm"
    return FIXED_GRIDS.get(function, {}).get(bits)
