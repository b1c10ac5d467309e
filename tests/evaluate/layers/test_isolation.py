"""What is computed from float values, and what cannot be."""

import numpy as np
import pytest
from layers_by_hand import (
    analyse,
    assert_isolated,
    assert_reading,
    both,
    by_name,
    grid_of,
    reading_by_hand,
    values_of,
)
from small_models import Net, cnn, draw

from tfq.errors import ModelError
from tfq.evaluate.figures import as_dict
from tfq.evaluate.layers import analyse_layers, isolate, pair
from tfq.graph.model import Model, Op, options_type
from tfq.graph.numerics import quantize
from tfq.graph.opspec import Effects


def test_an_op_that_cannot_be_cut_out_has_one_reading_and_a_reason(monkeypatch):
    from tfq.evaluate.layers import isolation

    monkeypatch.setattr(isolation, "effects", lambda op: Effects(calls=op == "ADD"))
    *_, analysis = analyse(cnn())
    found = by_name(analysis)
    assert found["residual"].isolated is None
    assert found["residual"].note == "ADD cannot be run apart from the model"
    assert found["residual"].accumulated.sqnr_db > 0
    assert found["depthwise"].isolated is not None
    assert as_dict(analysis)[3]["isolated"] is None
    assert found["depthwise"].note == ""


def test_what_does_not_run_is_left_out_and_the_rest_stays_one_model(monkeypatch):
    from tfq.evaluate.layers import isolation

    def refusal(data, *, check):
        names = {t.name for t in Model.from_bytes(data).main.tensors()}
        return "it crashes" if "tfq/isolated/residual" in names else ""

    monkeypatch.setattr(isolation, "_refusal", refusal)
    floats, quantized = both(cnn())
    isolated = isolate(pair(floats, quantized))
    assert isolated.reasons == {"residual": "it crashes"}
    assert len(isolated.models) == 1
    assert set(isolated.index) == {
        "conv",
        "point",
        "depthwise",
        "pooled",
        "logits",
        "probabilities",
    }


def test_targets_that_do_not_run_together_run_apart(monkeypatch):
    from tfq.evaluate.layers import isolation

    def refusal(data, *, check):
        found = {t.name for t in Model.from_bytes(data).main.tensors()}
        return "too large" if {"tfq/isolated/conv", "tfq/isolated/logits"} <= found else ""

    floats, quantized = both(cnn())
    samples = draw(floats, 3, seed=3)
    whole = analyse_layers(floats, quantized, samples)
    monkeypatch.setattr(isolation, "_refusal", refusal)
    assert len(isolate(pair(floats, quantized)).models) == 2
    assert analyse_layers(floats, quantized, samples) == whole


def test_a_float_model_that_does_not_run_is_an_error(monkeypatch):
    from tfq.evaluate.layers import isolation

    monkeypatch.setattr(isolation, "_refusal", lambda data, *, check: "it crashes")
    floats, quantized = both(cnn())
    with pytest.raises(ModelError, match="The float model does not run: it crashes"):
        isolate(pair(floats, quantized))


def test_indices_and_masks_are_those_of_the_float_model():
    net = Net(3)
    x = net.input(1, 6, 6, 2, name="x")
    which = net.input(4, name="which", dtype="int32")
    y = net.conv(x, 4, size=1, out="y")
    options = options_type("GatherOptions")()
    options.axis = 3
    z = net.op("GATHER", y, which, shape=(1, 6, 6, 4), out="z", options=options)
    source = net.bytes(z)
    rng = np.random.default_rng(0)
    samples = [
        {
            "x": rng.normal(0, 1, (1, 6, 6, 2)).astype(np.float32),
            "which": rng.integers(0, 4, 4).astype(np.int32),
        }
        for _ in range(5)
    ]
    floats, quantized = both(source, samples=samples)
    analysis = analyse_layers(floats, quantized, samples)
    z = by_name(analysis)["z"]
    expected = values_of(floats, samples)["z"]
    by_hand = reading_by_hand(expected, [quantize(v, grid_of(z)) for v in expected], grid_of(z))
    assert z.isolated.sqnr_db == pytest.approx(by_hand["sqnr_db"], abs=0.01)
    assert {n for n, _ in z.shares_with} == {"y"}


def test_a_second_output_that_nobody_reads_is_analysed():
    net = Net(3)
    x = net.input(1, 4, 8, name="x")
    a, b = (net.op("RESHAPE", x, shape=(1, 4, 4), out=n) for n in ("a", "b"))
    net.ops = [
        Op("SPLIT", [net.const(2, "int32"), x], [a, b], options_type("SplitOptions")()),
    ]
    net.ops[0].options.numSplits = 2
    source = net.bytes(net.op("TANH", a, out="y"))
    floats, quantized, samples, analysis = analyse(source)
    found = by_name(analysis)
    expected = values_of(floats, samples)
    for name, part in (("a", slice(0, 4)), ("b", slice(4, 8))):
        values = [s["x"][..., part] for s in samples]
        assert found[name].observed == (np.min(values), np.max(values))
        grid = grid_of(found[name])
        by_hand = reading_by_hand(values, [quantize(v, grid) for v in values], grid)
        assert_reading(found[name].isolated, by_hand)
    assert {n for n, _ in found["b"].shares_with} >= {"a"}
    assert_isolated(found["a"], quantized, expected)
