"""Weights of few bits on a real model: the example that comes with tfq."""

from pathlib import Path

import pytest

from tfq.convert import convert_model
from tfq.graph.model import Model
from tfq.plan.scheme import LayerRule
from tfq.runtime import KERNELS, Runner

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits" / "saved_model"
ENDS = LayerRule(regex="stem|digit", weight_bits=8)


@pytest.fixture(scope="module")
def converted():
    return {
        weights: convert_model(EXAMPLE, weight_bits=4, weights=weights, rules=[ENDS])
        for weights in ("minmax", "mse")
    }


def test_four_bits_inside_keep_the_accuracy(converted):
    for result in converted.values():
        model = result.summary["model"]
        assert model["full_integer"]
        assert model["weights"]["int4"]["values"] == 1968
        accuracy = result.summary["accuracy"]
        assert accuracy["top1"] > accuracy["float_top1"] - 0.03


def test_mse_scales_are_better_than_minmax_in_four_bits(converted):
    found = {
        w: r.summary["improvements"]["bias_correction"]["outputs"] for w, r in converted.items()
    }
    for figure in ("before_db", "after_db"):
        mse, minmax = (
            [c[figure] for c in found[w] if c["part"] == "before SOFTMAX"]
            for w in ("mse", "minmax")
        )
        assert mse > minmax


def test_the_file_runs_wherever_its_kernels_are(converted):
    data = converted["mse"].model
    assert {t.dtype for op in Model.from_bytes(data).main.ops for t in op.inputs[1:2] if t} >= {
        "int4",
        "int8",
    }
    for kernels in KERNELS[:2]:  # The reference kernels have no int4 depthwise.
        Runner(data, kernels=kernels).invoke()
