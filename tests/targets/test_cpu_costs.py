"""Whose time is it: events of a profile put to ops, and a profile of a real model."""

import numpy as np
import pytest
from small_models import Net, cnn, draw

from tfq.errors import TfqError
from tfq.graph.model import Model
from tfq.targets import Asked, Evidence, OpPlacement, Placement, get_target
from tfq.targets.cpu.costs import owners_of
from tfq.targets.cpu.profiler import BUILT_IN, DELEGATED


def placed(*ops):
    """Of (name, partition) each."""
    return Placement(
        tuple(
            OpPlacement(i, name, "", "", fast=partition is not None, partition=partition)
            for i, (name, partition) in enumerate(ops)
        ),
        Evidence.HOST,
    )


def operators(*tags):
    return [(DELEGATED, tag, i) for i, tag in enumerate(tags)]


NET = placed(("CONV_2D", 0), ("MEAN", 0), ("SOFTMAX", None), ("ADD", 1), ("RELU", 1))
FIRST = ("Convolution (NHWC, QC8) IGEMM", "Mean (ND) Reduce", "Static Reshape (NC)")
SOFTMAX = (BUILT_IN, "SOFTMAX", 2)


@pytest.mark.parametrize(
    ("events", "owners"),
    [
        (
            [*operators(*FIRST), SOFTMAX, *operators("Add (ND)", "Clamp (NC)")],
            [0, 1, 1, 2, 3, 4],
        ),
        # The activation was fused: whose the operators are is not certain, in this partition.
        ([*operators(*FIRST), SOFTMAX, *operators("Add (ND)")], [0, 1, 1, 2, None]),
        ([*operators("Sigmoid (NC)", *FIRST), SOFTMAX], [None, None, None, None, 2]),
        # Another number of partitions than was seen, and an op that is another in the file.
        ([*operators(*FIRST), SOFTMAX], [None, None, None, 2]),
        ([(BUILT_IN, "TANH", 2), (BUILT_IN, "ADD", 9)], [None, None]),
    ],
)
def test_operators_belong_to_the_ops_that_they_come_from(events, owners):
    assert owners_of(events, NET) == owners


def test_what_is_done_once_has_no_operator():
    net = placed(("DEQUANTIZE", 0), ("ADD", 0))
    assert owners_of(operators("Add (ND)", "Clamp (NC)"), net, {0}) == [1, 1]
    assert owners_of(operators("Add (ND)"), net) == [None]


def test_every_op_of_a_real_model_has_its_time():
    model = cnn(size=48)
    with get_target("cpu").prepare(model, Asked()) as prepared:
        prepared.run([draw(model, 1)[0]["image"]])
        costs = prepared.op_costs()
        steady = [1e9]
        prepared._times = steady
        with pytest.raises(TfqError, match="counts whole microseconds"):
            prepared.op_costs()
    ops = Model.from_bytes(model).main.ops
    assert [(c.index, c.op, c.output) for c in costs] == [
        (i, op.name, op.outputs[0].name) for i, op in enumerate(ops)
    ]
    assert costs[0].cost.median > 0
    assert {(c.cost.unit, c.cost.evidence) for c in costs} == {("us", Evidence.HOST)}


def test_another_version_of_litert_is_left_alone(monkeypatch):
    monkeypatch.setattr("tfq.targets.cpu.costs.VERSION", "9.9.")
    with get_target("cpu").prepare(cnn(), Asked()) as prepared:
        prepared.run([np.zeros((1, 8, 8, 2), np.float32)])
        with pytest.raises(TfqError, match=r"can be read of ai-edge-litert 9\.9\.\*, and this is"):
            prepared.op_costs()


def test_what_the_profiler_refuses_is_said():
    net = Net()
    model = net.bytes(net.op("ABS", net.input(4)))
    with get_target("cpu").prepare(model, Asked()) as prepared:
        prepared.run([np.zeros(4, np.float32)])
        prepared._process.model.write_bytes(b"no model")
        with pytest.raises(TfqError, match=r"profiler does not take the model: .*Create"):
            prepared.op_costs()
