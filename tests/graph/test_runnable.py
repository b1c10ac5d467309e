import numpy as np

from tfq.graph.model import Graph, Model, Op, Quant, Tensor, options_type
from tfq.graph.runnable import runnable
from tfq.runtime import Runner


def add(dtype):
    w = np.array([[0.11, -0.52, 0.3, 0.7]], np.float32)
    c = Tensor("w", w.shape, "float32", w)
    half = {"uint4": 8, "uint8": 128}[dtype]
    q = Tensor("q", w.shape, dtype, quant=Quant.per_tensor(0.1, half))
    d, x, y = (Tensor(n, w.shape, "float32") for n in "dxy")
    ops = [
        Op("QUANTIZE", [c], [q], options_type("QuantizeOptions")()),
        Op("DEQUANTIZE", [q], [d], options_type("DequantizeOptions")()),
        Op("ADD", [x, d], [y], options_type("AddOptions")()),
    ]
    return Model([Graph("main", ops, [x], [y])])


def test_a_four_bit_quantizer_of_a_constant_becomes_its_rounded_values():
    zero = np.zeros((1, 4), np.float32)
    result = Runner(runnable(add("uint4").to_bytes())).run({"x": zero})["y"]
    np.testing.assert_allclose(result, [[0.1, -0.5, 0.3, 0.7]], atol=1e-6)


def test_what_runs_is_left_as_it_is():
    data = add("uint8").to_bytes()
    assert runnable(data) is data
