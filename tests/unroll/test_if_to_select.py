import numpy as np
import pytest

from tfq.graph.model import Graph, Model, Op, Tensor, options_type
from tfq.runtime import Runner
from tfq.unroll import if_to_select


def branch(name, op, options):
    x = Tensor(f"{name}_x", (1, 4), "float32")
    y = Tensor(f"{name}_y", (1, 4), "float32")
    two = Tensor(f"{name}_c", (), "float32", np.array(2.0, np.float32))
    return Graph(name, [Op(op, [x, two], [y], options_type(options)())], [x], [y])


def model_with_if(then, other):
    x, c = Tensor("x", (1, 4), "float32"), Tensor("c", (), "bool")
    y = Tensor("y", (1, 4), "float32")
    options = options_type("IfOptions")()
    options.thenSubgraphIndex, options.elseSubgraphIndex = 1, 2
    return Model([Graph("main", [Op("IF", [c, x], [y], options)], [x, c], [y]), then, other])


def test_both_branches_are_computed_and_one_is_selected():
    model = model_with_if(branch("a", "MUL", "MulOptions"), branch("b", "ADD", "AddOptions"))
    before = Runner(model.to_bytes())
    result = if_to_select.apply(model)
    assert (result.done, result.left) == (("y",), ())
    assert [op.name for op in model.main.ops] == ["MUL", "ADD", "SELECT_V2"]
    assert len(model.graphs) == 1
    after = Runner(model.to_bytes())
    x = np.array([[1, -2, 3, 0.5]], np.float32)
    for c in (True, False):
        fed = {"x": x, "c": np.array(c)}
        np.testing.assert_array_equal(before.run(fed)["y"], after.run(fed)["y"])


@pytest.mark.parametrize("shape", [(1, 3), (2, 4)])
def test_branches_of_different_shapes_stay(shape):
    other = branch("b", "ADD", "AddOptions")
    other.outputs[0].shape = shape
    model = model_with_if(branch("a", "MUL", "MulOptions"), other)
    result = if_to_select.apply(model)
    assert result.done == ()
    assert result.left == (("y", "its branches give different shapes or types"),)
    assert [op.name for op in model.main.ops] == ["IF"]
