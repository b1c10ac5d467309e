"""The parts of a concatenation become outputs: names, shapes, values, and what cannot be split."""

import numpy as np
import pytest
from small_models import Net, draw, plan_of

import tfq
from tfq.errors import UsageError
from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.interface import read_interface
from tfq.graph.model import Model, Signature
from tfq.rewrite.split_output import split_outputs, splittable
from tfq.runtime import Runner


def detector(*moves, axis=2, signature=True, other=True):
    """Two heads [1, 9, 4] and [1, 9, 6] (or [1, 4, 9] and [1, 6, 9]), concatenated and moved."""
    net = Net(2)
    x = net.input(1, 8, name="x")
    shapes = [(1, 9, 4), (1, 9, 6)] if axis == 2 else [(1, 4, 9), (1, 6, 9)]
    heads = [
        net.reshape(net.dense(x, 9 * n, out=f"dense{n}"), *s, out=f"head{n}")
        for n, s in zip((4, 6), shapes, strict=True)
    ]
    shape = (1, 9, 10) if axis == 2 else (1, 10, 9)
    y = net.op("CONCATENATION", *heads, shape=shape, axis=axis, out="joint")
    for i, move in enumerate(moves):
        if sorted(move) == list(range(len(y.shape))):
            perm = net.const(np.array(move), "int32")
            y = net.op("TRANSPOSE", y, perm, shape=tuple(y.shape[k] for k in move), out=f"m{i}")
        else:
            y = net.reshape(y, *move, out=f"m{i}")
    outputs = [net.dense(x, 3, out="other"), y] if other else [y]
    model = net.model(*outputs)
    names = dict(zip(["other", "found"] if other else ["found"], outputs, strict=True))
    model.signatures = [Signature("serve", {"x": x}, names)] if signature else []
    return model.to_bytes()


def run(data, seed=0):
    x = np.random.default_rng(seed).normal(0, 1, (1, 8)).astype(np.float32)
    model = Model.from_bytes(data)
    results = Runner(data).run(InputQuantizer(model)({"x": x}))
    real = dequantized(model, results)
    return {a.name: real[a.tensor_name] for a in read_interface(model).outputs}


@pytest.mark.parametrize(
    ("moves", "axis", "shapes", "at"),
    [
        ((), 2, [(1, 9, 4), (1, 9, 6)], 2),
        ((), 1, [(1, 4, 9), (1, 6, 9)], 1),
        (((0, 2, 1),), 1, [(1, 9, 4), (1, 9, 6)], 2),
        (((0, 2, 1),), 2, [(1, 4, 9), (1, 6, 9)], 1),
        (((9, 10),), 2, [(9, 4), (9, 6)], 1),
        (((1, 3, 3, 10),), 2, [(1, 3, 3, 4), (1, 3, 3, 6)], 3),
        (((1, 9, 5, 2),), 2, [(1, 9, 2, 2), (1, 9, 3, 2)], 2),
        (((0, 2, 1), (1, 9, 1, 10)), 1, [(1, 9, 1, 4), (1, 9, 1, 6)], 3),
    ],
)
def test_parts_are_slices_of_the_output(moves, axis, shapes, at):
    data = detector(*moves, axis=axis)
    assert splittable(Model.from_bytes(data)) == ("found",)
    split = split_outputs(data, ["found"])
    interface = read_interface(Model.from_bytes(split))
    assert [a.name for a in interface.outputs] == ["other", "found_0", "found_1"]
    assert [a.shape for a in interface.outputs[1:]] == shapes
    before, after = run(data), run(split)
    joined = np.concatenate([after["found_0"], after["found_1"]], axis=at)
    np.testing.assert_allclose(joined, before["found"], rtol=1e-6)
    np.testing.assert_array_equal(after["other"], before["other"])
    assert not any(op.name == "CONCATENATION" for op in Model.from_bytes(split).main.ops)


def test_a_reshape_that_mixes_is_left_out():
    split = split_outputs(detector((1, 90)), ["found"])
    shapes = [a.shape for a in read_interface(Model.from_bytes(split)).outputs]
    assert shapes == [(1, 3), (1, 9, 4), (1, 9, 6)]


def test_without_a_signature_outputs_are_called_by_their_tensors():
    split = split_outputs(detector(signature=False), ["joint"])
    names = [a.name for a in read_interface(Model.from_bytes(split)).outputs]
    assert names == ["other", "head4", "head6"]


def test_a_quantized_file_is_split_too():
    data = detector((0, 2, 1))
    quantized = plan_of(data, draw(data, 8)).emit().model.to_bytes()
    before, after = run(quantized), run(split_outputs(quantized, ["found"]))
    joined = np.concatenate([after["found_0"], after["found_1"]], axis=1)
    np.testing.assert_array_equal(joined, before["found"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fond", r"no output 'fond'. Did you mean 'found'\? Outputs that can be split: found\."),
        ("other", "output 'other' comes from FULLY_CONNECTED, and not from a concatenation"),
    ],
)
def test_what_cannot_be_split_is_said(name, message):
    with pytest.raises(UsageError, match=message):
        split_outputs(detector(), [name])
    with pytest.raises(UsageError, match="Outputs that can be split: none"):
        split_outputs(Net().bytes(Net().input(1, 2)), ["in0"])


def test_a_constant_part_is_said():
    net = Net()
    x = net.input(1, 4, name="x")
    y = net.op("CONCATENATION", net.dense(x, 4), net.const([[1.0, 2]]), shape=(1, 6), axis=1)
    with pytest.raises(UsageError, match="among its parts, which is an input or a constant"):
        split_outputs(net.bytes(y), [y.name])


def test_conversion_gives_each_part_its_grid_and_a_plan_repeats_it():
    data = detector()
    x = np.random.default_rng(4).normal(0, 1, (40, 8)).astype(np.float32)
    result = tfq.convert_model(data, {"x": x}, split_output="found")
    outputs = result.summary["model"]["outputs"]
    assert [o["name"] for o in outputs] == ["other", "found_0", "found_1"]
    assert outputs[1]["scale"] != outputs[2]["scale"]
    again = tfq.convert_model(data, {"x": x}, plan=result.plan)
    assert again.model == result.model
    with pytest.raises(UsageError, match="split_output"):
        tfq.convert_model(data, {"x": x}, split_output=["other"])
