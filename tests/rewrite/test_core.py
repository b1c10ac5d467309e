import dataclasses

import pytest

from tfq.graph.model import Graph, Model, Signature, Step
from tfq.rewrite.core import No, View, copy_model, like, new_op
from tfq.rewrite.fold_pad import RULE


def test_a_copy_shares_constants_and_nothing_else(net):
    x = net.input(1, 6, 6, 3)
    y = net.op("TANH", net.conv(x))
    model = Model(
        [Graph("main", net.ops, net.inputs, [y])], [Signature("s", {"x": x}, {"y": y})], {"a": b"b"}
    )
    same = copy_model(model)
    assert same.to_bytes() == model.to_bytes()
    ours, theirs = set(model.main.tensors()), set(same.main.tensors())
    assert not ours & theirs
    assert same.signatures[0].outputs["y"] is same.main.outputs[0]
    conv, twin = model.main.ops[0], same.main.ops[0]
    assert twin.options is not conv.options
    assert twin.input(1).data is conv.input(1).data


def test_replacing_the_last_reader_drops_what_only_it_needed(net):
    x = net.input(2, 3)
    a = net.op("TANH", x)
    b = net.op("EXP", a)
    c = net.op("ADD", b, a)
    graph = Graph("main", net.ops, net.inputs, [c])
    view = View(graph)
    view.replace(graph.ops[2], [new_op("ABS", [a], c)])
    assert [op.name for op in graph.ops] == ["TANH", "ABS"]
    assert view.producer(c).name == "ABS"
    assert [op.name for op in view.readers(a)] == ["ABS"]


def test_bypass_at_an_output_renames_the_source(net):
    x = net.input(2, 3)
    a = net.op("TANH", x)
    b = net.op("EXP", a)
    c = net.op("ADD", a, 0.0)
    graph = Graph("main", net.ops, net.inputs, [b, c])
    view = View(graph)
    assert view.can_bypass(graph.ops[2], a)
    view.bypass(graph.ops[2], a)
    assert graph.ops[0].outputs == [c]
    assert graph.ops[1].inputs == [c]


def test_names_are_never_used_twice(net):
    x = net.input(2, 3)
    y = net.op("TANH", x)
    view = View(Graph("main", net.ops, net.inputs, [y]))
    assert view.tensor(y.name, (1,)).name == f"{y.name}_1"
    assert view.tensor(y.name, (1,)).name == f"{y.name}_2"


def test_options_are_checked_by_name(net):
    x = net.input(2, 3)
    with pytest.raises(AttributeError, match="MulOptions has no field 'keepDims'"):
        new_op("MUL", [x, x], x, "MulOptions", keepDims=True)
    op = new_op("MUL", [x, x], x, "MulOptions")
    other = like(op, [x, x], x, fusedActivationFunction=1)
    assert (op.options.fusedActivationFunction, other.options.fusedActivationFunction) == (0, 1)


def test_a_reason_is_text(net):
    net.conv(net.input(1, 6, 6, 3))
    view = View(Graph("main", net.ops, net.inputs, [net.ops[0].outputs[0]]))
    found = RULE.check(net.ops[0], view)
    assert isinstance(found, No)
    assert found == "no padding before it"
    assert RULE.run(view) == []
    assert dataclasses.is_dataclass(RULE)


def test_what_replaces_an_op_of_a_step_is_of_that_step(net):
    x = net.input(1, 4)
    outs = [net.op("SQUARED_DIFFERENCE", x, net.op("ABS", x), out=f"y{i}") for i in range(2)]
    graph = Graph("main", net.ops, net.inputs, [net.op("ADD", *outs)])
    for i, t in enumerate(outs):
        t.step = Step("square", i)
    view = View(graph)
    for t in outs:
        inner = view.tensor(f"{t.name}/inner", t.shape)
        op = view.producer(t)
        view.replace(
            op, [new_op("SUB", op.inputs, inner, "SubOptions"), new_op("SQUARE", [inner], t)]
        )
    made = [t for t in graph.tensors() if "inner" in t.name]
    assert [t.step.number for t in made] == [0, 1]
    assert len({t.step.tensor for t in made}) == 1
    assert [t.step.tensor for t in outs] == ["square", "square"]
