"""What is done to a float model before it is quantized: relaxing, rescaling, absorbing."""

import dataclasses

import numpy as np
import pytest
from small_models import ACT, Net, draw

from tfq.equalize import (
    Changes,
    find_groups,
    has_changes,
    never_capped,
    read_changes,
    relax,
    unchanged,
    with_changes,
    write_changes,
)
from tfq.errors import UsageError
from tfq.graph.model import Model
from tfq.rewrite.match import activation
from tfq.rewrite.prepare import prepare
from tfq.runtime import Runner


def capped(bias=(4.0, 0.1, 0.1, 5.0)):
    """RELU6, then RELU behind it; the readers do not pad."""
    net = Net(1)
    x = net.input(1, 8, 8, 3, name="x")
    a = net.conv(x, 4, act=ACT.RELU6, bias=bias, out="a")
    b = net.conv(a, 4, size=1, act=ACT.RELU, bias=[0, 8, 0, 0], out="b")
    c = net.conv(b, 4, out="c")
    return net.bytes(net.mean(c, out="y"))


ALL = Changes(("a",), {"a": (2.0, 4.0, 0.5, 1.0)}, {"b": (0.0, 1.5, 0.0, 0.25)})


def test_the_way_back_computes_what_was_there_before():
    prepared = prepare(capped())
    changed = with_changes(prepared, ALL)
    assert (changed.relaxed, changed.equalization, changed.absorbed) == dataclasses.astuple(ALL)
    was, now = Runner(prepared.bytes), Runner(changed.bytes)
    back = Runner(unchanged(changed), keep_intermediates=True)
    acts = Runner(prepared.bytes, keep_intermediates=True)
    inside = {t.name: i for i, t in enumerate(Model.from_bytes(unchanged(changed)).main.tensors())}
    before = {t.name: i for i, t in enumerate(prepared.model.main.tensors())}
    differs = False
    for drawn in draw(prepared.model, 6):
        sample = {"x": 2 * drawn["x"]}
        expected = was.run(sample)["y"]
        np.testing.assert_allclose(back.run(sample)["y"], expected, rtol=1e-5, atol=1e-5)
        acts.run(sample)
        for name, factor, shift in (
            ("a", ALL.equalization["a"], 0.0),
            ("b", 1.0, ALL.absorbed["b"]),
        ):
            want = acts.tensor(before[name]) * np.array(factor) - np.array(shift)
            np.testing.assert_allclose(back.tensor(inside[name]), want, atol=2e-5)
        differs |= bool(np.abs(now.run(sample)["y"] - expected).max() > 1e-2)
    assert differs  # Caps and clamps acted, or this would show nothing.


def test_changes_are_kept_in_a_file():
    model = Model.from_bytes(capped())
    assert not has_changes(read_changes(model))
    write_changes(model, Changes())
    assert not [n for n in model.metadata if n.startswith("tfq")]
    write_changes(model, ALL)
    assert read_changes(Model.from_bytes(model.to_bytes())) == ALL
    prepared = prepare(capped())
    assert with_changes(prepared, Changes()) is prepared
    assert unchanged(prepared) is prepared.bytes


def test_relaxing_lets_scales_through():
    prepared = prepare(capped())
    graph = prepared.model.main
    assert [g.name for g in find_groups(graph)] == ["b"]
    relaxed = relax(prepared.model, ["a"]).main
    assert [g.name for g in find_groups(relaxed)] == ["a", "b"]
    assert [activation(op) for op in graph.ops[:2]] == [ACT.RELU6, ACT.RELU]
    assert [activation(op) for op in relaxed.ops[:2]] == [ACT.RELU, ACT.RELU]
    with pytest.raises(UsageError, match="relaxes the RELU6 of 'b', which this model does not"):
        relax(prepared.model, ["b"])


def test_only_what_no_sample_reached_is_relaxed():
    graph = prepare(capped()).model.main
    assert never_capped(graph, {"a": 5.999, "b": 1.0}.get) == ["a"]
    assert never_capped(graph, {"a": 6.0}.get) == []
    assert never_capped(graph, {}.get) == []


def test_an_op_of_its_own_is_relaxed_too():
    net = Net()
    x = net.input(1, 4, 4, 2, name="x")
    model = net.model(net.op("RELU6", net.op("TANH", x), out="y"))
    assert relax(model, ["y"]).main.ops[-1].name == "RELU"
    assert model.main.ops[-1].name == "RELU6"
