"""All rewrites together: order, fixed point, what must survive."""

import numpy as np
import pytest

from tfq.errors import UsageError
from tfq.graph.model import Graph, Model, Quant, Signature
from tfq.rewrite import REWRITES, rewrite


def test_unknown_name_in_skip(net):
    y = net.op("TANH", net.input(2, 3))
    model = Model([Graph("main", net.ops, net.inputs, [y])])
    with pytest.raises(UsageError, match="Did you mean 'fold_pad'"):
        rewrite(model, skip=["fold_pda"])


def test_rewrites_enable_each_other(net):
    # Conv1D's reshapes, a batch norm with a division, and a hand-made relu6 behind it.
    c = net.conv(net.input(1, 3, 6, 3))
    r = net.op("RESHAPE", c, net.const([1, 4, 4], "int32"), shape=(1, 4, 4))
    n = net.op("DIV", net.op("SUB", r, net.weights(4)), net.const([1.0, 2, 3, 4]))
    a = net.op("MINIMUM", net.op("RELU", n), 6.0)
    b = net.op("RESHAPE", a, net.const([1, 1, 4, 4], "int32"), shape=(1, 1, 4, 4))
    y = net.op("TANH", b)
    assert net.rewritten(y, *REWRITES) == ["CONV_2D", "TANH"]
    assert net.model.main.ops[0].options.fusedActivationFunction == 3


def test_a_second_run_changes_nothing(net):
    x = net.input(1, 6, 6, 3)
    y = net.op("RELU", net.op("MUL", net.op("SQUARE", net.conv(x)), net.weights(4)))
    net.rewritten(y, *REWRITES)
    again, applied = rewrite(net.model)
    assert applied == ()
    assert again.to_bytes() == net.model.to_bytes()


def test_records_say_what_and_where(net):
    y = net.op("SQUARE", net.op("TANH", net.input(2, 3)))
    net.rewritten(y, *REWRITES)
    (applied,) = net.applied
    assert (applied.rewrite, applied.where, applied.op) == ("replace_square", y.name, "SQUARE")


def test_trained_ranges_stay_in_place(net):
    x = net.input(1, 6, 6, 3)
    c = net.conv(x)
    q = net.op("QUANTIZE", c, dtype="uint8")
    q.quant = Quant.per_tensor(0.05, 120)
    d = net.op("DEQUANTIZE", q, dtype="float32")
    y = net.op("RELU", net.op("MUL", d, 0.5))
    names = net.rewritten(y, *REWRITES)
    assert names == ["CONV_2D", "QUANTIZE", "DEQUANTIZE", "MUL"]
    kept = net.model.main.ops[1].outputs[0].quant
    assert kept.scale[0] == np.float32(0.05)
    assert kept.zero_point[0] == 120


def test_unused_ops_disappear_and_unused_inputs_stay(net):
    x, z = net.input(2, 3), net.input(2, 4)
    net.op("EXP", z)
    y = net.op("TANH", x)
    assert net.rewritten(y, *REWRITES) == ["TANH"]
    assert len(net.model.main.inputs) == 2


def test_every_graph_of_the_file_is_rewritten(net):
    y = net.op("TANH", net.input(2, 3))
    main = Graph("main", net.ops, net.inputs, [y])
    net.ops, net.inputs = [], []
    z = net.op("SQUARE", net.input(2, 3))
    other = Graph("body", net.ops, net.inputs, [z])
    model = Model([main, other], [Signature("body", {"a": net.inputs[0]}, {"b": z}, 1)])
    result, applied = rewrite(model)
    assert [op.name for op in result.graphs[1].ops] == ["MUL"]
    assert result.signatures[0].outputs["b"] is result.graphs[1].outputs[0]
    assert len(applied) == 1


def test_an_empty_graph(net):
    x = net.input(2, 3)
    model = Model([Graph("main", [], [x], [x])])
    result, applied = rewrite(model)
    assert applied == ()
    assert result.main.outputs[0].name == "in0"
