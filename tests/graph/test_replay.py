"""A plan that was written and read again gives the same file byte for byte: every op and scheme.

`tests/convert/test_replay.py` has whole conversions.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from one_op import Case, build
from op_cases import CASES
from small_models import Planned, config_of, plan_of

from tfq.errors import TfqError
from tfq.graph.numerics import quantize
from tfq.graph.optable import OP_TABLE
from tfq.plan.entries import INTEGER, KEEP_FLOAT
from tfq.plan.plan import Plan
from tfq.plan.scheme import LayerRule
from tfq.plan.weight_grids import weights_input
from tfq.quantize.emit import emit

SETTINGS = {
    "int8": config_of(input_type="uint8", allow_float=(".",)),
    "int16x8": config_of("int16x8", output_type="float32", allow_float=(".",)),
    "4 bits": config_of(weight_bits=4, weights="mse", allow_float=(".",)),
    "islands": config_of(rules=(LayerRule(regex=".", activations="int16"),), allow_float=(".",)),
    "dynamic": config_of("dynamic"),
    "weight_only": config_of("weight_only", granularity="per_tensor"),
}


def float_model(case: Case) -> tuple[bytes, dict[str, np.ndarray]]:
    """The one-op model of a case without a quantized tensor, and a sample."""
    built = build(case, "float32", OP_TABLE[case.op].kind)
    for t in built.model.main.tensors():
        if t.quant is not None:
            t.data = np.random.default_rng(0).normal(0, 0.3, t.shape).astype(np.float32)
            t.dtype, t.quant = "float32", None
    return built.model.to_bytes(), built.feeds


def with_integers(planned: Planned) -> Plan:
    """The plan with biases and weights of its own, a step off where there is room."""
    biases = {n: t.values() + 1 for n, t in planned.emit().biases.items() if t.quant is not None}
    weights = {}
    for op in planned.graph.ops:
        i, entry = weights_input(op), planned.plan.ops[op.key]
        grid = None if i is None else entry.edges.get(i)
        if i is None or grid is None or not grid.is_integer or not op.input(i).is_const:
            continue
        if entry.mode in (INTEGER, KEEP_FLOAT):
            q = quantize(op.input(i).values(), grid, narrow=entry.narrow)
            weights[op.key] = np.where(q > 0, q - 1, q).astype(q.dtype)
    return dataclasses.replace(planned.plan, biases=biases, weights=weights)


@pytest.mark.parametrize(
    "setting", [s if s == "int8" else pytest.param(s, marks=pytest.mark.slow) for s in SETTINGS]
)
def test_every_op(setting: str, tmp_path: Path) -> None:
    path, replayed, given = tmp_path / "plan.json", 0, 0
    for case in CASES:
        try:
            source, sample = float_model(case)
            planned = plan_of(source, [sample], SETTINGS[setting])
            planned.emit()
        except TfqError:
            continue  # No kernel, which other tests look at.
        plan = with_integers(planned)
        want = emit(planned.prepared.model, plan).model.to_bytes()
        plan.save(path)
        assert Plan.load(path) == plan, case
        assert emit(planned.prepared.model, Plan.load(path)).model.to_bytes() == want, case
        text = Plan.from_json(plan.to_json())
        assert emit(planned.prepared.model, text).model.to_bytes() == want, case
        replayed += 1
        given += bool(plan.weights)
    assert replayed > len(CASES) // 2
    assert given > 5
