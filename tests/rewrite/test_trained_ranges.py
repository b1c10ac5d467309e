"""Quantizers that training wrote into a graph, taken out with their grids."""

import numpy as np
import pytest
from small_models import Net

from tfq.convert import convert_model
from tfq.convert.summary import lines
from tfq.errors import ModelError
from tfq.graph.model import Op, Quant, Tensor, options_type
from tfq.graph.numerics import Grid, asymmetric_grid
from tfq.rewrite.prepare import prepare
from tfq.runtime import Runner


def pair(net, x, dtype, scale, zero, axis=0):
    quant = Quant(
        np.atleast_1d(np.float32(scale)),
        np.broadcast_to(np.int64(zero), np.shape([scale])[-1:]),
        axis,
    )
    q = Tensor(f"{x.name}/q", x.shape, dtype, quant=quant)
    y = Tensor(f"{x.name}/dq", x.shape, "float32")
    net.ops.append(Op("QUANTIZE", [x], [q], options_type("QuantizeOptions")()))
    net.ops.append(Op("DEQUANTIZE", [q], [y], options_type("DequantizeOptions")()))
    return y


def fake_quant(net, x, low, high, out, bits=8):
    options = options_type("FakeQuantOptions")()
    options.min, options.max, options.numBits = low, high, bits
    y = Tensor(out, x.shape, "float32")
    net.ops.append(Op("FAKE_QUANT", [x], [y], options))
    return y


def prepared(net, *outputs):
    from tfq.graph.model import Graph, Model, Signature

    graph = Graph("main", net.ops, net.inputs, list(outputs))
    signature = Signature("s", {"x": net.inputs[0]}, {f"y{i}": t for i, t in enumerate(outputs)})
    return prepare(Model([graph], [signature]).to_bytes())


def ops(result):
    return [op.name for op in result.model.main.ops]


@pytest.mark.parametrize(
    ("dtype", "zero", "expected"),
    [
        ("uint8", 100, Grid("int8", (0.5,), (-28,))),
        ("int8", -3, Grid("int8", (0.5,), (-3,))),
        ("uint4", 8, Grid("int4", (0.5,), (0,))),
        ("int16", 0, Grid("int16", (0.5,), (0,))),
    ],
)
def test_a_pair_becomes_a_signed_grid(net, dtype, zero, expected):
    x = net.input(1, 4)
    y = net.op("TANH", pair(net, x, dtype, 0.5, zero))
    result = prepared(net, y)
    assert ops(result) == ["TANH"]
    assert result.trained.grids == {"in0": expected}


def test_a_range_of_fake_quant(net):
    x = net.input(1, 4)
    result = prepared(net, net.op("TANH", fake_quant(net, x, -1.5, 2.5, "f")))
    assert ops(result) == ["TANH"]
    assert result.trained.grids == {"in0": asymmetric_grid(-1.5, 2.5)}


@pytest.mark.parametrize("kind", ["pair", "fake_quant"])
def test_a_quantized_output_keeps_its_name_and_signature(net, kind):
    a = net.op("TANH", net.input(1, 4))
    y = pair(net, a, "int8", 0.5, 1) if kind == "pair" else fake_quant(net, a, -1, 1, "f")
    result = prepared(net, y)
    assert ops(result) == ["TANH"]
    (out,) = result.model.main.outputs
    assert result.model.signatures[0].outputs == {"y0": out}
    assert out.name == ("t1/dq" if kind == "pair" else "f")
    assert set(result.trained.grids) == {out.name}


@pytest.mark.parametrize("kind", ["pair", "fake_quant"])
def test_an_input_that_is_quantized_and_given_out(net, kind):
    x = net.input(1, 4)
    y = pair(net, x, "int8", 0.5, 1) if kind == "pair" else fake_quant(net, x, -1, 1, "f")
    result = prepared(net, y)
    assert ops(result) == ["RESHAPE"]
    assert set(result.trained.grids) == {"in0"}


def test_both_sides_of_a_quantizer_are_outputs(net):
    a = net.op("TANH", net.input(1, 4))
    result = prepared(net, a, fake_quant(net, a, -1, 1, "f"))
    assert ops(result) == ["TANH", "RESHAPE"]
    assert [t.name for t in result.model.main.outputs] == ["t1", "f"]


def test_two_different_grids_on_one_tensor(net):
    x = net.input(1, 4)
    y = net.op("ADD", fake_quant(net, x, -1, 1, "a"), fake_quant(net, x, -1, 2, "b"))
    with pytest.raises(ModelError, match="'in0' two different grids"):
        prepared(net, y)


def test_the_same_grid_twice_is_fine(net):
    x = net.input(1, 4)
    y = net.op("ADD", fake_quant(net, x, -1, 2, "a"), fake_quant(net, x, -1, 2, "b"))
    result = prepared(net, y)
    assert result.trained.grids == {"in0": asymmetric_grid(-1, 2)}


def test_a_relu_that_is_left_in_a_grid_alone_is_no_error():
    """Quantizers of other tools take the ReLU in: their range from 0 is all that is left of it."""
    net = Net()
    x = pair(net, net.input(1, 8, name="x"), "int8", 0.02, 0)
    h = pair(net, net.dense(x, 16, out="h"), "int8", 0.01, -128)
    y = pair(net, net.dense(h, 3, out="y"), "int8", 0.02, 0)
    model = net.bytes(y)
    result = convert_model(model)
    (error,) = result.summary["proof"]["outputs"]
    assert error["sqnr_db"] > 30
    assert error["max_lsb"] < 2.5
    assert result.summary["proof"]["collapsed"] == []
    assert result.summary["warnings"] == []
    text = " ".join(" ".join(lines({**result.summary, "path": "y.tflite"})).split())
    assert "ranges from training, proven on random values" in text
    assert "not calibrated" not in text
    # The pairs kept, as training saw them.
    (name,) = (d["name"] for d in Runner(model).inputs)
    values = np.random.default_rng(0).uniform(-2, 2, Runner(model).inputs[0]["shape"])
    expected = next(iter(Runner(model).run({name: values.astype(np.float32)}).values()))
    q = np.clip(np.rint(values / 0.02), -128, 127).astype(np.int8)
    got = next(iter(Runner(result.model).run({name: q}).values()))
    np.testing.assert_allclose(got * 0.02, expected, atol=0.021)
