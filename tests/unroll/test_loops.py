"""Unrolled models against the originals in the float interpreter."""

import collections
import pathlib

import numpy as np
import pytest

from tfq.graph.model import Graph, Model, Op, Signature, Tensor, options_type
from tfq.runtime import Runner
from tfq.unroll import loops

DATA = pathlib.Path(__file__).parent / "data"

# All that a recurrent layer is made of once it is unrolled; each has an integer kernel.
INTEGER_OPS = {
    "ADD",
    "CONCATENATION",
    "FULLY_CONNECTED",
    "GATHER",
    "LESS",
    "LOGISTIC",
    "MUL",
    "NOT_EQUAL",
    "PACK",
    "RESHAPE",
    "SELECT",
    "SELECT_V2",
    "SPLIT",
    "STRIDED_SLICE",
    "SUB",
    "TANH",
    "TRANSPOSE",
    "UNPACK",
}


def load(name):
    return Model.from_bytes((DATA / f"{name}.tflite").read_bytes())


def samples(runner, n=3):
    rng = np.random.default_rng(0)
    for _ in range(n):
        yield {
            d["name"]: rng.integers(0, 4, d["shape"]).astype(d["dtype"])
            if np.issubdtype(d["dtype"], np.integer)
            else rng.normal(0, 2, d["shape"]).astype(d["dtype"])
            for d in runner.inputs
        }


def assert_same(before, after, tolerance=1e-5):
    """Both models, as bytes, give the same outputs under the same names."""
    old, new = Runner(before), Runner(after)
    for inputs in samples(old):
        old.reset_state()
        expected, found = old.run(inputs), new.run(inputs)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert np.ptp(value) > 1e-4
            np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance)


def count(model):
    return collections.Counter(op.name for op in model.main.ops)


@pytest.mark.parametrize(
    ("name", "whiles", "steps"),
    [
        ("lstm", 1, 10),
        ("lstm_28", 1, 28),
        ("lstm_100", 1, 100),
        ("lstm_batch", 1, 10),
        ("lstm_backwards", 1, 10),
        ("lstm_bidirectional", 2, 10),
        ("lstm_masked", 1, 10),
        ("lstm_stacked", 2, 10),
        ("lstm_states", 1, 10),
        ("gru", 1, 10),
        ("gru_reset_before", 1, 10),
        ("simple_rnn", 1, 10),
    ],
)
def test_keras_layers_become_basic_ops(name, whiles, steps):
    model = load(name)
    before = model.to_bytes()
    result = loops.apply(model)
    assert len(result.done) == whiles
    assert result.left == ()
    assert len(model.graphs) == 1
    ops = count(model)
    assert set(ops) <= INTEGER_OPS
    assert ops["TANH"] == whiles * steps * (2 if name.startswith("lstm") else 1)
    assert all(t.signature is None for t in model.main.tensors())
    names = [t.name for t in model.main.tensors()]
    assert len(set(names)) == len(names)
    assert_same(before, model.to_bytes())


def test_ops_of_an_lstm():
    model = load("lstm")
    loops.apply(model)
    # One projection for all steps, one product for each later step; the zero state costs nothing.
    assert count(model) == {
        "RESHAPE": 1,
        "FULLY_CONNECTED": 1 + 9,
        "SPLIT": 1 + 10,
        "ADD": 9 + 9,
        "MUL": 3 * 10 - 1,
        "LOGISTIC": 3 * 10 - 1,
        "TANH": 2 * 10,
    }
    first = next(op for op in model.main.ops if op.name == "FULLY_CONNECTED")
    assert first.input(0).shape == (10, 5)
    assert first.input(2).is_const


def test_weights_are_stored_once():
    model = load("lstm_28")
    loops.apply(model)
    weights = {op.input(1) for op in model.main.ops if op.name == "FULLY_CONNECTED"}
    assert len(weights) == 2


def test_reversal_costs_nothing():
    model = load("lstm_bidirectional")
    loops.apply(model)
    assert count(model)["REVERSE_V2"] == 0


def test_nested_loops():
    model = load("while_nested")
    before = model.to_bytes()
    result = loops.apply(model)
    assert len(result.done) == 1
    assert count(model)["TANH"] == 12
    assert_same(before, model.to_bytes())


def test_tensor_array_becomes_one_concatenation():
    model = load("while_tensor_array")
    before = model.to_bytes()
    assert len(loops.apply(model).done) == 1
    ops = count(model)
    assert (ops["TANH"], ops["CONCATENATION"]) == (6, 1)
    assert not {"SLICE", "SCATTER_ND", "DYNAMIC_UPDATE_SLICE"} & set(ops)
    assert_same(before, model.to_bytes())


def test_growing_result_and_branch_on_the_counter():
    """Shapes that were dynamic in the loop are static without it; IF goes with the counter."""
    model = load("while_growing")
    before = model.to_bytes()
    assert len(loops.apply(model).done) == 1
    assert count(model)["RELU"] == 3
    assert model.main.outputs[0].shape == (3, 4)
    assert all(t.signature is None for t in model.main.tensors())
    assert_same(before, model.to_bytes())


@pytest.mark.parametrize(
    ("name", "op", "times"), [("conv_lstm", "CONV_2D", 27), ("rnn_cells", "TANH", 30)]
)
def test_other_cells(name, op, times):
    model = load(name)
    before = model.to_bytes()
    assert len(loops.apply(model).done) == 1
    assert count(model)[op] == times
    assert_same(before, model.to_bytes())


def test_graph_that_calls_itself():
    model = if_model(constant("condition", True, "bool"))
    inner = model.graphs[1]
    options = options_type("IfOptions")()
    options.thenSubgraphIndex = options.elseSubgraphIndex = 1
    condition = constant("again", True, "bool")
    inner.ops = [Op("IF", [condition, inner.inputs[0]], inner.outputs, options)]
    assert "nested more than" in loops.apply(model).left[0][1]


def test_loop_on_data_stays_with_a_reason():
    model = load("while_on_data")
    before = model.to_bytes()
    result = loops.apply(model)
    assert result.done == ()
    ((where, reason),) = result.left
    assert where == "Identity"
    assert "depends on the input" in reason
    assert model.to_bytes() == before


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"max_steps": 9}, "more than 9 steps"), ({"max_ops": 50}, "larger than 50 ops")],
)
def test_limits(limits, reason):
    model = load("lstm")
    before = model.to_bytes()
    result = loops.apply(model, **limits)
    assert result.done == ()
    assert reason in result.left[0][1]
    assert "--allow_float" in result.left[0][1]
    assert_same(before, model.to_bytes())


def test_exactly_as_many_steps_as_allowed():
    assert loops.apply(load("lstm"), max_steps=10).left == ()


def test_signature_still_names_the_outputs():
    model = load("lstm_states")
    graph = model.main
    model.signatures = [
        Signature(
            "serve", {"x": graph.inputs[0]}, {f"y{i}": t for i, t in enumerate(graph.outputs)}
        )
    ]
    before = model.to_bytes()
    loops.apply(model)
    assert_same(before, model.to_bytes())
    assert list(model.signatures[0].outputs.values()) == graph.outputs


# --- models made by hand -------------------------------------------------------------------------


def constant(name, values, dtype="float32"):
    data = np.asarray(values, {"float32": np.float32, "int32": np.int32, "bool": np.bool_}[dtype])
    return Tensor(name, data.shape, dtype, data)


def unary(name, source, out):
    return Op(name, [source], [out])


def branches():
    """(x) -> tanh(x) as graph 1 and (x) -> logistic(x) as graph 2."""
    graphs = []
    for op in ("TANH", "LOGISTIC"):
        x, y = Tensor("x", (1, 4), "float32"), Tensor("y", (1, 4), "float32")
        graphs.append(Graph(op.lower(), [unary(op, x, y)], [x], [y]))
    return graphs


def if_model(condition):
    x, y = Tensor("in", (1, 4), "float32"), Tensor("out", (1, 4), "float32")
    options = options_type("IfOptions")()
    options.thenSubgraphIndex, options.elseSubgraphIndex = 1, 2
    inputs = [x] if condition.is_const else [condition, x]
    return Model(
        [Graph("main", [Op("IF", [condition, x], [y], options)], inputs, [y]), *branches()]
    )


@pytest.mark.parametrize(("taken", "op"), [(True, "TANH"), (False, "LOGISTIC")])
def test_if_on_a_constant_is_inlined(taken, op):
    model = if_model(constant("condition", taken, "bool"))
    before = model.to_bytes()
    assert loops.apply(model).done == ("out",)
    assert [o.name for o in model.main.ops] == [op]
    assert len(model.graphs) == 1
    assert_same(before, model.to_bytes())


def test_if_on_an_input_stays():
    model = if_model(Tensor("condition", (), "bool"))
    result = loops.apply(model)
    assert "which branch it takes depends on the input" in result.left[0][1]
    assert len(model.graphs) == 3


def counted_loop(graphs, body_ops, state, results, trips, first=1):
    """Appends cond and body graphs of `for i in range(trips)` and returns the WHILE's options.

    The state's first tensor is the counter; `results` are the others' next values.
    """
    i = Tensor("i", (), "int32")
    go_on = Tensor("go_on", (), "bool")
    others = [Tensor(f"cond_{t.name}", t.shape, t.dtype) for t in state[1:]]
    less = Op("LESS", [i, constant("trips", trips, "int32")], [go_on])
    cond = Graph("cond", [less], [i, *others], [go_on])
    following = Tensor("i_next", (), "int32")
    add = Op("ADD", [state[0], constant("one", 1, "int32")], [following])
    add.options = options_type("AddOptions")()
    body = Graph("body", [add, *body_ops], list(state), [following, *results])
    options = options_type("WhileOptions")()
    options.condSubgraphIndex, options.bodySubgraphIndex = first, first + 1
    graphs += [cond, body]
    return options


def test_rows_written_in_place_become_one_concatenation():
    """acc[i] = tanh(x + i): DYNAMIC_UPDATE_SLICE at the counter."""
    i, acc, x = Tensor("b_i", (), "int32"), Tensor("acc", (4, 3), "float32"), None
    x = Tensor("b_x", (1, 3), "float32")
    number, row = Tensor("n", (), "float32"), Tensor("row", (1, 3), "float32")
    squashed, start = Tensor("squashed", (1, 3), "float32"), Tensor("start", (2,), "int32")
    updated = Tensor("updated", (4, 3), "float32")
    pack = options_type("PackOptions")()
    pack.valuesCount, pack.axis = 2, 0
    ops = [
        Op("CAST", [i], [number], options_type("CastOptions")()),
        Op("ADD", [x, number], [row], options_type("AddOptions")()),
        unary("TANH", row, squashed),
        Op("PACK", [i, constant("zero", 0, "int32")], [start], pack),
        Op("DYNAMIC_UPDATE_SLICE", [acc, squashed, start], [updated]),
    ]
    ops[0].options.inDataType, ops[0].options.outDataType = 2, 0
    graphs = []
    options = counted_loop(graphs, ops, [i, acc, x], [updated, x], trips=4)
    source, out = Tensor("in", (1, 3), "float32"), Tensor("out", (4, 3), "float32")
    rest = [Tensor("i_out", (), "int32"), Tensor("x_out", (1, 3), "float32")]
    loop = Op(
        "WHILE",
        [constant("start_i", 0, "int32"), constant("empty", np.zeros((4, 3))), source],
        [rest[0], out, rest[1]],
        options,
    )
    model = Model([Graph("main", [loop], [source], [out]), *graphs])
    before = model.to_bytes()
    assert loops.apply(model).left == ()
    assert count(model) == {"ADD": 3, "TANH": 4, "CONCATENATION": 1}
    assert_same(before, model.to_bytes())


def test_loop_that_never_runs_and_one_that_stays_beside_it():
    """The graphs of the loop that stays are renumbered when the others go."""
    i, x = Tensor("b_i", (), "int32"), Tensor("b_x", (1, 4), "float32")
    y = Tensor("b_y", (1, 4), "float32")
    graphs = []
    never = counted_loop(graphs, [unary("TANH", x, y)], [i, x], [y], trips=0)
    j, u = Tensor("c_i", (), "int32"), Tensor("c_x", (1, 4), "float32")
    v = Tensor("c_y", (1, 4), "float32")
    often = counted_loop(graphs, [unary("LOGISTIC", u, v)], [j, u], [v], trips=600, first=3)
    source, between = Tensor("in", (1, 4), "float32"), Tensor("between", (1, 4), "float32")
    out = Tensor("out", (1, 4), "float32")
    zero = constant("start_i", 0, "int32")
    count_a, count_b = Tensor("n_a", (), "int32"), Tensor("n_b", (), "int32")
    scaled = Tensor("scaled", (1, 4), "float32")
    main = Graph(
        "main",
        [
            Op("WHILE", [zero, source], [count_a, between], never),
            Op("WHILE", [zero, between], [count_b, scaled], often),
            Op("ADD", [scaled, between], [out], options_type("AddOptions")()),
        ],
        [source],
        [out],
    )
    model = Model([main, *graphs])
    before = model.to_bytes()
    result = loops.apply(model)
    assert result.done == ("n_a",)
    assert [where for where, _ in result.left] == ["n_b"]
    assert len(model.graphs) == 3
    (loop,) = [op for op in model.main.ops if op.name == "WHILE"]
    assert (loop.options.condSubgraphIndex, loop.options.bodySubgraphIndex) == (1, 2)
    assert_same(before, model.to_bytes())


def test_model_without_loops_is_untouched():
    x, y = Tensor("in", (1, 4), "float32"), Tensor("out", (1, 4), "float32")
    model = Model([Graph("main", [unary("TANH", x, y)], [x], [y])])
    before = model.to_bytes()
    assert loops.apply(model) == loops.Unrolled()
    assert model.to_bytes() == before


def test_a_state_beside_the_loop_stays():
    model = load("gru")
    graph = model.main
    handle = Tensor("handle", (), "resource")
    options = options_type("VarHandleOptions")()
    options.container, options.sharedName = "", "state"
    (result,) = graph.outputs
    graph.ops += [
        Op("VAR_HANDLE", [], [handle], options),
        Op("ASSIGN_VARIABLE", [handle, result], [], options_type("AssignVariableOptions")()),
    ]
    loops.apply(model)
    assert [op.name for op in graph.ops if not op.outputs] == ["ASSIGN_VARIABLE"]
    assert graph.ops[-1].inputs[1] is graph.outputs[0]
    assert "WHILE" not in {op.name for op in graph.ops}


@pytest.mark.parametrize(("name", "loops_run"), [("lstm", 1), ("lstm_stacked", 2)])
def test_tensors_know_their_step(name, loops_run):
    model = load(name)
    loops.apply(model)
    tanh = [op.outputs[0] for op in model.main.ops if op.name == "TANH"]
    steps = collections.defaultdict(list)
    for t in tanh:
        steps[t.step.tensor].append(t.step.number)
    # The two TANH of each loop's body, in each of its ten steps.
    assert len(steps) == 2 * loops_run
    assert all(sorted(numbers) == list(range(10)) for numbers in steps.values())
