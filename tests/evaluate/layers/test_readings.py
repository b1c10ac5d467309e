"""Both readings against calculations by hand."""

import numpy as np
import pytest
from layers_by_hand import (
    analyse,
    assert_isolated,
    assert_reading,
    by_name,
    grid_of,
    reading_by_hand,
    values_of,
)
from small_models import ACT, Net, cnn, config_of

from tfq.graph.model import Model
from tfq.graph.numerics import dequantize, quantize
from tfq.plan.patterns import exclude_rules


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_both_readings_of_every_tensor_are_those_of_a_calculation_by_hand(scheme):
    floats, quantized, samples, analysis = analyse(cnn(), config_of(scheme))
    expected, got = values_of(floats, samples), values_of(quantized, samples)
    names = ["image", "conv", "point", "residual", "depthwise", "pooled", "logits"]
    assert [t.name for t in analysis.tensors] == [*names, "probabilities"]
    assert analysis.samples == 5
    assert analysis.unmatched == ()
    for t in analysis.tensors:
        assert t.dtype == scheme.removesuffix("x8")
        by_hand = reading_by_hand(expected[t.name], got[t.name], grid_of(t))
        assert_reading(t.accumulated, by_hand)
        if t.op == "INPUT":
            assert t.isolated == t.accumulated
        else:
            assert_isolated(t, quantized, expected)
    found = by_name(analysis)
    assert found["residual"].inputs == ("conv", "point")
    assert found["image"].op == "INPUT"
    assert found["image"].inputs == ()
    # Error piles up along the way, but not in what one layer does.
    assert found["logits"].isolated.sqnr_db > found["logits"].accumulated.sqnr_db


def activation_model():
    net = Net(4)
    x = net.input(1, 6, 6, 3, name="x")
    a = net.conv(x, 4, out="conv")
    b = net.op("SIN", a, out="sine")
    return net.bytes(net.conv(b, 3, out="y"))


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_a_table_lies_between_its_argument_and_its_result(scheme):
    floats, quantized, samples, analysis = analyse(activation_model(), config_of(scheme))
    assert "GATHER" in [op.name for op in Model.from_bytes(quantized).main.ops]
    sine = by_name(analysis)["sine"]
    assert sine.inputs == ("conv",)
    assert sine.op == "GATHER"
    assert sine.weights is None
    expected = values_of(floats, samples)
    conv = by_name(analysis)["conv"]
    # What it computes is the sine of the rounded argument.
    rounded = [dequantize(quantize(v, grid_of(conv)), grid_of(conv)) for v in expected["conv"]]
    got = [quantize(np.sin(v), grid_of(sine)) for v in rounded]
    by_hand = reading_by_hand(expected["sine"], got, grid_of(sine))
    assert sine.isolated.sqnr_db == pytest.approx(by_hand["sqnr_db"], abs=0.05)
    assert_isolated(sine, quantized, expected)


def concat_model():
    net = Net(2)
    x = net.input(1, 6, 6, 2, name="x")
    small = net.conv(x, 3, act=ACT.RELU6, out="small")
    weights = net.rng.normal(0, 5, (3, 3, 3, 2))
    large = net.conv(x, 3, weights=weights, out="large")
    both = net.concat(small, large, out="both")
    return net.bytes(net.conv(both, 2, size=1, out="y"))


def test_a_concatenation_shares_its_grid():
    floats, quantized, samples, analysis = analyse(concat_model())
    found = by_name(analysis)
    assert {"small", "large", "both"} <= set(found)
    expected = values_of(floats, samples)
    assert set(found["both"].inputs) == {"small", "large"}
    assert_isolated(found["both"], quantized, expected)
    grids = {n: (found[n].scale, found[n].zero_point) for n in ("small", "large", "both")}
    sharing = {n for n in ("small", "large") if grids[n] == grids["both"]}
    assert sharing
    assert {n for n, _ in found["both"].shares_with} == sharing
    for other, observed in found["both"].shares_with:
        assert observed == found[other].observed
        assert observed[1] == max(v.max() for v in expected[other])
    assert found["y"].shares_with == ()


def test_a_float_boundary_is_compared_where_the_integers_begin_and_end():
    config = config_of(input_type="float32", output_type="float32")
    floats, quantized, samples, analysis = analyse(cnn(), config)
    found = by_name(analysis)
    assert "image/int8" in found
    assert found["image/int8"].op == "QUANTIZE"
    assert found["probabilities/int8"].op == "SOFTMAX"
    assert found["conv"].inputs == ("image/int8",)
    assert analysis.unmatched == ()
    expected, got = values_of(floats, samples), values_of(quantized, samples)
    last = found["probabilities/int8"]
    by_hand = reading_by_hand(expected["probabilities"], got["probabilities/int8"], grid_of(last))
    assert_reading(last.accumulated, by_hand)
    first = found["image/int8"]
    rounded = [quantize(s["image"], grid_of(first)) for s in samples]
    by_hand = reading_by_hand(expected["image"], rounded, grid_of(first))
    assert first.isolated.sqnr_db == pytest.approx(by_hand["sqnr_db"], abs=1e-3)
    assert first.isolated.sqnr_db == first.accumulated.sqnr_db


def test_a_uint8_boundary_is_one_tensor_with_what_is_inside():
    config = config_of(input_type="uint8", output_type="uint8")
    floats, quantized, samples, analysis = analyse(cnn(), config)
    found = by_name(analysis)
    assert found["image"].dtype == "uint8"
    assert found["probabilities"].op == "SOFTMAX"
    assert "image/int8" not in found
    assert analysis.unmatched == ()
    expected, got = values_of(floats, samples), values_of(quantized, samples)
    t = found["probabilities"]
    by_hand = reading_by_hand(expected[t.name], got[t.name], grid_of(t))
    assert_reading(t.accumulated, by_hand)
    assert_isolated(t, quantized, expected)


def test_around_a_float_op_the_float_values_themselves_are_read():
    config = config_of(rules=exclude_rules(("^residual$",)))
    floats, _, samples, analysis = analyse(cnn(), config)
    found = by_name(analysis)
    assert "residual" not in found
    copy = found["residual/int8"]
    # The float sum is that of the float model: only its rounding is left.
    expected = values_of(floats, samples)["residual"]
    got = [quantize(v, grid_of(copy)) for v in expected]
    by_hand = reading_by_hand(expected, got, grid_of(copy))
    assert copy.isolated.sqnr_db == pytest.approx(by_hand["sqnr_db"], abs=1e-3)
    assert copy.accumulated.sqnr_db < copy.isolated.sqnr_db
    # Edges pass through what is float.
    assert set(copy.inputs) == {"conv", "point"}
    assert found["depthwise"].inputs == ("residual/int8",)
