"""Models that keep a state between runs: READ_VARIABLE, ASSIGN_VARIABLE, CALL_ONCE."""

import numpy as np
import pytest
from small_models import Net

from tfq.convert import convert_model
from tfq.errors import TfqError
from tfq.graph.model import Graph, Model, Op, Tensor, options_type
from tfq.quantize.boundary import InputQuantizer, dequantized
from tfq.runtime import Runner

SAMPLES = np.random.default_rng(0).normal(0, 1, (30, 4)).astype(np.float32)
ISLAND = ("READ_VARIABLE", "ASSIGN_VARIABLE")


def options(name, **values):
    made = options_type(name)()
    for key, value in values.items():
        setattr(made, key, value)
    return made


@pytest.fixture(scope="module")
def source():
    """state = state / 2 + tanh(x); y = dense(state)."""
    variable = options("VarHandleOptions", container="", sharedName="state")
    assign = options("AssignVariableOptions")
    net = Net()
    x = net.input(1, 4, name="x")
    net.ops.append(Op("CALL_ONCE", [], [], options("CallOnceOptions", initSubgraphIndex=1)))
    handle = net.op("VAR_HANDLE", shape=(), dtype="resource", options=variable, out="handle")
    read = options("ReadVariableOptions")
    old = net.op("READ_VARIABLE", handle, shape=(1, 4), dtype="float32", options=read)
    new = net.op("ADD", net.op("MUL", old, 0.5), net.op("TANH", x), out="new")
    net.ops.append(Op("ASSIGN_VARIABLE", [handle, new], [], assign))
    model = net.model(net.dense(new, 3, out="y"))
    inner = Tensor("inner", (), "resource")
    zero = Tensor("zero", (1, 4), "float32", np.zeros((1, 4), np.float32))
    start = [
        Op("VAR_HANDLE", [], [inner], variable),
        Op("ASSIGN_VARIABLE", [inner, zero], [], assign),
    ]
    model.graphs.append(Graph("start", start, [], []))
    return model.to_bytes()


def test_a_full_integer_run_names_the_state_and_the_ways_out(source):
    with pytest.raises(TfqError) as error:
        convert_model(source, SAMPLES)
    message = str(error.value)
    assert "READ_VARIABLE at 'read_variable" in message
    assert "ASSIGN_VARIABLE at 'ASSIGN_VARIABLE(handle, new)'" in message
    assert "make it an input and an output" in message
    assert "--allow_float=ASSIGN_VARIABLE,READ_VARIABLE" in message


@pytest.mark.parametrize("scheme", ["dynamic", "weight_only", "float16", "float32"])
def test_float_schemes_keep_the_state(source, scheme):
    model = convert_model(source, scheme=scheme).model
    before, after = Runner(source), Runner(model)
    # Dynamic-range weights are integers, of a layer that feeds back into itself.
    atol = 0.01 if scheme == "dynamic" else 0.0
    for x in SAMPLES[:4]:
        expected = before.run({"x": x[None]})["y"]
        np.testing.assert_allclose(after.run({"x": x[None]})["y"], expected, atol=atol)


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_a_state_that_may_stay_float(source, scheme):
    result = convert_model(source, SAMPLES, scheme=scheme, allow_float=ISLAND)
    islands = result.summary["plan"]["float_islands"].values()
    assert sorted(i["op"] for i in islands) == sorted(ISLAND)
    replayed = convert_model(source, SAMPLES, scheme=scheme, allow_float=ISLAND, plan=result.plan)
    assert replayed.model == result.model
    emitted = Model.from_bytes(result.model)
    feed, before, after = InputQuantizer(emitted), Runner(source), Runner(result.model)
    for x in SAMPLES[:3]:
        expected = before.run({"x": x[None]})["y"]
        got = dequantized(emitted, after.run(feed({"x": x[None]})))["y"]
        np.testing.assert_allclose(got, expected, atol=0.03)
