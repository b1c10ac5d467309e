"""Op versions follow types, options, ranks and weights; releases follow op versions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from one_op import build, error, opts
from op_cases import CASES

from tfq.errors import ModelError
from tfq.graph.model import Graph, Model, Op, Quant, Tensor
from tfq.graph.optable import OP_TABLE, Kind, op_version
from tfq.graph.versions import feature_version, min_runtime_version, release


def tensor(dtype: str, *shape: int, scales: int = 0, const: bool = False) -> Tensor:
    quant = Quant(np.ones(scales, np.float32), np.zeros(scales, np.int64)) if scales else None
    data = np.zeros(shape, np.int8) if const else None
    return Tensor("t", shape or (1, 4, 4, 2), dtype, data, quant)


def op(name: str, *inputs: Tensor | None, out: str = "int8", options: Any = None) -> Op:
    return Op(name, list(inputs), [tensor(out)], options)


F, I8, I16 = tensor("float32"), tensor("int8"), tensor("int16")
WEIGHTS = tensor("int8", 8, 3, 3, 2, scales=1)
PER_AXIS = tensor("int8", 8, 3, 3, 2, scales=8)
DENSE = tensor("int8", 8, 2, scales=1)
DENSE_PER_AXIS = tensor("int8", 8, 2, scales=8)
KEEP_DIMS = opts("FullyConnected", keepNumDims=True)
R5, R6 = tensor("int8", 1, 2, 3, 2, 2), tensor("int8", 1, 2, 3, 2, 2, 1)


@pytest.mark.parametrize(
    ("made", "version"),
    [
        (op("CONV_2D", F, tensor("float32", 8, 3, 3, 2), None), 1),
        (op("CONV_2D", F, WEIGHTS, None, out="float32"), 2),
        (op("CONV_2D", F, PER_AXIS, None, out="float32"), 5),
        (op("CONV_2D", I8, PER_AXIS, None), 3),
        (op("CONV_2D", I16, PER_AXIS, None), 4),
        (op("CONV_2D", I8, tensor("int8", 8, 3, 3, 1, scales=8), None), 6),
        (op("CONV_2D", I8, tensor("int4", 8, 3, 3, 2, scales=8), None), 7),
        (op("DEPTHWISE_CONV_2D", I8, PER_AXIS, None), 3),
        (op("DEPTHWISE_CONV_2D", I16, PER_AXIS, None), 5),
        (op("DEPTHWISE_CONV_2D", F, PER_AXIS, None), 6),
        (op("FULLY_CONNECTED", I8, DENSE, None), 4),
        (op("FULLY_CONNECTED", I8, DENSE), 6),
        (op("FULLY_CONNECTED", I8, DENSE_PER_AXIS, None), 12),
        (op("FULLY_CONNECTED", I16, DENSE, None), 7),
        (op("FULLY_CONNECTED", I8, tensor("int4", 8, 2, scales=1), None), 10),
        (op("FULLY_CONNECTED", I16, tensor("int4", 8, 2, scales=1), None), 13),
        (op("FULLY_CONNECTED", I8, tensor("int2", 8, 4, scales=1), None), 14),
        (op("FULLY_CONNECTED", F, DENSE, None), 3),
        (
            op("FULLY_CONNECTED", F, DENSE, None, options=opts("FullyConnected", keepNumDims=True)),
            5,
        ),
        (op("GATHER", I8, tensor("int32", 3), options=opts("Gather", batchDims=1)), 5),
        (op("GATHER", I16, tensor("int32", 3)), 4),
        (op("TRANSPOSE", I8), 2),
        (op("TRANSPOSE", R5), 4),
        (op("TRANSPOSE", R6), 6),
        (op("PAD", R5), 4),
        (op("SLICE", R5), 5),
        (op("SUB", tensor("float32", 2, 1, 1, 1, 1), tensor("float32", 2, 1, 1, 1, 3)), 3),
        (op("TRANSPOSE_CONV", tensor("int32", 4), WEIGHTS, I8), 2),
        (op("TRANSPOSE_CONV", tensor("int32", 4), WEIGHTS, I8, tensor("int32", 8)), 3),
        (op("RESIZE_BILINEAR", I8, options=opts("ResizeBilinear", halfPixelCenters=True)), 3),
        (op("DEQUANTIZE", PER_AXIS, out="float32"), 5),
        (op("DEQUANTIZE", tensor("float16"), out="float32"), 3),
        (op("QUANTIZE", F, out="int16"), 2),
        (op("CAST", tensor("bool"), out="int8"), 3),
        (op("CAST", tensor("int32"), out="float32"), 1),
        (op("STRIDED_SLICE", R5, options=opts("StridedSlice")), 4),
        (op("STRIDED_SLICE", I8, options=opts("StridedSlice", newAxisMask=1)), 6),
        (op("EQUAL", I16, I16, out="bool"), 4),
    ],
)
def test_version(made: Op, version: int) -> None:
    assert op_version(made) == version


def test_mul_asks_for_version_3_when_it_scales_up() -> None:
    a, b = Quant.per_tensor(1.0), Quant.per_tensor(0.5)
    x, y = Tensor("x", (4,), "int8", None, a), Tensor("y", (4,), "int8", None, b)
    for scale, version in ((0.25, 3), (4.0, 2)):
        out = Tensor("z", (4,), "int8", None, Quant.per_tensor(scale))
        assert op_version(Op("MUL", [x, y], [out])) == version


def test_types_outside_the_table_keep_their_version() -> None:
    made = op("ADD", tensor("int64", 2), tensor("int64", 2), out="int64")
    made.version = 4
    assert op_version(made) == 4
    custom = Op("CUSTOM", [F], [F], version=2)
    assert op_version(custom) == 2
    assert feature_version(custom) == 1


def test_the_interpreter_refuses_versions_it_does_not_know() -> None:
    case = next(c for c in CASES if str(c) == "CONV_2D")
    assert error(build(case, "int8", Kind.WEIGHTED, version=3), "builtin") <= 1
    with pytest.raises(ModelError, match="version"):
        error(build(case, "int8", Kind.WEIGHTED, version=99), "builtin")


@pytest.mark.parametrize("name", [n for n, r in OP_TABLE.items() if r.dtypes])
def test_every_version_of_the_table_has_a_release(name: str) -> None:
    for version in OP_TABLE[name].versions.values():
        assert release(name, version) not in ("", "-")


def test_min_runtime_version() -> None:
    ops = [Op("CONV_2D", [], [I8], version=3), Op("FULLY_CONNECTED", [], [I8], version=12)]
    model = Model([Graph("main", ops[:1], [], [I8]), Graph("body", ops[1:], [], [I8])])
    assert min_runtime_version(model) == "2.17.0"
    assert min_runtime_version(Model([Graph("main", ops[:1], [], [I8])])) == "1.14.0"
    # Numbers, not text: 2.4 is older than 2.17. Unknown ops and versions do not count.
    more = [*ops, Op("BATCH_MATMUL", [], [I8], version=3), Op("CUSTOM", [], [I8])]
    more.append(Op("CONV_2D", [], [I8], version=99))
    assert min_runtime_version(Model([Graph("main", more, [], [I8])])) == "2.17.0"
    assert min_runtime_version(Model([Graph("main", [], [], [I8])])) == "1.5.0"
    assert release("BROADCAST_TO", 2) == "2.5.0"
