"""The op table against the interpreter: every (op, type) it claims, on all three sets of kernels.

The output of each one-op model must be within one LSB of the truth (more where the table says that
the kernel is coarse). What the table leaves out must be refused or wrong.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from one_op import Case, W, build, error, noise
from op_cases import CASES

from tfq.errors import ModelError, TfqError
from tfq.graph.model import OP_CODES, Op, Quant
from tfq.graph.optable import OP_TABLE, Kind, OpSpec, effects, spec
from tfq.graph.quantizable import obstacle
from tfq.plan.multipliers import smallest_output_scale
from tfq.runtime import KERNELS


def kind_of(row: OpSpec, dtype: str) -> Kind:
    return Kind.SAME if dtype in row.same_inputs else row.kind


def claims() -> list[Any]:
    found = []
    for case in CASES:
        row = OP_TABLE[case.op]
        for dtype in sorted(row.dtypes):
            for kernels in KERNELS:
                if row.reference or kernels != "reference":
                    found.append(pytest.param(case, dtype, kernels, id=f"{case}-{dtype}-{kernels}"))
    return found


@pytest.mark.parametrize(("case", "dtype", "kernels"), claims())
def test_integer_kernel_is_right(case: Case, dtype: str, kernels: str) -> None:
    row = OP_TABLE[case.op]
    built = build(case, dtype, kind_of(row, dtype), row.fixed)
    assert error(built, kernels) <= row.lsb.get(dtype, 1)
    assert obstacle(built.model.main.ops[0], dtype) == ""


def exclusions() -> list[Any]:
    return [
        pytest.param(case, dtype, id=f"{case}-{dtype}")
        for case in CASES
        for dtype in ("int8", "int16")
        if dtype not in OP_TABLE[case.op].dtypes and not case.label
    ]


@pytest.mark.parametrize(("case", "dtype"), exclusions())
def test_what_the_table_leaves_out_does_not_work(case: Case, dtype: str) -> None:
    """When one of these fails LiteRT has gained a kernel, and the table can have it."""
    row = OP_TABLE[case.op]
    kind = Kind.OWN if row.kind is Kind.FLOAT_ONLY else kind_of(row, dtype)
    built = build(case, dtype, kind, {"int16": (1 / 32768, 0)})
    assert obstacle(built.model.main.ops[0], dtype) != ""
    try:
        wrong = error(built, "builtin")
    except TfqError:
        return
    assert wrong > 1


@pytest.mark.parametrize("name", [n for n, r in OP_TABLE.items() if not r.reference])
def test_reference_kernels_left_out(name: str) -> None:
    case = next(c for c in CASES if c.op == name)
    built = build(case, "int8", OP_TABLE[name].kind)
    try:
        wrong = error(built, "reference")
    except TfqError:
        return
    assert wrong > 1


NARROW = ("int2", "int4")
WEIGHTED_CASES = [c for c in CASES if any(isinstance(i, W) for i in c.inputs)]


def narrow(claimed: bool, *, dtypes: tuple[str, ...] = ("int8", "int16")) -> list[Any]:
    """(case, activations, type of the weights) that the table claims, or leaves out."""
    return [
        pytest.param(case, dtype, weights, id=f"{case}-{dtype}-{weights}")
        for case in WEIGHTED_CASES
        for dtype in dtypes
        for weights in NARROW
        if (weights in OP_TABLE[case.op].weight_types.get(dtype, ())) is claimed
        and (claimed or not case.label)
    ]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("case", "dtype", "weights"), narrow(True))
def test_narrow_weights_are_read_rightly(
    case: Case, dtype: str, weights: str, kernels: str
) -> None:
    row = OP_TABLE[case.op]
    built = build(case, dtype, Kind.WEIGHTED, weights=weights)
    assert obstacle(built.model.main.ops[0], dtype) == ""
    if kernels == "reference" and weights in row.no_reference:
        with pytest.raises(ModelError, match="Didn't find op"):
            error(built, kernels)
        return
    assert error(built, kernels) <= 1


@pytest.mark.parametrize(("case", "dtype", "weights"), narrow(False))
def test_narrow_weights_that_the_table_leaves_out_do_not_work(
    case: Case, dtype: str, weights: str
) -> None:
    built = build(case, dtype, Kind.WEIGHTED, weights=weights)
    if OP_TABLE[case.op].kind is Kind.WEIGHTED:
        assert f"{weights} weights" in obstacle(built.model.main.ops[0], dtype)
    try:
        wrong = error(built, "builtin")
    except TfqError:
        return
    assert wrong > 1


# What quantizing the input to 8 bits as the kernel runs costs is 1e-5 to 1e-4.
_HYBRID_NOISE = 1e-3


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("case", "dtype", "weights"), narrow(True, dtypes=("float32",)))
def test_narrow_weights_with_float_activations(
    case: Case, dtype: str, weights: str, kernels: str
) -> None:
    assert noise(build(case, dtype, Kind.WEIGHTED, weights=weights), kernels) < _HYBRID_NOISE


@pytest.mark.parametrize(("case", "dtype", "weights"), narrow(False, dtypes=("float32",)))
def test_narrow_weights_left_out_with_float_activations(
    case: Case, dtype: str, weights: str
) -> None:
    try:
        wrong = noise(build(case, dtype, Kind.WEIGHTED, weights=weights), "builtin")
    except TfqError:
        return
    assert not wrong < _HYBRID_NOISE  # NaN too


def test_weight_types_are_the_narrowest_first() -> None:
    for row in OP_TABLE.values():
        assert bool(row.weight_types) == (row.kind is Kind.WEIGHTED)
        for types in row.weight_types.values():
            assert list(types) == sorted(types)
            assert types[-1] == "int8"
        assert row.dtypes <= set(row.weight_types) or not row.weight_types


def test_every_quantizable_row_has_a_case() -> None:
    elsewhere = {"CAST", "DEQUANTIZE", "QUANTIZE"}  # In test_optable_codes.py.
    integer = {name for name, row in OP_TABLE.items() if row.dtypes}
    assert integer - {c.op for c in CASES} == elsewhere
    assert len(integer) >= 85


def test_the_table_is_sorted_and_complete() -> None:
    builtin = {n for n in OP_CODES if not n.startswith("STABLEHLO_")}
    no_computation = {"CONCAT_EMBEDDINGS", "CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"}
    assert set(OP_TABLE) == builtin - no_computation
    assert list(OP_TABLE) == sorted(OP_TABLE)


@pytest.mark.parametrize("name", sorted(OP_TABLE))
def test_a_row_agrees_with_itself(name: str) -> None:
    row = OP_TABLE[name]
    assert row.note or row.kind is not Kind.FLOAT_ONLY
    assert (row.kind is Kind.WEIGHTED) <= (None not in (row.weights, row.bias, row.axis))
    assert bool(row.dtypes) == (row.kind not in (Kind.FLOAT_ONLY, Kind.STRUCTURAL))
    assert (row.kind is Kind.FIXED) == bool(row.fixed)
    assert set(row.fixed) in (set(), set(row.dtypes))
    assert set(row.lsb) <= row.dtypes
    assert row.elementwise or not (row.steep or row.clamp)
    assert row.moves in ("", "reshapes", "permutes", "repeats")
    assert not row.moves or row.kind is Kind.SAME
    assert row.learned is None or row.weights is None
    assert row.effects.repeatable or row.kind in (Kind.STRUCTURAL, Kind.FLOAT_ONLY)
    assert row.outputs == () or row.kind is not Kind.INTEGER_OUT


def test_ops_outside_the_table() -> None:
    assert spec("CUSTOM") is None
    assert spec("STABLEHLO_ADD") is None
    assert "custom op" in obstacle(Op("CUSTOM", [], []), "int8")
    assert "Flex" in obstacle(Op("CUSTOM", [], [], custom_code="FlexErfinv"), "int8")
    assert not effects("CUSTOM").repeatable
    assert not effects("STABLEHLO_WHILE").repeatable
    assert effects("STABLEHLO_ADD").repeatable


@pytest.mark.parametrize("op", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_a_convolution_needs_its_bias(op: str) -> None:
    assert OP_TABLE[op].needs_bias
    case = next(c for c in CASES if c.op == op)
    case = dataclasses.replace(case, inputs=(*case.inputs[:2], None))
    with pytest.raises(ModelError, match="optional"):
        error(build(case, "int8", Kind.WEIGHTED), "builtin")


def multipliers() -> list[Any]:
    """A case of each op and type for which the table knows where the multiplier ends."""
    first: dict[tuple[str, str], Case] = {}
    for case in CASES:
        row = OP_TABLE[case.op]
        # Sorted: the workers of a parallel run must collect the same order.
        for dtype in sorted(row.max_multiplier.keys() & row.dtypes):
            first.setdefault((case.op, dtype), case)
    return [pytest.param(case, dtype, id=f"{op}-{dtype}") for (op, dtype), case in first.items()]


@pytest.mark.parametrize(("case", "dtype"), multipliers())
def test_kernels_hold_at_the_largest_multiplier(case: Case, dtype: str) -> None:
    """Values that fit the finest grid the table allows are right, and others saturate."""
    row = OP_TABLE[case.op]
    built = build(case, dtype, row.kind)
    op, out = built.model.main.ops[0], built.model.main.outputs[0]
    read = [*(row.data or ()), *([] if row.weights is None else [row.weights])]
    scales = [float(op.input(i).quant.scale.max()) for i in read]
    scale = smallest_output_scale(case.op, row, dtype, scales)
    assert 0 < scale < float(out.quant.scale[0])
    out.quant = Quant.per_tensor(np.float32(scale * 1.01))
    for kernels in KERNELS:
        if row.reference or kernels != "reference":
            # A step of what is read is many steps of the output, and as exact as those.
            assert error(built, kernels) <= max(2.0, 2.0**-14 * row.max_multiplier[dtype])
