"""Kernels over every integer there is: all 8-bit codes, all pairs of them, all 16-bit codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from one_op import RANGE, Case, from_grid, grid, opts
from op_cases import CASES

from tfq.graph.model import DTYPE_CODES, Graph, Model, Op, Quant, Tensor
from tfq.graph.optable import OP_TABLE, Kind, op_version
from tfq.runtime import KERNELS, Runner


def codes(dtype: str) -> np.ndarray:
    low, high = RANGE[dtype]
    return np.arange(low, high + 1).astype(dtype)


def pairs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of int8; of int16 those near zero, at the ends, and some between."""
    some = codes(dtype)
    if dtype == "int16":
        between = np.random.default_rng(0).choice(some, 100)
        some = np.concatenate([np.arange(-40, 41), between, [-32768, 32767]]).astype(dtype)
    a, b = np.meshgrid(some, some, indexing="ij")
    return np.ascontiguousarray(a), np.ascontiguousarray(b)


def run(
    name: str,
    values: list[np.ndarray],
    quants: list[Quant | None],
    out: tuple[str, Quant | None],
    kernels: str,
    options: Any = None,
) -> np.ndarray:
    inputs = [
        Tensor(f"in{i}", v.shape, str(v.dtype), None, q)
        for i, (v, q) in enumerate(zip(values, quants, strict=True))
    ]
    y = Tensor("out", values[0].shape, out[0], None, out[1])
    op = Op(name, list(inputs), [y], options)
    op.version = op_version(op)
    runner = Runner(Model([Graph("main", [op], inputs, [y])]).to_bytes(), kernels=kernels)
    return runner.run({t.name: v for t, v in zip(inputs, values, strict=True)})["out"]


def on_grid(x: np.ndarray, quant: Quant, dtype: str) -> np.ndarray:
    low, high = RANGE[dtype]
    q = np.round(x / np.float64(quant.scale[0])) + quant.zero_point[0]
    return np.clip(q, low, high)


def unary_cases() -> list[Any]:
    found = []
    for case in CASES:
        row = OP_TABLE[case.op]
        for dtype in sorted(row.dtypes):
            if row.elementwise and len(case.inputs) == 1 and row.kind is not Kind.FLOAT_ONLY:
                for kernels in KERNELS if row.reference else KERNELS[:2]:
                    found.append(pytest.param(case, dtype, kernels, id=f"{case}-{dtype}-{kernels}"))
    return found


@pytest.mark.parametrize(("case", "dtype", "kernels"), unary_cases())
@pytest.mark.parametrize(("low", "high"), [(-2.0, 3.0), (-9.0, 7.0), (-0.3, 30.0)])
def test_every_code(case: Case, dtype: str, kernels: str, low: float, high: float) -> None:
    row = OP_TABLE[case.op]
    if (case.op, dtype, high) == ("EXP", "int16", 30.0):
        pytest.skip("over a range where it grows by 10^13, 512 steps are too few")
    positive = case.op in ("LOG", "RSQRT", "SQRT")
    quant = grid(0.0 if positive else low, high, dtype)
    q = codes(dtype)
    q = q[q > quant.zero_point[0]] if positive else q
    x = from_grid(q, quant)
    y = case.truth(x)
    # The range that calibration would see: steep ends are cut off.
    seen = case.truth(np.array([0.02 * high, high])) if positive else y
    if row.fixed:
        out = Quant.per_tensor(*row.fixed[dtype])
    else:
        out = grid(np.min(seen), np.max(seen), dtype)
    got = run(case.op, [q], [quant], (dtype, out), kernels, case.options)
    assert np.abs(got - on_grid(y, out, dtype)).max() <= row.lsb.get(dtype, 1)


BINARY = {
    "ADD": (np.add, opts("Add", potScaleInt16=False)),
    "MAXIMUM": (np.maximum, None),
    "MINIMUM": (np.minimum, None),
    "MUL": (np.multiply, opts("Mul")),
    "SQUARED_DIFFERENCE": (lambda a, b: (a - b) ** 2, None),
    "SUB": (np.subtract, opts("Sub", potScaleInt16=False)),
}


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for n in BINARY for d in sorted(OP_TABLE[n].dtypes)]
)
def test_every_pair(name: str, dtype: str, kernels: str) -> None:
    truth, options = BINARY[name]
    a, b = pairs(dtype)
    rng = np.random.default_rng(len(name))
    for _ in range(3):
        qa, qb = (grid(-rng.uniform(0, 5), rng.uniform(0, 5), dtype) for _ in "ab")
        if OP_TABLE[name].kind is Kind.SAME:
            qb = qa
        y = truth(from_grid(a, qa), from_grid(b, qb))
        k = rng.uniform(0.2, 1.2)
        out = qa if OP_TABLE[name].kind is Kind.SAME else grid(k * y.min(), k * y.max(), dtype)
        got = run(name, [a, b], [qa, qb], (dtype, out), kernels, options)
        assert np.abs(got - on_grid(y, out, dtype)).max() <= 1


COMPARE = {
    "EQUAL": np.equal,
    "GREATER": np.greater,
    "GREATER_EQUAL": np.greater_equal,
    "LESS": np.less,
    "LESS_EQUAL": np.less_equal,
    "NOT_EQUAL": np.not_equal,
}


def wrong(name: str, dtype: str, scale: float, kernels: str = "builtin") -> int:
    """How many pairs on one grid compare wrongly."""
    a, b = pairs(dtype)
    quant = Quant.per_tensor(scale, -13 if dtype == "int8" else 0)
    got = run(name, [a, b], [quant, quant], ("bool", None), kernels)
    return int((got != COMPARE[name](a, b)).sum())


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("name", COMPARE)
def test_comparisons_are_exact_within_their_scales(name: str, dtype: str, kernels: str) -> None:
    low, high = OP_TABLE[name].input_scale.get(dtype, (1e-6, 1e3))
    for scale in np.geomspace(low, 0.999 * high, 12):
        assert wrong(name, dtype, scale, kernels) == 0


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for n in COMPARE for d in sorted(OP_TABLE[n].input_scale)]
)
def test_comparisons_are_wrong_outside_their_scales(name: str, dtype: str) -> None:
    low, high = OP_TABLE[name].input_scale[dtype]
    # Exactly `high` ends the process, so it is not tried.
    assert wrong(name, dtype, low / 2) > 0
    assert wrong(name, dtype, 3 * high) > 0


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (s, t)
        for s in ("float32", "int8", "int16", "uint8")
        for t in ("int8", "int16", "uint8")
        if (s, t) != ("int16", "uint8")
    ],
)
def test_quantize(source: str, target: str, kernels: str) -> None:
    zero = {"int8": -5, "int16": 0, "uint8": 99}
    quant = None
    if source == "float32":
        q = np.linspace(-3, 3, 1001).astype(np.float32)
        x = q.astype(np.float64)
    else:
        q = codes(source)
        quant = Quant.per_tensor(5e-5 if source == "int16" else 0.02, zero[source])
        x = from_grid(q, quant)
    scale = abs(x).max() / 32767 if target == "int16" else 0.031
    out = Quant.per_tensor(scale, zero[target])
    got = run("QUANTIZE", [q], [quant], (target, out), kernels, opts("Quantize"))
    assert np.abs(got - on_grid(x, out, target)).max() <= 1


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", ["int8", "int16", "uint8"])
def test_dequantize(dtype: str, kernels: str) -> None:
    quant = Quant.per_tensor(0.02, 0 if dtype == "int16" else 7)
    got = run("DEQUANTIZE", [codes(dtype)], [quant], ("float32", None), kernels, opts("Dequantize"))
    np.testing.assert_allclose(got, from_grid(codes(dtype), quant), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("source", "target"),
    [
        *[(s, t) for s in ("bool", "int32", "int64") for t in ("int8", "int16")],
        *[(s, t) for s in ("int8", "int16") for t in ("int32", "int64")],
    ],
)
def test_cast_moves_the_integers(source: str, target: str, kernels: str) -> None:
    values = np.array([0, 1, 1, 7, 100]).astype(source)
    row = OP_TABLE["CAST"]
    quants = {t: Quant.per_tensor(*fixed) for t, fixed in row.fixed.items()}
    options = opts("Cast", inDataType=DTYPE_CODES[source], outDataType=DTYPE_CODES[target])
    out = (target, quants.get(target))
    got = run("CAST", [values], [quants.get(source)], out, kernels, options)
    np.testing.assert_array_equal(got, values.astype(target))
