"""What every LiteRT builtin op asks of the quantization around it.

The columns are those of `OpSpec`; what an op may do with these very types, constants and options is
in `tfq.graph.quantizable`.

The table is what the kernels of ai-edge-litert do when run, not what their documentation says:
`tests/graph/test_optable.py` runs every op and type claimed here on XNNPACK, the built-in and the
reference kernels. A new row needs a case there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tfq.graph.opspec import Effects, Kind, OpSpec
from tfq.graph.versions import feature_version, min_runtime_version

if TYPE_CHECKING:
    from tfq.graph.model import Op

__all__ = [
    "MOVES",
    "OP_TABLE",
    "QUANTIZERS",
    "RESHAPES",
    "Effects",
    "Kind",
    "OpSpec",
    "activation_dtype",
    "effects",
    "min_runtime_version",
    "op_names",
    "op_version",
    "spec",
]


_Indices = tuple[int, ...] | None


def _v(float32: int, int8: int | None = None, int16: int | None = None) -> dict[str, int]:
    """Lowest versions by type; None where no right kernel exists."""
    found = {"float32": float32, "int8": int8, "int16": int16}
    return {dtype: version for dtype, version in found.items() if version is not None}


def _weighted(
    versions: dict[str, int],
    data: int,
    weights: int,
    bias: int,
    axis: int,
    weight_types: Mapping[str, str],
    **more: Any,
) -> OpSpec:
    """`weight_types`: for each type of the activations, names with blanks between them."""
    return OpSpec(
        kind=Kind.WEIGHTED,
        versions=versions,
        data=(data,),
        weights=weights,
        bias=bias,
        axis=axis,
        weight_types={dtype: tuple(names.split()) for dtype, names in weight_types.items()},
        fused_activation=True,
        # XNNPACK refuses 256 and more; int16 kernels overflow.
        max_multiplier={"int8": 128.0, "int16": 1.0},
        **more,
    )


def _own(versions: dict[str, int], data: _Indices = (0,), **more: Any) -> OpSpec:
    return OpSpec(kind=Kind.OWN, versions=versions, data=data, **more)


def _unary(versions: dict[str, int], kind: Kind = Kind.OWN, **more: Any) -> OpSpec:
    return OpSpec(kind=kind, versions=versions, elementwise=True, **more)


def _binary(versions: dict[str, int], **more: Any) -> OpSpec:
    return OpSpec(kind=Kind.OWN, versions=versions, data=(0, 1), elementwise=True, **more)


def _same(versions: dict[str, int], data: _Indices = (0,), **more: Any) -> OpSpec:
    return OpSpec(kind=Kind.SAME, versions=versions, data=data, **more)


# Comparisons bring both inputs to steps of 1/256 before they look: exact for one grid whose scale
# is at least that. Their multiplier must be below one; a scale of exactly 1 aborts the process.
_COMPARABLE = (1 / 256, 1.0)


def _compare(versions: dict[str, int], raw: tuple[str, ...] = ("int16",)) -> OpSpec:
    """`raw`: the types that are compared as they are, at any scale."""
    return OpSpec(
        kind=Kind.INTEGER_OUT,
        versions=versions,
        data=(0, 1),
        outputs=(),
        same_inputs=frozenset({"int8", "int16"}),
        input_scale={dtype: _COMPARABLE for dtype in ("int8", "int16") if dtype not in raw},
        elementwise=True,
        jumps=True,
        note="Both inputs on one grid; right for its integers CAST to int32 at any scale.",
    )


def _structural(note: str = "", data: _Indices = (), outputs: _Indices = (), **more: Any) -> OpSpec:
    return OpSpec(kind=Kind.STRUCTURAL, data=data, outputs=outputs, note=note, **more)


def _float(note: str, data: _Indices = (0,), **more: Any) -> OpSpec:
    return OpSpec(kind=Kind.FLOAT_ONLY, data=data, note=note, **more)


_SET_VARIABLE = Effects("variable", writes=True)
_CALLS = Effects(calls=True)
_RANDOM = Effects("random")
_UNKNOWN = Effects("unknown", writes=True)

_RECURRENT = "No integer form is emitted; the source is unrolled or its loop body quantized."
_LOOKUP = "Elementwise: can be computed by other integer ops or a lookup."
_VARIABLE = "State between runs: make it an input and an output, or let it stay float."
_POT = "int16 with general scales needs potScaleInt16=False in the options."
_INTERPOLATED = "int16 interpolates a table of 512 steps: coarse where the function is steep."

# Reference kernels abort below about 1e-7.
_SOFTMAX_SCALES = {"int8": 2.0**-12, "int16": 2.0**-20}
# They are wrong below 1e-12.
_SIGMOID_SCALES = {"int16": 1e-11}
# What kernels that only rescale do: reductions and rectifiers.
_RESCALES = {"int8": 2.0**20, "int16": 2.0**12}
# Sums shift their inputs left first, by 20 bits or 15.
_SUMS = {"int8": 64.0, "int16": 2.0**12}

_TABLE: dict[str, OpSpec] = {
    "ABS": _unary(_v(1, 2, 3), max_multiplier=_RESCALES),
    "ADD": _binary(_v(1, 2, 3), fused_activation=True, max_multiplier=_SUMS, note=_POT),
    "ADD_N": _float("A chain of ADD does the same.", data=None, elementwise=True),
    "ARG_MAX": OpSpec(kind=Kind.INTEGER_OUT, outputs=(), versions=_v(1, 2), jumps=True),
    "ARG_MIN": OpSpec(kind=Kind.INTEGER_OUT, outputs=(), versions=_v(1, 2), jumps=True),
    "ASSIGN_VARIABLE": _structural(_VARIABLE, effects=_SET_VARIABLE),
    "ATAN2": _float("Float kernel only.", data=(0, 1), elementwise=True),
    "AVERAGE_POOL_2D": _same(_v(1, 2, 3), fused_activation=True),
    "BATCH_MATMUL": _own(
        _v(1, 2, 3),
        (0, 1),
        max_multiplier={"int8": 128.0, "int16": 0.25},
        note="A constant operand has one scale.",
        learned=1,
    ),
    "BATCH_TO_SPACE_ND": _same(_v(1, 2, 4)),
    "BIDIRECTIONAL_SEQUENCE_LSTM": _float(_RECURRENT),
    "BIDIRECTIONAL_SEQUENCE_RNN": _float(_RECURRENT),
    "BITCAST": _structural(),
    "BITWISE_XOR": _structural(),
    "BROADCAST_ARGS": _structural(),
    "BROADCAST_TO": _same(_v(2, 3, 3), moves="repeats"),
    "BUCKETIZE": _float("Float kernel only."),
    "CALL": _structural("Its body is a graph of its own.", None, None, effects=_CALLS),
    "CALL_ONCE": _structural(effects=Effects("variable", writes=True, calls=True)),
    "CAST": OpSpec(
        kind=Kind.FIXED,
        data=(),
        fixed={"int8": (1.0, 0), "int16": (1.0, 0)},
        versions=_v(1, 3, 1),
        elementwise=True,
        note="From bool or integers only: the integers themselves, hence scale 1. Values beyond "
        "the type wrap around.",
        jumps=True,
    ),
    "CEIL": _unary(_v(1), Kind.FLOAT_ONLY, note=_LOOKUP, jumps=True),
    "COMPLEX_ABS": _float("Complex numbers have no integer form."),
    "CONCATENATION": _same(_v(1, 2, 3), None),
    "CONV_2D": _weighted(
        _v(1, 3, 4),
        0,
        1,
        2,
        0,
        {"float32": "int4 int8", "int8": "int4 int8", "int16": "int4 int8"},
        needs_bias=True,
        note="int2 weights give NaN with float activations. XNNPACK does not take int4 weights.",
    ),
    "CONV_3D": _float("Can be a sum of CONV_2D over depth slices.", weights=1, bias=2, axis=4),
    "CONV_3D_TRANSPOSE": _float("Float kernel only.", data=(2,), weights=1, bias=3),
    "COS": _unary(_v(1), Kind.FLOAT_ONLY, note=_LOOKUP),
    "CUMSUM": _float("A product with a triangular matrix does the same."),
    "DENSIFY": _structural("Weights stored sparse."),
    "DEPTHWISE_CONV_2D": _weighted(
        _v(1, 3, 5),
        0,
        1,
        2,
        3,
        {"float32": "int8", "int8": "int4 int8", "int16": "int8"},
        no_reference=frozenset({"int4"}),
        needs_bias=True,
        note="Without a bias int8 ends the process. int4 weights: garbage with int16 activations; "
        "not in the reference kernels; XNNPACK does not take them.",
    ),
    "DEPTH_TO_SPACE": _same(_v(1, 2), reference=False),
    "DEQUANTIZE": _own(_v(1, 2, 3), outputs=(), quantizer=True, note="Leaves the integers."),
    "DILATE": _float("Not emitted."),
    "DIV": _float(
        "Garbage where the quotient is below half an LSB; a table of 1 / b and a MUL do it right.",
        data=(0, 1),
        fused_activation=True,
        elementwise=True,
        steep=True,
    ),
    "DYNAMIC_UPDATE_SLICE": _same(_v(1, 1, 4), (0, 1)),
    "ELU": _unary(_v(1, 1), reference=False),
    "EMBEDDING_LOOKUP": _same(_v(1, 1, 1), (1,), learned=1),
    "EMBEDDING_LOOKUP_SPARSE": _float("Float kernel only.", data=(3, 4)),
    "EQUAL": _compare(_v(1, 2, 4), raw=()),
    "EXP": _unary(_v(1, 2, 2), lsb={"int16": 16}, note=_INTERPOLATED, steep=True),
    "EXPAND_DIMS": _same(_v(1, 1, 1), moves="reshapes"),
    "FAKE_QUANT": _float("Its range is taken as the tensor's grid.", quantizer=True),
    "FILL": _same(_v(1, 3, 3), (1,)),
    "FLOOR": _unary(_v(1), Kind.FLOAT_ONLY, note=_LOOKUP, jumps=True),
    "FLOOR_DIV": _float("DIV and a floor.", data=(0, 1), elementwise=True, jumps=True),
    "FLOOR_MOD": _same(
        _v(1, None, 2), (0, 1), elementwise=True, note="int8 ignores the zero points.", jumps=True
    ),
    "FULLY_CONNECTED": _weighted(
        _v(1, 4, 7),
        0,
        1,
        2,
        0,
        dict.fromkeys(("float32", "int8", "int16"), "int2 int4 int8"),
        note="A scale per channel needs version 12 (TensorFlow 2.17). Computed weights are read as "
        "activations: their type and grid.",
    ),
    "GATHER": _same(_v(1, 2, 4), learned=0),
    "GATHER_ND": _same(_v(1, 1, 3)),
    "GELU": _unary(_v(1, 2, 2), lsb={"int16": 2}),
    "GREATER": _compare(_v(1, 2, 2)),
    "GREATER_EQUAL": _compare(_v(1, 2, 3)),
    "HARD_SWISH": _unary(_v(1, 1), max_multiplier={"int8": 16.0}),
    "HASHTABLE": _structural(effects=Effects("table", writes=True)),
    "HASHTABLE_FIND": _structural(effects=Effects("table")),
    "HASHTABLE_IMPORT": _structural(effects=Effects("table", writes=True)),
    "HASHTABLE_LOOKUP": _float("Not emitted.", data=(2,), outputs=(0,)),
    "HASHTABLE_SIZE": _structural(effects=Effects("table")),
    "IF": _structural("Its branches are graphs of their own.", None, None, effects=_CALLS),
    "IMAG": _float("Complex numbers have no integer form."),
    "L2_NORMALIZATION": OpSpec(kind=Kind.FIXED, versions=_v(1, 2), fixed={"int8": (1 / 128, 0)}),
    "L2_POOL_2D": _float("SQRT of AVERAGE_POOL_2D of MUL(x, x).", fused_activation=True),
    "LEAKY_RELU": _unary(_v(1, 1, 2), max_multiplier=_RESCALES),
    "LESS": _compare(_v(1, 2, 3)),
    "LESS_EQUAL": _compare(_v(1, 2, 2)),
    "LOCAL_RESPONSE_NORMALIZATION": _float("Float kernel only."),
    "LOG": _unary(_v(1, 2, 2), lsb={"int16": 3500}, note=_INTERPOLATED, steep=True),
    "LOGICAL_AND": _structural(elementwise=True),
    "LOGICAL_NOT": _structural(elementwise=True),
    "LOGICAL_OR": _structural(elementwise=True),
    "LOGISTIC": _unary(
        _v(1, 2, 3),
        Kind.FIXED,
        fixed={"int8": (1 / 256, -128), "int16": (1 / 32768, 0)},
        squashes=True,
        min_input_scale=_SIGMOID_SCALES,
    ),
    "LOG_SOFTMAX": OpSpec(
        kind=Kind.FIXED,
        versions=_v(1, 2),
        fixed={"int8": (16 / 256, 127)},
        min_input_scale=_SOFTMAX_SCALES,
    ),
    "LSH_PROJECTION": _float("Float kernel only."),
    "LSTM": _float(_RECURRENT),
    "MATRIX_DIAG": _same(_v(1, None, 1), note="int8 fills with the integer 0, not the zero point."),
    "MATRIX_SET_DIAG": _same(_v(1, 1, 1), (0, 1)),
    "MAXIMUM": _same(_v(1, 2, 4), (0, 1), elementwise=True),
    "MAX_POOL_2D": _same(_v(1, 2, 3), fused_activation=True),
    "MEAN": _own(_v(1, 2, 3), max_multiplier=_RESCALES),
    "MINIMUM": _same(_v(1, 2, 4), (0, 1), elementwise=True),
    "MIRROR_PAD": _same(_v(1, 2, 3)),
    "MUL": _binary(_v(1, 2, 4), fused_activation=True, max_multiplier={"int8": 1.0, "int16": 1.0}),
    "MULTINOMIAL": _float("Random numbers have no integer form.", effects=_RANDOM),
    "NEG": _unary(_v(1), Kind.FLOAT_ONLY, note="Negates raw integers; SUB from 0 does it right."),
    "NON_MAX_SUPPRESSION_V4": _float("Float kernel only.", data=(0, 1, 3, 4), jumps=True),
    "NON_MAX_SUPPRESSION_V5": _float("Float kernel only.", data=(0, 1, 3, 4, 5), jumps=True),
    "NOT_EQUAL": _compare(_v(1, 2, 4), raw=()),
    "ONE_HOT": _same(_v(1, 1), (2, 3)),
    "PACK": _same(_v(1, 2, 3), None),
    "PAD": _same(_v(1, 2, 3)),
    "PADV2": _same(_v(1, 2, 3), (0, 2)),
    "POW": _float(
        "A table does constant powers; of two tensors, none.",
        data=(0, 1),
        elementwise=True,
        steep=True,
    ),
    "PRELU": _binary(
        _v(1, 1),
        max_multiplier=_RESCALES,
        note="int16 returns garbage without an error.",
    ),
    "QUANTIZE": _own(
        _v(1, 1, 2),
        quantizer=True,
        note="From float or integers to int8, uint8 or int16; int16 to uint8 takes two.",
    ),
    "RANDOM_STANDARD_NORMAL": _float(
        "Random numbers have no integer form.", data=(), effects=_RANDOM
    ),
    "RANDOM_UNIFORM": _float("Random numbers have no integer form.", data=(), effects=_RANDOM),
    "RANGE": _structural(),
    "RANK": _structural(),
    "READ_VARIABLE": _structural(_VARIABLE, effects=Effects("variable")),
    "REAL": _float("Complex numbers have no integer form."),
    "REDUCE_ALL": _structural(),
    "REDUCE_ANY": _structural(),
    "REDUCE_MAX": _same(_v(1, 2, 3)),
    "REDUCE_MIN": _same(_v(1, 2, 3)),
    "REDUCE_PROD": _own(_v(1, 2, 2), lsb={"int16": 4}),
    "REDUCE_WINDOW": _float("Not emitted."),
    "RELU": _unary(_v(1, 2, 3), max_multiplier=_RESCALES, clamp=(0.0, math.inf)),
    "RELU6": _unary(_v(1, 2, 3), max_multiplier=_RESCALES, clamp=(0.0, 6.0)),
    "RELU_0_TO_1": _unary(_v(1, 1), max_multiplier=_RESCALES, clamp=(0.0, 1.0)),
    "RELU_N1_TO_1": _unary(_v(1, 1), max_multiplier=_RESCALES, clamp=(-1.0, 1.0)),
    "RESHAPE": _same(_v(1, 1, 1), moves="reshapes"),
    "RESIZE_BILINEAR": _same(_v(1, 2, 4)),
    "RESIZE_NEAREST_NEIGHBOR": _same(_v(1, 2, 4)),
    "REVERSE_SEQUENCE": _same(_v(1, None, 1)),
    "REVERSE_V2": _same(_v(1, 3, 3)),
    "RFFT2D": _float("Complex numbers have no integer form."),
    "RIGHT_SHIFT": _structural(),
    "RNN": _float(_RECURRENT),
    "ROUND": _unary(_v(1), Kind.FLOAT_ONLY, note=_LOOKUP, jumps=True),
    "RSQRT": _unary(_v(1, 2, 3), lsb={"int16": 300}, note=_INTERPOLATED, steep=True),
    "SCATTER_ND": _float("int8 fills with the integer 0, not the zero point.", data=(1,)),
    "SEGMENT_SUM": _float("Float kernel only."),
    "SELECT": _same(_v(1, 2, 1), (1, 2), elementwise=True),
    "SELECT_V2": _same(_v(1, 1, 1), (1, 2), elementwise=True),
    "SHAPE": _structural("Reads a shape, not values."),
    "SIGN": _unary(_v(1), Kind.FLOAT_ONLY, note=_LOOKUP, jumps=True),
    "SIN": _unary(_v(1), Kind.FLOAT_ONLY, note=_LOOKUP),
    "SKIP_GRAM": _structural(),
    "SLICE": _same(_v(1, 2, 4)),
    "SOFTMAX": OpSpec(
        kind=Kind.FIXED,
        versions=_v(1, 2, 3),
        fixed={"int8": (1 / 256, -128), "int16": (1 / 32768, 0)},
        lsb={"int16": 18},
        note="int16 is coarse where the input range is wide: 0.03 % of full scale for +-30.",
        squashes=True,
        min_input_scale=_SOFTMAX_SCALES,
    ),
    "SPACE_TO_BATCH_ND": _same(_v(1, 2, 4)),
    "SPACE_TO_DEPTH": _same(_v(1, 2)),
    "SPARSE_TO_DENSE": _same(_v(1, 3), (2, 3)),
    "SPLIT": _same(_v(1, 2, 4), (1,)),
    "SPLIT_V": _same(_v(1, 2, 2)),
    "SQRT": _unary(_v(1, 2, 2), steep=True),
    "SQUARE": _unary(_v(1), Kind.FLOAT_ONLY, note="MUL(x, x) does the same.", steep=True),
    "SQUARED_DIFFERENCE": _binary(_v(1, 2), max_multiplier={"int8": 128.0}),
    "SQUEEZE": _same(_v(1, 1, 1), moves="reshapes"),
    "STRIDED_SLICE": _same(_v(1, 2, 1)),
    "SUB": _binary(_v(1, 2, 5), fused_activation=True, max_multiplier=_SUMS, note=_POT),
    "SUM": _own(
        _v(1, 2, 2),
        max_multiplier=_RESCALES,
        reference=False,
        note="The reference kernel is wrong.",
    ),
    "SVDF": _float(_RECURRENT),
    "TANH": _unary(
        _v(1, 2, 3),
        Kind.FIXED,
        fixed={"int8": (1 / 128, 0), "int16": (1 / 32768, 0)},
        lsb={"int16": 3},
        squashes=True,
        min_input_scale=_SIGMOID_SCALES,
    ),
    "TILE": _same(_v(1, 3, 1), reference=False, moves="repeats"),
    "TOPK_V2": _same(_v(1, 2, 3), outputs=(0,), jumps=True),
    "TRANSPOSE": _same(_v(1, 2, 5), moves="permutes"),
    "TRANSPOSE_CONV": _weighted(_v(1, 2, 3), 2, 1, 3, 0, {"int8": "int8", "int16": "int8"}),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _float(_RECURRENT),
    "UNIDIRECTIONAL_SEQUENCE_RNN": _float(_RECURRENT),
    "UNIQUE": _float("Float kernel only.", outputs=(0,), jumps=True),
    "UNPACK": _same(_v(1, 2, 4)),
    "UNSORTED_SEGMENT_MAX": _float("Float kernel only."),
    "UNSORTED_SEGMENT_MIN": _float("Float kernel only."),
    "UNSORTED_SEGMENT_PROD": _float("Float kernel only."),
    "UNSORTED_SEGMENT_SUM": _float("Float kernel only."),
    "VAR_HANDLE": _structural(effects=_SET_VARIABLE),
    "WHERE": _structural("Of a bool condition.", jumps=True),
    "WHILE": _structural("Its body is a graph of its own.", None, None, effects=_CALLS),
    "ZEROS_LIKE": _float("A constant.", elementwise=True),
}

OP_TABLE: Mapping[str, OpSpec] = MappingProxyType(_TABLE)

# Ops outside the table that do more than compute; of STABLEHLO ops, all others only compute.
_OUTSIDE: Mapping[str, Effects] = MappingProxyType(
    {
        "CUSTOM": _UNKNOWN,
        "DELEGATE": _UNKNOWN,
        "STABLEHLO_CASE": _CALLS,
        "STABLEHLO_COMPOSITE": _CALLS,
        "STABLEHLO_CUSTOM_CALL": _UNKNOWN,
        "STABLEHLO_RNG_BIT_GENERATOR": _RANDOM,
        "STABLEHLO_WHILE": _CALLS,
    }
)


def spec(name: str) -> OpSpec | None:
    """The row of op `name`; None for CUSTOM, STABLEHLO_* and others no integer model can hold."""
    return OP_TABLE.get(name)


def effects(name: str) -> Effects:
    """What op `name` does beside computing, of ops outside the table too."""
    row = OP_TABLE.get(name)
    return row.effects if row is not None else _OUTSIDE.get(name, Effects())


def op_names(where: Callable[[OpSpec], bool]) -> frozenset[str]:
    """The names of the ops whose row fulfils a condition."""
    return frozenset(name for name, row in OP_TABLE.items() if where(row))


RESHAPES = op_names(lambda row: row.moves == "reshapes")
QUANTIZERS = op_names(lambda row: row.quantizer)
MOVES = op_names(lambda row: row.moves in ("reshapes", "permutes"))


def activation_dtype(op: Op) -> str:
    """The type that selects the kernel: that of the first data input, else of the output."""
    row = spec(op.name)
    indices = range(len(op.inputs)) if row is None or row.data is None else row.data
    for i in indices:
        tensor = op.inputs[i] if i < len(op.inputs) else None
        if tensor is not None:
            return tensor.dtype
    return op.outputs[0].dtype if op.outputs else ""


def op_version(op: Op) -> int:
    """The lowest version of the op that a runtime must know to run it as it stands.

    Reads the types of its tensors, whether weights have a scale per axis, ranks and options. For
    types that the table does not cover (an ADD of int32) the version the op came with is kept.
    """
    row = spec(op.name)
    if row is None:
        return op.version
    base = row.versions.get(activation_dtype(op), op.version)
    return max(base, feature_version(op))
