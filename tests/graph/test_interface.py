"""What a model takes and gives."""

import pytest

from tfq.errors import UsageError
from tfq.graph.interface import ArgSpec, read_interface, select_signature
from tfq.graph.model import Graph, Model, Op, Signature, Tensor


def graph(name):
    x, y = Tensor(f"{name}_x:0", (1, 4), "float32"), Tensor(f"{name}_y:0", (1, 4), "float32")
    return Graph(name, [Op("TANH", [x], [y])], [x], [y])


def model(*keys):
    graphs = [graph(k) for k in keys] or [graph("main")]
    signatures = [
        Signature(k, {"a": g.inputs[0]}, {"b": g.outputs[0]}, i)
        for i, (k, g) in enumerate(zip(keys, graphs, strict=False))
    ]
    return Model(graphs, signatures)


def test_names_shapes_and_types_of_the_signature():
    interface = read_interface(model("serve"))
    assert interface.signature == "serve"
    assert interface.inputs == (ArgSpec("a", "serve_x:0", (1, 4), "float32"),)
    assert interface.outputs == (ArgSpec("b", "serve_y:0", (1, 4), "float32"),)


def test_without_signatures_tensors_have_their_own_names():
    interface = read_interface(model())
    assert interface.signature is None
    assert [a.name for a in interface.inputs] == ["main_x:0"]
    assert [a.name for a in interface.outputs] == ["main_y:0"]


def test_which_signature_is_chosen():
    assert select_signature(model("a", "serving_default"), None).key == "serving_default"
    assert select_signature(model("a", "b"), None).key == "a"
    assert select_signature(model("a", "b"), "b").key == "b"
    assert read_interface(model("a", "b"), "b").inputs[0].tensor_name == "b_x:0"


def test_an_unknown_signature_names_the_nearest():
    with pytest.raises(UsageError, match=r"no signature 'serving'; it has: serving_default"):
        select_signature(model("serving_default"), "serving")
    with pytest.raises(UsageError, match="it has: none"):
        select_signature(model(), "x")
