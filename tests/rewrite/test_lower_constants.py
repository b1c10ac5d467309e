import numpy as np
import pytest

from tfq.rewrite import lower_constants


@pytest.mark.parametrize("name", ["ADD", "MAXIMUM", "FLOOR_DIV", "DIV", "SQUARED_DIFFERENCE"])
@pytest.mark.parametrize("shape", [(3,), (2, 3), ()])
def test_the_result_has_the_same_shape_and_values(net, name, shape):
    y = net.op(name, net.input(*shape), net.const(np.full((1, 1, 1), 0.75)))
    assert net.rewritten(y, "lower_constants") == [name, "RESHAPE"]
    assert net.model.main.outputs[0].shape == y.shape


def test_a_constant_on_the_left(net):
    y = net.op("SUB", net.const([[2.0]]), net.input(3))
    assert net.rewritten(y, "lower_constants") == ["SUB", "RESHAPE"]


def test_what_stays(net):
    x = net.input(2, 3)
    net.op("ADD", x, net.const([[1.0]]))
    net.op("ADD", x, net.const([[[1.0, 2, 3]]]))
    net.op("ADD", x, net.input(1, 2, 3))
    assert net.reasons(lower_constants.RULE) == [
        "the constant adds no dimension",
        "the constant adds no dimension",
        "not one computed and one constant float side",
    ]
