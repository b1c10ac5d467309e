"""The target cpu: what it places, runs and measures, and what ends a run of it."""

import functools
import os
import signal

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from small_models import Net, cnn, config_of, draw, plan_of

from tfq.errors import ModelError, UsageError
from tfq.graph.model import Model
from tfq.runtime import Runner
from tfq.targets import Asked, Evidence, get_target
from tfq.targets.cpu.placement import delegated
from tfq.targets.cpu.process import Process

INPUT = draw(cnn(), 1)[0]["image"]


@functools.cache
def emitted(scheme):
    model = cnn()
    return plan_of(model, draw(model, 4), config_of(scheme)).emit().model.to_bytes()


def branches():
    """Ops that XNNPACK does not take, between ones that it does."""
    net = Net()
    axis = net.const([1], "int32")
    a = net.conv(net.input(1, 6, 6, 2), 4, out="a")
    b = net.op("REVERSE_V2", a, axis, shape=a.shape, out="b")
    c = net.op("ADD", net.op("ABS", b), net.op("NEG", a))
    return net.bytes(net.op("REVERSE_V2", net.op("MUL", c, a), axis, shape=a.shape), c)


def alone(model):
    """What XNNPACK takes when each op is a delegate of its own: the outputs of those."""
    interpreter = Interpreter(
        model_content=model, num_threads=1, experimental_disable_delegate_node_fusion=True
    )
    interpreter.allocate_tensors()
    ops = interpreter._get_ops_details()
    taken = {t for op in ops if op["op_name"] == "DELEGATE" for t in op["outputs"]}
    return {op["index"] for op in ops if op["op_name"] != "DELEGATE" and taken & {*op["outputs"]}}


@pytest.mark.parametrize(
    ("make", "partitions"),
    [(cnn, 1), (lambda: emitted("int8"), 1), (lambda: emitted("int16x8"), 0), (branches, 2)],
    ids=["float32", "int8", "int16x8", "branches"],
)
def test_placement_is_that_of_one_op_a_delegate(make, partitions):
    model = make()
    placement = get_target("cpu").check(model)
    assert {op.index for op in placement.ops if op.fast} == alone(model)
    assert placement.partitions == partitions
    assert placement.evidence is Evidence.HOST
    names = [op.outputs[0].name for op in Model.from_bytes(model).main.ops]
    assert [op.output for op in placement.ops] == names
    assert all(op.why for op in placement.ops if not op.fast)
    assert sum(placement.off().values()) == len(names) - placement.fast


def test_what_lies_between_a_partitions_ends_is_its_own():
    ops = [
        {"name": "A", "inputs": [0], "outputs": [1]},
        {"name": "B", "inputs": [1], "outputs": [2]},
        {"name": "C", "inputs": [2, -1], "outputs": [3]},
        {"name": "DELEGATE", "inputs": [2], "outputs": [3]},
        {"name": "DELEGATE", "inputs": [0], "outputs": [1]},
    ]
    assert delegated(ops) == {2: 0, 0: 1}


@pytest.mark.parametrize(
    ("dtype", "kernels"),
    [("float32", "xnnpack"), ("int8", "xnnpack"), ("int8", "reference"), ("int16", "builtin")],
)
def test_runs_as_the_interpreter_does_and_figures_say_how_they_came_about(dtype, kernels):
    model = {
        "float32": cnn,
        "int8": lambda: emitted("int8"),
        "int16": lambda: emitted("int16x8"),
    }[dtype]()
    value = INPUT if dtype == "float32" else (INPUT * 40).clip(-128, 127).astype(dtype)
    expected = Runner(model, kernels=kernels).run_in_order([value])
    asked = Asked(kernels=kernels, warmup_seconds=0.0)
    with get_target("cpu").prepare(model, asked) as prepared:
        (output,) = prepared.run([value])
        np.testing.assert_array_equal(output, expected[0], strict=True)
        assert prepared.measure(7, 60.0) == 7
        assert prepared.measure(3, 0.0) == 1
        figures = prepared.figures()
    assert {n: (f.unit, f.count) for n, f in figures.items()} == {
        "init": ("us", 1),
        "first": ("us", 1),
        "memory": ("bytes", 1),
        "steady": ("us", 8),
    }
    assert {f.evidence for f in figures.values()} == {Evidence.HOST}
    assert figures["memory"].median > 0
    assert figures["steady"].low > 0
    assert prepared.ran["kernels"] == kernels
    assert prepared.fingerprint["litert"]


def test_a_crash_is_one_error_and_leaves_nothing():
    process = Process(cnn(), kernels="builtin", threads=1, timeout=60.0)
    folder = process.folder
    os.kill(process._child.pid, signal.SIGABRT)
    with pytest.raises(ModelError, match=r"ends the process that runs it \(SIGABRT; .*builtin"):
        process.ask("measure", runs=1, seconds=1.0)
    process.close()
    assert not folder.exists()


def test_a_model_that_does_not_end_is_one_error():
    process = Process(cnn(), kernels="builtin", threads=1, timeout=0.3)
    with pytest.raises(ModelError, match=r"does not answer within 0.3 s"):
        process.ask("warm_up", seconds=60.0)
    process.close()
    assert process._child.returncode == -signal.SIGKILL


def test_a_refused_model_is_one_error_with_the_reason():
    model = Model.from_bytes(cnn())
    model.main.ops[0].version = 77
    with pytest.raises(ModelError, match=r"LiteRT \(xnnpack kernels\) refuses the model: .*77"):
        get_target("cpu").check(model.to_bytes())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "has 1 inputs. Received: 0"),
        ([INPUT[..., :1]], r"'image' is float32 \[1, 8, 8, 2\]. Received: float32 \[1, 8, 8, 1\]"),
        ([INPUT.astype("int8")], "Received: int8"),
    ],
)
def test_wrong_inputs(inputs, message):
    with (
        get_target("cpu").prepare(cnn(), Asked()) as prepared,
        pytest.raises(UsageError, match=message),
    ):
        prepared.run(inputs)
