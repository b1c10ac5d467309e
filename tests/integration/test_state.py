"""Models with a state: variables that are kept between runs, and fused recurrent ops.

READ_VARIABLE and ASSIGN_VARIABLE are the source's own state, which goes on. The state of a fused
LSTM is LiteRT's: the layer it came from starts at zero for every sample, and so do all runs here.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from small_models import Net

from tfq.calibrate.run import calibrate
from tfq.convert import convert_model
from tfq.errors import TfqError
from tfq.evaluate.batching import Evaluated, as_written
from tfq.executors import open_workers
from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.model import Graph, Model, Op, Tensor, options_type
from tfq.rewrite.prepare import prepare
from tfq.runtime import Runner
from tfq.verify.proof import layer_errors

DATA = Path(__file__).parents[1] / "unroll" / "data"
SAMPLES = np.random.default_rng(0).normal(0, 1, (30, 4)).astype(np.float32)
TANH, RELU = 4, 1
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


def test_an_evaluation_starts_every_sample_from_the_initial_state(source):
    run = Evaluated(as_written(source, True))
    twice = run({"x": SAMPLES[[0, 1, 0]]})["y"]
    np.testing.assert_array_equal(twice[2], twice[0])
    np.testing.assert_array_equal(run({"x": SAMPLES[:1]})["y"][0], twice[0])


def test_workers_do_not_share_out_samples_that_a_state_ties_together(source):
    samples = [{"x": x[None]} for x in [*SAMPLES, *(4 * SAMPLES), *SAMPLES]]
    alone = calibrate(source, samples)
    with open_workers(executor=ThreadPoolExecutor(2)) as workers:
        shared = calibrate(source, samples, workers=workers)
    assert dict(shared) == dict(alone)


# --- fused recurrent ops ------------------------------------------------------------------------


def weights(rng, name, *shape):
    return Tensor(name, shape, "float32", rng.normal(0, 0.5, shape).astype(np.float32))


def recurrent(name, shape, width, inputs, op_options):
    """A fused op on x, and a dense layer behind it."""
    x, y = Tensor("x", shape, "float32"), Tensor("y", (*shape[:-1], width), "float32")
    op = Op(name, [x, *inputs], [y], op_options)
    rng = np.random.default_rng(1)
    out = Tensor("out", (*shape[:-1], 3), "float32")
    dense = [y, weights(rng, "k", 3, width), weights(rng, "b", 3)]
    kept = options("FullyConnectedOptions", keepNumDims=len(shape) > 2)
    ops = [op, Op("FULLY_CONNECTED", dense, [out], kept)]
    return Model([Graph("main", ops, [x], [out])]).to_bytes()


def states(*names, width):
    return [Tensor(name, (1, width), "float32", is_variable=True) for name in names]


def lstm_direction(rng, way, *, features, units):
    gates = [weights(rng, f"{way}w{g}", units, features) for g in "ifgo"]
    gates += [weights(rng, f"{way}u{g}", units, units) for g in "ifgo"]
    return [*gates, None, None, None, *(weights(rng, f"{way}b{g}", units) for g in "ifgo")]


def bidirectional_lstm():
    rng = np.random.default_rng(2)
    inputs = [
        i for way in "fb" for i in [*lstm_direction(rng, way, features=4, units=3), None, None]
    ]
    inputs += [*states("fh", "fc", "bh", "bc", width=3), *[None] * 9]
    made = options("BidirectionalSequenceLSTMOptions", fusedActivationFunction=TANH)
    made.mergeOutputs, made.timeMajor = True, False
    return recurrent("BIDIRECTIONAL_SEQUENCE_LSTM", (1, 6, 4), 6, inputs, made)


def sequence_rnn(steps=6):
    rng = np.random.default_rng(3)
    inputs = [weights(rng, "w", 3, 4), weights(rng, "u", 3, 3), weights(rng, "bias", 3)]
    made = options("SequenceRNNOptions", fusedActivationFunction=TANH)
    inputs += states("h", width=3)
    return recurrent("UNIDIRECTIONAL_SEQUENCE_RNN", (1, steps, 4), 3, inputs, made)


def svdf():
    rng = np.random.default_rng(4)
    inputs = [weights(rng, "feature", 3, 4), weights(rng, "time", 3, 5), weights(rng, "bias", 3)]
    inputs += states("h", width=15)
    made = options("SVDFOptions", rank=1, fusedActivationFunction=RELU)
    return recurrent("SVDF", (1, 4), 3, inputs, made)


def stored(name):
    return (DATA / f"{name}.tflite").read_bytes()


def samples_of(model, count):
    (x,) = Runner(model).inputs
    rng = np.random.default_rng(6)
    return rng.normal(0, 1, (count, *x["shape"][1:])).astype(np.float32), x["name"]


def snr(model, converted, samples, name):
    """Of unseen samples, every one from the initial state; dB."""
    emitted = Model.from_bytes(converted)
    feed, before, after = InputQuantizer(emitted), Runner(model), Runner(converted)
    power = noise = 0.0
    for x in samples:
        before.reset_state()
        after.reset_state()
        (expected,) = before.run({name: x[None]}).values()
        (got,) = dequantized(emitted, after.run(feed({name: x[None]}))).values()
        power, noise = power + np.sum(expected**2), noise + np.sum((expected - got) ** 2)
    return 10 * np.log10(power / noise)


@pytest.mark.parametrize(
    ("make", "least"),
    [
        (lambda: stored("fused_lstm"), 25),
        (lambda: stored("fused_bidirectional"), 25),
        (sequence_rnn, 30),
    ],
    ids=["LSTM", "two LSTMs", "RNN"],
)
def test_a_fused_op_becomes_integer_and_starts_at_zero(make, least):
    model = make()
    x, name = samples_of(model, 60)
    result = convert_model(model, x[:40])
    assert result.summary["model"]["full_integer"]
    assert snr(model, result.model, x[40:], name) > least
    (error,) = result.summary["proof"]["outputs"]
    assert error["sqnr_db"] > least
    # Layer by layer too, every run is one of its own.
    written = prepare(model, integer=False).bytes  # In the order of its tensors.
    once, thrice = (layer_errors(written, result.model, [{name: x[:1]}] * n) for n in (1, 3))
    assert once
    assert [e.name for e in once] == [e.name for e in thrice]
    np.testing.assert_allclose([e.sqnr_db for e in thrice], [e.sqnr_db for e in once])


@pytest.mark.parametrize("make", [bidirectional_lstm, svdf])
def test_a_fused_op_that_is_not_unrolled_is_named_and_may_stay_float(make):
    model = make()
    op = Model.from_bytes(model).main.ops[0].name
    x, name = samples_of(model, 60)
    with pytest.raises(TfqError, match=f"{op} is not unrolled; keep it float with --allow_float"):
        convert_model(model, x[:40])
    result = convert_model(model, x[:40], allow_float=[op])
    assert [i["op"] for i in result.summary["plan"]["float_islands"].values()] == [op]
    assert snr(model, result.model, x[40:], name) > 30
    floating = convert_model(model, scheme="float32")
    assert floating.summary["proof"]["outputs"][0]["sqnr_db"] is None  # Exact.


def test_a_single_step_of_a_file_is_told_that_its_state_does_not_go_on():
    model = sequence_rnn(steps=1)
    x, _ = samples_of(model, 40)
    (warning,) = convert_model(model, x).summary["warnings"]
    assert "runs a single step" in warning
    assert "make the state an input and an output" in warning
    assert convert_model(model, scheme="float32").summary["warnings"] == []
