"""Every simulated op against LiteRT, bit for bit, on each set of kernels."""

from __future__ import annotations

import numpy as np
import pytest
from one_op import build
from op_cases import CASES
from random_ops import MAKERS, Draw, model_of

from tfq.graph.model import Model, Op, Quant, Tensor
from tfq.graph.numerics import LIMITS
from tfq.graph.optable import OP_TABLE, Kind, op_version
from tfq.runtime import KERNELS, Runner

pytestmark = pytest.mark.slow

SEEDS = range(8)


def simulated(op: Op, kernels: str, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    import tensorflow as tf

    from tfq.keras.simulation.delegation import is_delegated
    from tfq.keras.simulation.registry import OPS

    how = "builtin" if kernels == "xnnpack" and not is_delegated(op) else kernels
    values = [
        None if t is None else tf.constant(t.values() if t.is_const else feeds[t.name])
        for t in op.inputs
    ]
    return [np.asarray(y) for y in OPS[op.name].function(op, values, how)]


def assert_same(model: Model, kernels: str, feeds: dict[str, np.ndarray], note: object) -> None:
    (op,) = model.main.ops
    want = Runner(model.to_bytes(), kernels=kernels, threads=1).run(feeds)
    for tensor, got in zip(op.outputs, simulated(op, kernels, feeds), strict=True):
        assert got.dtype == want[tensor.name].dtype
        np.testing.assert_array_equal(got, want[tensor.name], err_msg=f"{kernels} {note}")


def random_cases() -> list:
    found = []
    for name in MAKERS:
        found.append((name, "int8", "int8"))
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            found.append((name, "int8", "int4"))
        if name not in ("SQUARED_DIFFERENCE", "PRELU"):
            found.append((name, "int16", "int8"))
    return found


@pytest.mark.parametrize(("name", "dtype", "weights"), random_cases())
def test_random_ops(name: str, dtype: str, weights: str) -> None:
    varied = set()
    for seed in SEEDS:
        draw = Draw(seed, dtype, weights)
        model = model_of(MAKERS[name](draw))
        feeds = {t.name: draw.values(t.shape) for t in model.main.inputs}
        for kernels in KERNELS:
            # Wrong or missing in the reference set.
            if kernels == "reference" and (name == "SUM" or (name[0] == "D" and weights != "int8")):
                continue
            assert_same(model, kernels, feeds, seed)
        varied.update(np.unique(simulated(model.main.ops[0], "builtin", feeds)[0]))
    assert len(varied) > 20


def table_cases() -> list:
    from_table = []
    for case in CASES:
        row = OP_TABLE[case.op]
        for dtype in sorted(row.dtypes) or ["int8"] * (row.kind is Kind.STRUCTURAL):
            from_table.append(pytest.param(case, dtype, id=f"{case}-{dtype}"))
    return from_table


@pytest.mark.parametrize(("case", "dtype"), table_cases())
def test_cases_of_the_op_table(case, dtype: str) -> None:
    from tfq.keras.simulation.registry import OPS

    row = OP_TABLE[case.op]
    if case.op not in OPS:
        pytest.skip("not simulated")
    if dtype not in OPS[case.op].activations:
        pytest.skip("not simulated in this type")
    built = build(case, dtype, Kind.SAME if dtype in row.same_inputs else row.kind, row.fixed)
    rng = np.random.default_rng(0)
    for kernels in KERNELS:
        if kernels == "reference" and not row.reference:
            continue
        for _ in range(3):
            feeds = dict(built.feeds)
            for t in built.model.main.inputs:
                # Roots have no values left of zero.
                if t.dtype == dtype and case.op not in ("SQRT", "RSQRT"):
                    feeds[t.name] = rng.integers(*LIMITS[dtype], t.shape, endpoint=True)
                    feeds[t.name] = feeds[t.name].astype(dtype)
            assert_same(built.model, kernels, feeds, case)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("float32", "int8"),
        ("float32", "int16"),
        ("int8", "float32"),
        ("int16", "float32"),
        ("int8", "int16"),
        ("int16", "int8"),
        ("uint8", "int8"),
        ("int8", "uint8"),
        ("uint8", "float32"),
        ("float32", "uint8"),
    ],
)
def test_grids_are_entered_left_and_changed(source: str, target: str, kernels: str) -> None:
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        ends = []
        for name, dtype in (("x", source), ("y", target)):
            quant = None
            if dtype != "float32":
                zero = 0 if dtype == "int16" else rng.integers(*LIMITS[dtype])
                wide = rng.uniform(0.005, 0.05) * (1 / 256 if dtype == "int16" else 1)
                quant = Quant.per_tensor(wide, int(zero))
            ends.append(Tensor(name, (2, 31), dtype, quant=quant))
        op = Op("DEQUANTIZE" if target == "float32" else "QUANTIZE", [ends[0]], [ends[1]])
        op.version = op_version(op)
        if source == "float32":
            # Halves of steps are the interesting ones.
            assert ends[1].quant is not None
            steps = rng.integers(-600, 600, (2, 31)) / 2
            x = (steps * np.float32(ends[1].quant.scale[0])).astype(np.float32)
        else:
            x = rng.integers(*LIMITS[source], (2, 31), endpoint=True).astype(source)
        assert_same(model_of(op), kernels, {"x": x}, seed)


def test_what_is_delegated_is_asked_of_the_runtime() -> None:
    from tfq.keras.simulation.delegation import is_delegated

    assert is_delegated(MAKERS["CONV_2D"](Draw(0)))
    assert not is_delegated(MAKERS["CONV_2D"](Draw(0, weights="int4")))
    assert not is_delegated(MAKERS["SOFTMAX"](Draw(0)))
