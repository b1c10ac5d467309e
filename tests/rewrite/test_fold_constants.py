import numpy as np

from tfq.graph.model import Quant, Tensor


def test_a_chain_of_constants_becomes_one(net):
    x = net.input(1, 4)
    a = net.op("ADD", net.const([1.0, 2, 3, 4]), 0.5)
    b = net.op("RSQRT", a)
    y = net.op("MUL", x, b)
    assert net.rewritten(y, "fold_constants") == ["MUL"]
    folded = net.model.main.ops[0].input(1)
    np.testing.assert_allclose(folded.data, 1 / np.sqrt([1.5, 2.5, 3.5, 4.5]), rtol=1e-6)
    assert [a.op for a in net.applied] == ["ADD", "RSQRT"]


def test_float16_weights_become_float32(net):
    x = net.input(1, 4)
    half = net.const([0.5, 1, 2, 4], "float16")
    y = net.op("MUL", x, net.op("DEQUANTIZE", half, dtype="float32"))
    assert net.rewritten(y, "fold_constants") == ["MUL"]


def test_trained_ranges_stay(net):
    x = net.input(1, 4)
    w = net.const([0.5, 1, 2, 4])
    q = net.op("QUANTIZE", w, dtype="int8")
    q.quant = Quant.per_tensor(0.05)
    y = net.op("MUL", x, net.op("DEQUANTIZE", q, dtype="float32"))
    assert net.rewritten(y, "fold_constants") == ["QUANTIZE", "DEQUANTIZE", "MUL"]


def test_an_output_stays_computed(net):
    x = net.input(1, 4)
    c = net.op("ADD", net.const([1.0, 2, 3, 4]), 0.5)
    y = net.op("MUL", x, c)
    assert net.rewritten([y, c], "fold_constants") == ["ADD", "MUL"]


def test_state_is_not_a_constant(net):
    x = net.input(1, 4)
    state = Tensor("state", (1, 4), "float32", is_variable=True)
    y = net.op("ADD", x, net.op("MUL", state, 2.0))
    assert net.rewritten(y, "fold_constants") == ["MUL", "ADD"]
