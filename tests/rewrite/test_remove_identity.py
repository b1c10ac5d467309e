import numpy as np
import pytest

from tfq.rewrite.remove_identity import RULE

INT = "int32"


@pytest.mark.parametrize(
    "make",
    [
        lambda n, x: n.op("RESHAPE", x, n.const([2, 3, 4], INT), shape=(2, 3, 4)),
        lambda n, x: n.op("TRANSPOSE", x, n.const([0, 1, 2], INT), shape=(2, 3, 4)),
        lambda n, x: n.op("PAD", x, n.const(np.zeros((3, 2)), INT), shape=(2, 3, 4)),
        lambda n, x: n.op("TILE", x, n.const([1, 1, 1], INT), shape=(2, 3, 4)),
        lambda n, x: n.op("CONCATENATION", x),
        lambda n, x: n.op("ADD", x, 0.0),
        lambda n, x: n.op("MUL", 1.0, x),
        lambda n, x: n.op("DIV", x, 1.0),
        lambda n, x: n.op(
            "SLICE", x, n.const([0, 0, 0], INT), n.const([2, 3, 4], INT), shape=(2, 3, 4)
        ),
    ],
)
def test_disappears_in_the_middle_and_at_the_end(net, make):
    x = net.input(2, 3, 4)
    inner = make(net, net.op("TANH", x))
    y = make(net, net.op("EXP", inner))
    assert net.rewritten(y, "remove_identity") == ["TANH", "EXP"]


def test_a_copy_of_the_input_stays(net):
    x = net.input(2, 3)
    y = net.op("ADD", x, 0.0)
    assert net.rewritten(y, "remove_identity") == ["ADD"]


def test_float16_and_back(net):
    x = net.input(2, 3)
    half = net.op("CAST", net.op("TANH", x), dtype="float16")
    y = net.op("EXP", net.op("CAST", half, dtype="float32"))
    assert net.rewritten(y, "remove_identity", tol=1e-3) == ["TANH", "EXP"]


def test_what_changes_something_stays(net):
    x = net.input(2, 2)
    a = net.op("SUB", 0.0, x)
    b = net.op("MUL", a, 2.0)
    c = net.op("ADD", b, 0.0, fusedActivationFunction=1)
    y = net.op("TRANSPOSE", c, net.const([1, 0], INT), shape=(2, 2))
    assert net.reasons(RULE) == [
        "the constant is on the left",
        "neither side is 1",
        "it has a fused activation",
        "it permutes",
    ]
    assert len(net.rewritten(y, "remove_identity")) == 4
