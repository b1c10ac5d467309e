"""From the float file to the graph that is quantized."""

import hashlib

import numpy as np
import pytest

from tfq.errors import ModelError
from tfq.graph.model import Graph, Model, Op, Signature, Tensor, options_type
from tfq.rewrite.prepare import add_biases, prepare, unique_names
from tfq.runtime import Runner


def named(*names):
    return [Tensor(n, (1, 2), "float32") for n in names]


def test_names_become_unique_and_the_boundary_keeps_its_own():
    x, a, b, c, y = named("x", "a", "a", "", "a_1")
    ops = [Op("TANH", [t], [u]) for t, u in ((x, a), (a, b), (b, c), (c, y))]
    graph = Graph("main", ops, [x], [y])
    unique_names(graph)
    assert [t.name for t in (x, a, b, c, y)] == ["x", "a", "a_2", "tensor", "a_1"]


def test_an_inner_tensor_yields_its_name_to_an_output():
    x, a, y = named("x", "y", "y")
    graph = Graph("main", [Op("TANH", [x], [a]), Op("TANH", [a], [y])], [x], [y])
    unique_names(graph)
    assert (a.name, y.name) == ("y_1", "y")


def test_two_outputs_of_one_name():
    x, a, b = named("x", "y", "y")
    graph = Graph("main", [Op("TANH", [x], [a]), Op("ABS", [x], [b])], [x], [a, b])
    unique_names(graph)
    assert a.name == "y"
    assert b.name != "y"


def test_missing_biases_are_zeros(net):
    x = net.input(1, 4)
    y = net.op("FULLY_CONNECTED", x, net.weights(3, 4), shape=(1, 3))
    z = net.op("FULLY_CONNECTED", y, net.weights(2, 3), None, shape=(1, 2))
    graph = Graph("main", net.ops, net.inputs, [z])
    before = Model([graph]).to_bytes()
    add_biases(graph)
    for op, n in zip(graph.ops, (3, 2), strict=True):
        assert op.input(2).shape == (n,)
        np.testing.assert_array_equal(op.input(2).values(), np.zeros(n, np.float32))
    sample = {"in0": np.ones((1, 4), np.float32)}
    a, b = Runner(before).run(sample), Runner(Model([graph]).to_bytes()).run(sample)
    np.testing.assert_array_equal(a[z.name], b[z.name])


def test_prepared_bytes_are_the_prepared_model(net):
    y = net.op("MUL", net.conv(net.input(1, 6, 6, 2)), net.const([1.0, 2, 3, 4]))
    signature = Signature("s", {"x": net.inputs[0]}, {"y": y})
    source = Model([Graph("main", net.ops, net.inputs, [y])], [signature]).to_bytes()
    prepared = prepare(source)
    assert prepared.model.to_bytes() == prepared.bytes
    assert prepared.sha256 == hashlib.sha256(prepared.bytes).hexdigest()
    # The product went into the convolution.
    assert [op.name for op in prepared.model.main.ops] == ["CONV_2D"]
    assert "fold_affine" in {a.rewrite for a in prepared.applied}
    assert prepare(source).bytes == prepared.bytes
    assert prepared.left == ()
    assert prepared.model.signatures[0].key == "s"
    sample = {"in0": np.ones((1, 6, 6, 2), np.float32)}
    a, b = Runner(source).run(sample), Runner(prepared.bytes).run(sample)
    np.testing.assert_allclose(a[y.name], b[y.name], rtol=1e-5)


def test_float_schemes_leave_the_ops_as_they_are(net):
    x = net.input(1, 4)
    y = net.op("FULLY_CONNECTED", x, net.weights(3, 4), shape=(1, 3))
    source = Model([Graph("main", net.ops, net.inputs, [y])]).to_bytes()
    prepared = prepare(source, integer=False)
    assert prepared.applied == ()
    (op,) = prepared.model.main.ops
    assert len(op.inputs) == 2 or op.inputs[2] is None


def test_damage_is_a_model_error():
    with pytest.raises(ModelError):
        prepare(b"\0\0\0\0TFL3" + bytes(40))


def test_recurrent_ops_are_said_to_be_left_or_unrolled():
    x, y = Tensor("x", (1, 4), "float32"), Tensor("y", (1, 4), "float32")
    loop = options_type("WhileOptions")()
    loop.condSubgraphIndex, loop.bodySubgraphIndex = 1, 2
    (cx,) = named("c")
    cx.shape = (1, 4)
    flag = Tensor("f", (), "bool", None)
    zero = Tensor("zero", (1, 4), "float32", np.zeros((1, 4), np.float32))
    less = Tensor("less", (1, 4), "bool")
    axes = Tensor("axes", (2,), "int32", np.array([0, 1], np.int32))
    condition = Graph(
        "cond",
        [
            Op("GREATER", [cx, zero], [less]),
            Op("REDUCE_ANY", [less, axes], [flag], options_type("ReducerOptions")()),
        ],
        [cx],
        [flag],
    )
    bx, by = Tensor("bx", (1, 4), "float32"), Tensor("by", (1, 4), "float32")
    half = Tensor("half", (1,), "float32", np.array([1], np.float32))
    body = Graph("body", [Op("SUB", [bx, half], [by], options_type("SubOptions")())], [bx], [by])
    main = Graph("main", [Op("WHILE", [x], [y], loop)], [x], [y])
    source = Model([main, condition, body]).to_bytes()
    out = Runner(source, kernels="builtin").run({"x": np.full((1, 4), 2.5, np.float32)})
    np.testing.assert_array_equal(out["y"], np.full((1, 4), -0.5))
    prepared = prepare(source)
    # How often it runs depends on the values: it cannot be unrolled, and the reason is kept.
    ((where, reason),) = prepared.left
    assert where == "y"
    assert reason
    assert [op.name for op in prepared.model.main.ops] == ["WHILE"]
