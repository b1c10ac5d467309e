"""Fused recurrent ops written out, against the fused kernels."""

import collections
import pathlib

import numpy as np
import pytest

from tfq.graph.model import Graph, Model, Op, Tensor, options_type
from tfq.runtime import Runner
from tfq.unroll import lstm

DATA = pathlib.Path(__file__).parent / "data"
TANH, RELU, NO_ACTIVATION = 4, 1, 0


def assert_same(before, after, tolerance=1e-5):
    """Both models agree when the fused op's state starts at zero."""
    old, new = Runner(before), Runner(after)
    rng = np.random.default_rng(0)
    for _ in range(3):
        inputs = {d["name"]: rng.normal(0, 2, d["shape"]).astype(np.float32) for d in old.inputs}
        old.reset_state()
        expected, found = old.run(inputs), new.run(inputs)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert np.ptp(value) > 1e-4
            np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance)


def count(model):
    return collections.Counter(op.name for op in model.main.ops)


@pytest.mark.parametrize("name", ["fused_lstm", "fused_lstm_sequences", "fused_bidirectional"])
def test_tf_keras_layers(name):
    model = Model.from_bytes((DATA / f"{name}.tflite").read_bytes())
    before = model.to_bytes()
    result = lstm.apply(model)
    assert len(result.done) == (2 if "bidirectional" in name else 1)
    assert result.left == ()
    allowed = {"RESHAPE", "FULLY_CONNECTED", "SPLIT", "ADD", "MUL", "LOGISTIC", "TANH"}
    assert set(count(model)) <= allowed | {"CONCATENATION"}
    assert_same(before, model.to_bytes())


def test_last_step_alone_needs_no_concatenation():
    model = Model.from_bytes((DATA / "fused_lstm.tflite").read_bytes())
    lstm.apply(model)
    assert not {"STRIDED_SLICE", "CONCATENATION", "PACK"} & set(count(model))


def fused_lstm(
    *,
    steps=6,
    batch=1,
    features=4,
    units=3,
    time_major=False,
    clip=0.0,
    activation=TANH,
    input_gate=True,
    peephole=False,
    scale=0.5,
):
    rng = np.random.default_rng(5)

    def weights(name, *shape):
        data = rng.normal(0, scale, shape).astype(np.float32)
        return Tensor(name, data.shape, "float32", data)

    def state(name):
        return Tensor(name, (batch, units), "float32", is_variable=True)

    shape = (steps, batch) if time_major else (batch, steps)
    x, y = Tensor("x", (*shape, features), "float32"), Tensor("y", (*shape, units), "float32")
    inputs = [x]
    inputs += [weights(f"w_{g}", units, features) for g in "ifgo"]
    inputs += [weights(f"u_{g}", units, units) for g in "ifgo"]
    inputs += [weights(f"p_{g}", units) if peephole else None for g in "ifo"]
    inputs += [weights(f"b_{g}", units) for g in "ifgo"]
    inputs += [None, None, state("h"), state("c"), None, None, None, None]
    if not input_gate:
        inputs[1] = inputs[5] = inputs[9] = inputs[12] = None
    options = options_type("UnidirectionalSequenceLSTMOptions")()
    options.fusedActivationFunction = activation
    options.cellClip, options.timeMajor = clip, time_major
    op = Op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [y], options)
    return Model([Graph("main", [op], [x], [y])])


@pytest.mark.parametrize(
    "form",
    [
        {"time_major": True},
        {"batch": 3},
        {"batch": 3, "time_major": True},
        {"input_gate": False},
        {"steps": 1},
        {"clip": 1.5, "scale": 2.0},
        {"clip": 0.4, "activation": RELU},
    ],
    ids=str,
)
def test_forms_of_lstm(form):
    model = fused_lstm(**form)
    before = model.to_bytes()
    assert lstm.apply(model).left == ()
    assert_same(before, model.to_bytes())


def test_clipping_only_where_it_can_act():
    model = fused_lstm(steps=6, clip=4.0)
    lstm.apply(model)
    assert count(model)["MINIMUM"] == 2


@pytest.mark.parametrize(
    ("form", "reason"),
    [({"peephole": True}, "peephole"), ({"steps": 600}, "600 steps")],
)
def test_what_stays_has_a_reason(form, reason):
    model = fused_lstm(**form)
    before = model.to_bytes()
    ((where, why),) = lstm.apply(model).left
    assert where == "y"
    assert reason in why
    assert model.to_bytes() == before


def test_computed_weights_stay():
    model = fused_lstm()
    op = model.main.ops[0]
    doubled = Tensor("doubled", op.input(2).shape, "float32")
    model.main.ops.insert(
        0, Op("ADD", [op.input(2), op.input(2)], [doubled], options_type("AddOptions")())
    )
    op.inputs[2] = doubled
    assert "doubled" in lstm.apply(model).left[0][1]


def test_op_limit():
    model = fused_lstm()
    before = model.to_bytes()
    assert "larger than 20 ops" in lstm.apply(model, max_ops=20).left[0][1]
    assert model.to_bytes() == before


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("activation", [TANH, RELU])
def test_simple_rnn(time_major, activation):
    rng = np.random.default_rng(1)

    def constant(name, *shape):
        return Tensor(name, shape, "float32", rng.normal(0, 0.4, shape).astype(np.float32))

    shape = (5, 2) if time_major else (2, 5)
    x, y = Tensor("x", (*shape, 4), "float32"), Tensor("y", (*shape, 3), "float32")
    state = Tensor("h", (2, 3), "float32", is_variable=True)
    options = options_type("SequenceRNNOptions")()
    options.fusedActivationFunction, options.timeMajor = activation, time_major
    inputs = [x, constant("w", 3, 4), constant("u", 3, 3), constant("b", 3), state]
    op = Op("UNIDIRECTIONAL_SEQUENCE_RNN", inputs, [y], options)
    model = Model([Graph("main", [op], [x], [y])])
    before = model.to_bytes()
    assert lstm.apply(model).done == ("y",)
    assert count(model)["FULLY_CONNECTED"] == 5
    assert_same(before, model.to_bytes())


def test_tensors_know_their_step():
    model = fused_lstm(steps=4)
    lstm.apply(model)
    hidden = [
        t.step for t in model.main.tensors() if t.step is not None and ": h " in t.step.tensor
    ]
    assert sorted(s.number for s in hidden) == [0, 1, 2, 3]
    assert len({s.tensor for s in hidden}) == 1
