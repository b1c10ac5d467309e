"""Op versions and the oldest runtime that knows them.

A runtime refuses an op version it does not know, and a version lower than what the op uses may run
in an old runtime and do something else. `feature_version` gives what options, ranks and weight
types ask; the version an activation type asks is in the op table. The facts are those of
TensorFlow's `lite/tools/versioning`; where its rule is silent (int16 activations with int8 weights)
the version that came with the kernel is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfq.graph.model import Model, Op, Tensor


def _dtype(op: Op, i: int) -> str:
    tensor = op.inputs[i] if i < len(op.inputs) else None
    return "" if tensor is None else tensor.dtype


def _rank(op: Op) -> int:
    """The highest rank of the op's inputs."""
    return max((len(t.shape) for t in op.inputs if t is not None), default=0)


def _broadcasts(op: Op) -> bool:
    return len(op.inputs) > 1 and op.input(0).shape != op.input(1).shape


def _per_axis(op: Op, i: int) -> bool:
    tensor = op.inputs[i] if i < len(op.inputs) else None
    return tensor is not None and tensor.quant is not None and tensor.quant.per_axis


def _option(op: Op, name: str) -> int:
    return getattr(op.options, name, 0) or 0


def _scale(tensor: Tensor) -> float:
    return 0.0 if tensor.quant is None else float(tensor.quant.scale[0])


def _hybrid(op: Op) -> bool:
    """Float activations with integer weights."""
    return _dtype(op, 0) == "float32" and _dtype(op, 1) in ("int8", "int4", "int2")


def _conv(op: Op) -> int:
    grouped = op.input(0).shape[-1] != op.input(1).shape[-1]
    return max(
        8 if _option(op, "quantizedBiasType") else 1,
        7 if _dtype(op, 1) == "int4" else 1,
        6 if grouped else 1,
        (5 if _per_axis(op, 1) else 2) if _hybrid(op) else 1,
    )


def _depthwise(op: Op) -> int:
    dilated = max(_option(op, "dilationWFactor"), _option(op, "dilationHFactor")) > 1
    return max(
        7 if _dtype(op, 1) == "int4" else 1,
        (6 if _per_axis(op, 1) else 4) if _hybrid(op) else 1,
        2 if dilated else 1,
    )


def _fully_connected(op: Op) -> int:
    # Runtimes before version 12 silently apply the first scale to every channel.
    narrow = {"int2": 14, "int4": 13 if _dtype(op, 0) == "int16" else 10}
    return max(
        narrow.get(_dtype(op, 1), 1),
        12 if _per_axis(op, 1) else 1,
        11 if _option(op, "quantizedBiasType") else 1,
        (9 if _option(op, "asymmetricQuantizeInputs") else 3) if _hybrid(op) else 1,
        6 if len(op.inputs) == 2 else 1,
        5 if _option(op, "keepNumDims") else 1,
    )


def _gather(op: Op) -> int:
    return max(
        7 if _dtype(op, 0) == "int4" else 1,
        6 if _dtype(op, 1) == "int16" else 1,
        5 if _option(op, "batchDims") else 1,
    )


def _mul(op: Op) -> int:
    out = _scale(op.outputs[0])
    if op.outputs[0].dtype == "int8" and out:
        return 3 if _scale(op.input(0)) * _scale(op.input(1)) / out >= 1 else 1
    return 1


def _transpose_conv(op: Op) -> int:
    return max(
        5 if _option(op, "quantizedBiasType") else 1,
        4 if _option(op, "fusedActivationFunction") else 1,
        3 if _dtype(op, 3) else 1,
    )


def _strided_slice(op: Op) -> int:
    return max(
        8 if _option(op, "offset") else 1,
        6 if _option(op, "ellipsisMask") or _option(op, "newAxisMask") else 1,
        4 if _rank(op) > 4 else 1,
    )


def _resize(op: Op) -> int:
    aligned = op.name == "RESIZE_NEAREST_NEIGHBOR" and _option(op, "alignCorners")
    return 3 if _option(op, "halfPixelCenters") or aligned else 1


def _transpose(op: Op) -> int:
    rank = len(op.input(0).shape)
    return 8 if rank > 6 else 6 if rank > 5 else 4 if rank > 4 else 1


def _embedding(op: Op) -> int:
    if _dtype(op, 1) == "int2":
        return 5
    return 4 if _dtype(op, 1) == "int4" or _per_axis(op, 1) else 1


def _dequantize(op: Op) -> int:
    if _dtype(op, 0) == "int8":
        return 5 if _per_axis(op, 0) else 2
    return {"int16": 3, "float16": 3, "int4": 6, "int2": 7, "uint4": 8}.get(_dtype(op, 0), 1)


def _quantize(op: Op) -> int:
    types = {_dtype(op, 0), op.outputs[0].dtype}
    quant = op.outputs[0].quant
    return max(
        5 if "uint4" in types else 4 if "int4" in types else 1,
        3 if quant is not None and quant.per_axis else 1,
        2 if op.outputs[0].dtype == "int16" else 1,
    )


def _cast(op: Op) -> int:
    types = {_dtype(op, 0), op.outputs[0].dtype}
    asked = {"int2": 8, "uint4": 8, "bfloat16": 7, "int4": 6, "float64": 5, "float16": 5}
    asked |= {"uint16": 4, "int8": 3, "uint32": 2}
    return max(asked.get(t, 1) for t in types)


_FEATURES = {
    "BATCH_MATMUL": lambda op: 4 if _option(op, "asymmetricQuantizeInputs") else 1,
    "BATCH_TO_SPACE_ND": lambda op: 3 if len(op.input(0).shape) != 4 else 1,
    "CAST": _cast,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "DEQUANTIZE": _dequantize,
    "DIV": lambda op: 2 if _broadcasts(op) and _rank(op) > 4 else 1,
    "DYNAMIC_UPDATE_SLICE": lambda op: 2 if _dtype(op, 2) == "int64" else 1,
    "EMBEDDING_LOOKUP": _embedding,
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _gather,
    "GATHER_ND": lambda op: 4 if _dtype(op, 1) == "int16" else 1,
    "MAXIMUM": lambda op: 3 if _broadcasts(op) and _rank(op) > 4 else 1,
    "MINIMUM": lambda op: 3 if _broadcasts(op) and _rank(op) > 4 else 1,
    "MUL": _mul,
    "PAD": lambda op: 4 if len(op.input(0).shape) > 4 else 1,
    "PADV2": lambda op: 4 if len(op.input(0).shape) > 4 else 1,
    "QUANTIZE": _quantize,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "SELECT": lambda op: 3 if _rank(op) > 4 else 1,
    "SLICE": lambda op: 5 if len(op.input(0).shape) > 4 else 1,
    "SPACE_TO_BATCH_ND": lambda op: 3 if len(op.input(0).shape) != 4 else 1,
    "STRIDED_SLICE": _strided_slice,
    "SUB": lambda op: 3 if _broadcasts(op) and _rank(op) > 4 else 1,
    "TRANSPOSE": _transpose,
    "TRANSPOSE_CONV": _transpose_conv,
}


def feature_version(op: Op) -> int:
    """The lowest version whose kernel does what the op's options, ranks and weights ask (1 up)."""
    rule = _FEATURES.get(op.name)
    return 1 if rule is None else rule(op)


# For each op, the TensorFlow release that brought its version 1, 2, ... ("-": never released).
_RELEASES = {
    "ABS": "1.13.0 2.4.0 2.5.0 2.6.0 2.12.0",
    "ADD": "1.5.0 1.14.0 2.4.0 2.6.0 2.13.0 2.23.0",
    "ADD_N": "1.14.0",
    "ARG_MAX": "1.9.0 1.14.0 2.9.0",
    "ARG_MIN": "1.9.0 1.14.0 2.9.0",
    "ASSIGN_VARIABLE": "2.6.0",
    "ATAN2": "2.10.0",
    "AVERAGE_POOL_2D": "1.5.0 1.14.0 2.3.0",
    "BATCH_MATMUL": "2.3.0 2.3.0 2.4.0 2.5.0",
    "BATCH_TO_SPACE_ND": "1.6.0 1.14.0 2.3.0 2.12.0",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "1.14.0 1.14.0 1.14.0",
    "BIDIRECTIONAL_SEQUENCE_RNN": "1.14.0 1.14.0 2.3.0",
    "BITCAST": "2.13.0",
    "BITWISE_XOR": "2.13.0",
    "BROADCAST_ARGS": "2.6.0",
    "BROADCAST_TO": "- 2.5.0 2.5.0",
    "BUCKETIZE": "2.8.0",
    "CALL_ONCE": "2.5.0",
    "CAST": "1.5.0 2.7.0 2.8.0 2.9.0 2.12.0 2.15.0 2.17.0 2.21.0",
    "CEIL": "1.14.0",
    "COMPLEX_ABS": "2.5.0",
    "CONCATENATION": "1.5.0 1.14.0 2.3.0 2.14.0 2.21.0",
    "CONV_2D": "1.5.0 1.14.0 1.14.0 2.3.0 2.4.0 2.9.0 2.11.0 2.15.0",
    "CONV_3D": "2.5.0",
    "CONV_3D_TRANSPOSE": "2.6.0",
    "COS": "1.14.0",
    "CUMSUM": "2.4.0",
    "DENSIFY": "2.2.0",
    "DEPTHWISE_CONV_2D": "1.5.0 1.12.0 1.14.0 2.2.0 2.3.0 2.3.0 2.11.0",
    "DEPTH_TO_SPACE": "2.1.0 2.5.0",
    "DEQUANTIZE": "1.13.1 1.14.0 1.15.0 2.2.0 2.7.0 2.18.0 2.21.0 2.22.0",
    "DILATE": "2.15.0",
    "DIV": "1.6.0 2.3.0",
    "DYNAMIC_UPDATE_SLICE": "2.9.0 2.17.0 2.19.0 2.20.0 2.21.0 2.22.0",
    "ELU": "1.14.0",
    "EMBEDDING_LOOKUP": "1.13.0 1.14.0 1.14.0 2.18.0 2.21.0",
    "EMBEDDING_LOOKUP_SPARSE": "1.5.0",
    "EQUAL": "1.14.0 1.14.0 2.3.0 2.13.0 2.21.0",
    "EXP": "1.7.0 2.12.0",
    "EXPAND_DIMS": "1.10.0",
    "FAKE_QUANT": "1.5.0 1.10.0",
    "FILL": "1.13.0 2.3.0 2.5.0 2.12.0",
    "FLOOR": "1.9.0",
    "FLOOR_DIV": "1.14.0 1.14.0 2.13.0",
    "FLOOR_MOD": "1.13.0 2.13.0",
    "FULLY_CONNECTED": "1.5.0 1.10.0 1.14.0 1.14.0 2.0.0 2.1.0 2.3.0 2.3.0 2.3.0 2.11.0 2.15.0 "
    "2.17.0 2.18.0 2.21.0",
    "GATHER": "1.6.0 1.14.0 1.15.0 2.4.0 2.5.0 2.13.0 2.15.0",
    "GATHER_ND": "1.14.0 2.3.0 2.5.0 2.13.0 2.16.0",
    "GELU": "2.9.0 2.9.0",
    "GREATER": "1.14.0 1.14.0",
    "GREATER_EQUAL": "1.14.0 1.14.0 2.13.0",
    "HARD_SWISH": "1.15.0",
    "HASHTABLE": "2.5.0",
    "HASHTABLE_FIND": "2.5.0",
    "HASHTABLE_IMPORT": "2.5.0",
    "HASHTABLE_LOOKUP": "1.5.0",
    "HASHTABLE_SIZE": "2.5.0",
    "IF": "1.15.0",
    "IMAG": "2.5.0",
    "L2_NORMALIZATION": "1.5.0 1.14.0",
    "L2_POOL_2D": "1.5.0",
    "LEAKY_RELU": "1.13.1 2.3.0",
    "LESS": "1.14.0 1.14.0 2.13.0",
    "LESS_EQUAL": "1.14.0 1.14.0",
    "LOCAL_RESPONSE_NORMALIZATION": "1.5.0",
    "LOG": "1.14.0 2.15.0",
    "LOGICAL_AND": "1.11.0",
    "LOGICAL_NOT": "1.11.0",
    "LOGICAL_OR": "1.11.0",
    "LOGISTIC": "1.14.0 1.14.0 2.3.0",
    "LOG_SOFTMAX": "1.14.0 1.14.0",
    "LSH_PROJECTION": "1.5.0",
    "LSTM": "1.7.0 1.10.0 1.14.0 2.3.0",
    "MATRIX_DIAG": "1.14.0",
    "MATRIX_SET_DIAG": "1.14.0",
    "MAXIMUM": "1.14.0 1.14.0 2.3.0 2.3.0",
    "MAX_POOL_2D": "1.5.0 1.14.0 2.3.0",
    "MEAN": "1.6.0 1.14.0 2.4.0",
    "MINIMUM": "1.14.0 1.14.0 2.3.0 2.3.0",
    "MIRROR_PAD": "1.13.1 2.3.0 2.12.0",
    "MUL": "1.5.0 1.14.0 1.15.0 2.3.0 2.6.0 2.11.0 2.13.0 2.23.0",
    "MULTINOMIAL": "2.8.0",
    "NEG": "1.9.0",
    "NON_MAX_SUPPRESSION_V4": "2.1.0",
    "NON_MAX_SUPPRESSION_V5": "2.1.0",
    "NOT_EQUAL": "1.14.0 1.14.0 2.3.0 2.21.0",
    "ONE_HOT": "1.11.0",
    "PACK": "1.11.0 1.14.0 2.3.0 2.13.0",
    "PAD": "1.5.0 1.14.0 2.4.0 2.6.0 2.20.0",
    "PADV2": "1.9.0 1.14.0 2.4.0 2.6.0 2.20.0",
    "POW": "1.10.0",
    "PRELU": "1.8.0",
    "QUANTIZE": "1.14.0 1.15.0 2.7.0 2.21.0 2.21.0 2.21.0",
    "RANDOM_STANDARD_NORMAL": "2.8.0",
    "RANDOM_UNIFORM": "2.8.0",
    "RANGE": "1.13.0 2.14.0",
    "RANK": "1.14.0",
    "READ_VARIABLE": "2.6.0",
    "REAL": "2.5.0",
    "REDUCE_ALL": "2.6.0",
    "REDUCE_ANY": "1.11.0",
    "REDUCE_MAX": "1.11.0 1.14.0 2.5.0",
    "REDUCE_MIN": "1.11.0 1.14.0 2.5.0",
    "REDUCE_PROD": "1.11.0 2.6.0",
    "REDUCE_WINDOW": "2.15.0",
    "RELU": "1.5.0 2.1.0 2.5.0",
    "RELU6": "1.5.0 1.14.0 2.5.0",
    "RELU_0_TO_1": "2.10.0",
    "RELU_N1_TO_1": "1.5.0",
    "RESHAPE": "1.5.0",
    "RESIZE_BILINEAR": "1.7.0 1.14.0 2.2.0 2.5.0",
    "RESIZE_NEAREST_NEIGHBOR": "1.13.1 1.14.0 2.3.0 2.4.0",
    "REVERSE_SEQUENCE": "1.14.0",
    "REVERSE_V2": "1.14.0 2.2.0 2.5.0",
    "RFFT2D": "2.5.0",
    "RIGHT_SHIFT": "2.13.0",
    "RNN": "1.5.0 1.14.0 2.3.0",
    "ROUND": "1.14.0",
    "RSQRT": "1.10.0 2.5.0 2.15.0",
    "SCATTER_ND": "2.1.0",
    "SEGMENT_SUM": "2.2.0",
    "SELECT": "1.14.0 1.14.0 2.12.0 2.12.0",
    "SELECT_V2": "2.2.0 2.12.0",
    "SHAPE": "1.10.0",
    "SIGN": "2.11.0 2.12.0",
    "SIN": "1.9.0",
    "SKIP_GRAM": "1.5.0",
    "SLICE": "1.14.0 1.14.0 1.14.0 2.4.0 2.5.0 2.14.0 2.21.0",
    "SOFTMAX": "1.5.0 1.14.0 2.3.0",
    "SPACE_TO_BATCH_ND": "1.6.0 1.14.0 2.3.0 2.12.0",
    "SPACE_TO_DEPTH": "1.5.0 1.14.0",
    "SPARSE_TO_DENSE": "1.9.0 1.14.0 1.15.0",
    "SPLIT": "1.5.0 1.14.0 1.14.0 2.3.0",
    "SPLIT_V": "1.13.1 2.3.0",
    "SQRT": "1.10.0 2.21.0",
    "SQUARE": "1.12.0",
    "SQUARED_DIFFERENCE": "1.13.1 2.5.0",
    "SQUEEZE": "1.6.0 2.5.0",
    "STABLEHLO_COMPOSITE": "2.17.0",
    "STRIDED_SLICE": "1.6.0 1.14.0 2.1.0 2.2.0 2.5.0 2.6.0 2.14.0 2.14.0",
    "SUB": "1.6.0 1.14.0 2.3.0 2.4.0 2.4.0",
    "SUM": "1.10.0 1.15.0",
    "SVDF": "1.5.0 1.14.0 2.2.0 2.3.0",
    "TANH": "1.14.0 1.14.0 2.3.0",
    "TILE": "1.10.1 2.2.0 2.8.0",
    "TOPK_V2": "1.7.0 1.14.0 2.13.0",
    "TRANSPOSE": "1.6.0 1.14.0 1.15.0 2.3.0 2.4.0 2.12.0 2.14.4 2.22.0",
    "TRANSPOSE_CONV": "1.9.0 2.2.0 2.3.0 2.13.0 2.15.0",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "1.13.1 1.14.0 2.3.0 2.12.0",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "1.14.0 1.14.0 2.3.0",
    "UNIQUE": "1.14.0",
    "UNPACK": "1.11.0 1.14.0 2.2.0 2.3.0 2.22.0",
    "UNSORTED_SEGMENT_MAX": "2.10.0",
    "UNSORTED_SEGMENT_MIN": "2.11.0",
    "UNSORTED_SEGMENT_PROD": "2.10.0",
    "UNSORTED_SEGMENT_SUM": "2.10.0",
    "VAR_HANDLE": "2.6.0",
    "WHERE": "1.14.0 2.8.0",
    "WHILE": "1.15.0",
    "ZEROS_LIKE": "1.12.0",
}


def release(name: str, version: int) -> str:
    """The TensorFlow release that brought `version` of op `name`, or "" when not on record."""
    releases = _RELEASES.get(name, "").split()
    return releases[version - 1] if 0 < version <= len(releases) else ""


def min_runtime_version(model: Model) -> str:
    """The oldest TensorFlow release whose runtime knows every op version of the model.

    This is what the "min_runtime_version" metadata holds (as text, padded with zeros to 16 bytes).
    """
    found = {release(op.name, op.version) for graph in model.graphs for op in graph.ops}
    found -= {"", "-"}
    return max(found, key=lambda r: tuple(map(int, r.split("."))), default="1.5.0")
