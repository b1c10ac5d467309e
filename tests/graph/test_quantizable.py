"""Whether an op may compute in integers as it stands, against the kernels."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from one_op import W, build, error
from op_cases import CASES

from tfq.errors import TfqError
from tfq.graph.model import Op, Tensor
from tfq.graph.optable import OP_TABLE, Kind, op_names
from tfq.graph.quantizable import obstacle
from tfq.runtime import KERNELS


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("op", sorted(op_names(lambda row: row.kind is Kind.WEIGHTED)))
def test_computed_weights_are_no_obstacle(op: str, dtype: str, kernels: str) -> None:
    case = next(c for c in CASES if c.op == op)
    inputs = [dataclasses.replace(i, axis=None) if isinstance(i, W) else i for i in case.inputs]
    built = build(dataclasses.replace(case, inputs=tuple(inputs)), dtype, Kind.WEIGHTED)
    made = built.model.main.ops[0]
    w = made.input(OP_TABLE[op].weights)
    built.feeds[w.name], w.data = w.values(), None
    built.model.main.inputs.append(w)
    assert obstacle(made, dtype) == ""
    assert error(built, kernels) <= 1


def test_a_float_cast_is_an_obstacle() -> None:
    x, y = Tensor("x", (2,), "float32"), Tensor("y", (2,), "int32")
    assert obstacle(Op("CAST", [x], [y]), "int8")
    assert not obstacle(Op("CAST", [y], [x]), "int8")


def test_a_fused_activation_the_kernel_refuses_is_an_obstacle() -> None:
    case = next(c for c in CASES if c.op == "CONCATENATION")
    options = copy.copy(case.options)
    options.fusedActivationFunction = 1
    built = build(dataclasses.replace(case, options=options), "int8", Kind.SAME)
    assert "fused" in obstacle(built.model.main.ops[0], "int8")
    with pytest.raises(TfqError):
        error(built, "builtin")


def test_what_is_not_quantized_is_no_obstacle_and_what_is_not_quantizable_is() -> None:
    x, n = Tensor("x", (2,), "float32"), Tensor("n", (2,), "int32")
    assert not obstacle(Op("WHERE", [n], [n]), "int8")
    assert not obstacle(Op("SHAPE", [x], [n]), "int8")
    assert obstacle(Op("ASSIGN_VARIABLE", [n, x], []), "int8")
    assert obstacle(Op("ATAN2", [x, x], [x]), "int8")
