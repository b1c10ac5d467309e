"""What a model takes and gives."""

import pytest

from tfq.errors import UsageError
from tfq.graph.interface import ArgSpec, counts_samples, read_interface, select_signature
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


@pytest.mark.parametrize(
    ("inputs", "outputs", "batched"),
    [
        ([(1, 8, 8, 3)], [(1, 5)], True),
        ([(1,)], [(1,)], True),
        ([(-1, 4)], [(-1, 5)], True),
        ([(4, 8, 8, 3)], [(4, 5)], True),
        ([(4, 2), (4,)], [(4, 5), ()], True),
        ([(4, 3)], [(2, 6)], True),
        ([(4, 2)], [], True),  # Nobody knows what comes out.
        ([(800,)], [(1, 4)], False),  # A sound.
        ([(800,)], [(800,)], False),
        ([(16,), (16,)], [(16, 7)], False),  # Words and their mask.
        ([(49, 40)], [(1, 12)], False),  # A spectrogram.
        ([(32, 32, 3)], [(10,)], False),
        ([(800,), (1, 40)], [(1, 4)], False),
        ([(), (1, 40)], [(1, 4)], False),
        ([()], [()], False),
    ],
)
def test_which_leading_dimension_counts_samples(inputs, outputs, batched):
    assert counts_samples(inputs, outputs) is batched
    made = [Tensor(f"x{i}", s, "float32") for i, s in enumerate(inputs)]
    given = [Tensor(f"y{i}", s, "float32") for i, s in enumerate(outputs)]
    interface = read_interface(Model([Graph("main", [], made, given)], []))
    assert interface.batched is batched
    assert all(a.batched is batched for a in (*interface.inputs, *interface.outputs))


def test_a_batch_of_numbers_is_one_where_it_was_asked_for():
    assert counts_samples([(8,)], [(8, 1)], batch=8)
    assert not counts_samples([(8,)], [(8, 1)])


def test_a_batch_that_the_model_puts_before_its_input_is_none():
    def interface(shape, name="RESHAPE"):
        x = Tensor("x", (8, 9, 3), "float32")
        a, b = Tensor("a", x.shape, "float32"), Tensor("b", shape, "float32")
        y = Tensor("y", (8, 9, 1), "float32")
        ops = [Op("MUL", [x], [a]), Op(name, [a], [b]), Op("RESHAPE", [b], [y])]
        return read_interface(Model([Graph("main", ops, [x], [y])], []))

    assert not interface((1, 8, 9, 3)).batched
    assert not interface((1, 8, 9, 3), "EXPAND_DIMS").batched
    assert interface((8, 27)).batched
    assert interface((8, 1, 9, 3)).batched
