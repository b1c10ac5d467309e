"""The plan as JSON: out, by hand, and in again."""

import json
import string
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfq.errors import TfqError, UsageError
from tfq.graph.numerics import FLOAT, Grid
from tfq.plan.entries import ACTIVATIONS, KEEP_FLOAT, MODES, ROUNDINGS, TABLES, OpPlan, TensorPlan
from tfq.plan.plan import Plan, check_replay

NAMES = st.text(string.ascii_letters + string.digits + '/_:;"\\ é日', min_size=1, max_size=12)
SCALES = st.floats(2.0**-40, 2.0**40, width=32)


@st.composite
def grids(draw):
    dtype = draw(st.sampled_from(["int8", "int16", "uint8", "int4", "int32", "int64", "float32"]))
    if dtype == "float32":
        return FLOAT
    n = draw(st.integers(1, 5))
    scale = tuple(draw(st.lists(SCALES, min_size=n, max_size=n)))
    zero = tuple(draw(st.lists(st.integers(-128, 127), min_size=n, max_size=n)))
    return Grid(dtype, scale, zero, draw(st.integers(0, 3)) if n > 1 else None)


OPS = st.builds(
    OpPlan,
    op=NAMES,
    mode=st.sampled_from(MODES),
    edges=st.dictionaries(st.integers(0, 5), grids(), max_size=3),
    root=st.none() | NAMES,
    reason=st.text(max_size=10),
    rounding=st.dictionaries(st.integers(0, 5), st.sampled_from(ROUNDINGS), max_size=2),
    narrow=st.booleans(),
    bias=st.booleans(),
    cast=st.sampled_from([None, "int32"]),
    clamp=st.none() | st.tuples(st.integers(-(2**15), 0), st.integers(0, 2**15)),
    kernel=st.sampled_from([None, "RELU"]),
    activation=st.sampled_from([None, *ACTIVATIONS]),
    hybrid=st.booleans(),
    table=st.sampled_from(TABLES),
    snap=st.booleans(),
)
DTYPES = st.sampled_from(["int8", "int16", "int32", "int64"])
ARRAYS = DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0)))
PLANS = st.builds(
    Plan,
    model_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    config=st.dictionaries(NAMES, st.none() | st.booleans() | NAMES, max_size=3),
    tensors=st.dictionaries(NAMES, st.builds(TensorPlan, grids(), NAMES), max_size=4),
    ops=st.dictionaries(NAMES, OPS, max_size=4),
    inputs=st.dictionaries(NAMES, grids(), max_size=2),
    outputs=st.dictionaries(NAMES, grids(), max_size=2),
    detours=st.dictionaries(NAMES, grids(), max_size=2),
    equalization=st.dictionaries(NAMES, st.lists(SCALES, max_size=4).map(tuple), max_size=2),
    relaxed=st.lists(NAMES, max_size=2).map(tuple),
    absorbed=st.dictionaries(NAMES, st.lists(SCALES, max_size=4).map(tuple), max_size=2),
    biases=st.dictionaries(NAMES, ARRAYS, max_size=2),
    weights=st.dictionaries(NAMES, ARRAYS, max_size=2),
)


# How long drawing takes depends on what else the machine does.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PLANS)
def test_what_is_written_is_read(plan):
    text = plan.to_json()
    assert Plan.from_json(text) == plan
    assert Plan.from_json(text).to_json() == text
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "p.json")
        plan.save(path)
        assert Plan.load(path) == plan
        with_arrays = bool(plan.biases or plan.weights)
        assert len(list(path.parent.iterdir())) == 1 + with_arrays


def small() -> Plan:
    return Plan(
        "ab" * 32,
        {"scheme": "int8"},
        {"t": TensorPlan(Grid("int8", (0.5,), (-128,)), "minmax")},
        {
            "t": OpPlan("CONV_2D", "integer", {1: Grid("int8", (0.5, 0.25), (0, 0), 0)}),
            "u": OpPlan("FLOOR", "float", reason="allowed"),
        },
        {"x": Grid("int8", (1.0,), (3,))},
        {"u": FLOAT},
    )


def changed(edit) -> str:
    body = json.loads(small().to_json())
    edit(body)
    return json.dumps(body)


def test_it_reads_like_this():
    body = json.loads(small().to_json())
    assert body["version"] == 1
    assert body["tensors"]["t"] == {
        "dtype": "int8",
        "scale": 0.5,
        "zero_point": -128,
        "reason": "minmax",
    }
    assert body["ops"]["t"] == {
        "op": "CONV_2D",
        "mode": "integer",
        "inputs": {"1": {"dtype": "int8", "scale": [0.5, 0.25], "zero_point": 0, "axis": 0}},
    }
    assert body["ops"]["u"] == {"op": "FLOOR", "mode": "float", "reason": "allowed"}
    assert body["outputs"] == {"u": {"dtype": "float32"}}


def test_a_hand_edited_scale_is_rounded_to_what_the_file_holds():
    def edit(body):
        body["tensors"]["t"]["scale"] = 0.1

    (scale,) = Plan.from_json(changed(edit)).tensors["t"].grid.scale
    assert scale == float(np.float32(0.1)) != 0.1


def test_a_scale_beyond_float32_is_refused():
    def edit(body):
        body["tensors"]["t"]["scale"] = 1e300

    with np.errstate(over="ignore"), pytest.raises(UsageError, match="garbles a field"):
        Plan.from_json(changed(edit))


def drop(*path):
    def edit(body):
        for key in path[:-1]:
            body = body[key]
        del body[path[-1]]

    return edit


def put(value, *path):
    def edit(body):
        for key in path[:-1]:
            body = body[key]
        body[path[-1]] = value

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        drop("tensors"),
        drop("ops"),
        drop("inputs"),
        drop("model_sha256"),
        drop("tensors", "t", "dtype"),
        drop("tensors", "t", "reason"),
        drop("tensors", "t", "zero_point"),
        drop("ops", "t", "mode"),
        put([], "tensors"),
        put("x", "tensors", "t"),
        put(0, "tensors", "t", "scale"),
        put(-1, "tensors", "t", "scale"),
        put("wide", "tensors", "t", "scale"),
        put([0.5, 0.5], "tensors", "t", "zero_point"),
        put("fast", "ops", "t", "mode"),
        put({"one": {"dtype": "int8"}}, "ops", "t", "inputs"),
        *(put(v, "tensors", "t", "scale") for v in ([], [0.5, True], [[0.5]], True, None, 10**400)),
        *(put(v, "tensors", "t", "zero_point") for v in (0.5, True, "0", [None], {}, [[0]])),
        *(put(v, "tensors", "t", "dtype") for v in (8, None, ["int8"])),
        *(put(v, "tensors", "t", "axis") for v in (-1, 1.0, True, 10**9, "0")),
        *(put(v, "tensors", "t", "bits") for v in (4.0, True, "4", [4])),
        *(put(v, "tensors", "t", "reason") for v in (None, 3, ["x"])),
        *(put(v, "ops", "t", key) for v in (3, ["x"]) for key in ("op", "root", "reason")),
        *(
            put(v, "ops", "t", "rounding")
            for v in ({"1": "sideways"}, {"a": "up"}, ["up"], {"1": 3})
        ),
        *(put(v, "ops", "t", "clamp") for v in ([1], [2, 1], [0.5, 1], [True, 1], 3, [0, 2**40])),
        *(put(3, "ops", "t", k) for k in ("narrow", "bias", "hybrid", "snap", "cast", "kernel")),
        *(put("x", "ops", "t", k) for k in ("narrow", "bias", "cast", "activation", "table")),
        put(["int32"], "ops", "t", "cast"),
        put([], "ops", "t", "table"),
        put({"y": {"dtype": 3}}, "detours"),
        *(put(v, "absorbed") for v in ({"t": [-1.0]}, {"t": [True]}, {"t": 1.0}, [1.0])),
        *(put(v, "relaxed") for v in ({"t": 1}, [1], "t", [None])),
        *(put(v, "equalization") for v in ({"t": [0.0]}, {"t": [True]}, {"t": [[1.0]]}, [1.0])),
        put(3, "model_sha256"),
        *(put(v, "config", "split_output") for v in (True, 3, "y", [3], {"y": 1})),
        *(
            put({"t": v}, kind)
            for kind in ("biases", "weights")
            for v in (
                [1, 2],
                {"dtype": "int32", "shape": [2]},
                {"dtype": "float32", "shape": [1], "values": [1]},
                {"dtype": "int8", "shape": [1], "values": [128]},
                {"dtype": "int8", "shape": [1], "values": [1.0]},
                {"dtype": "int8", "shape": [1], "values": [True]},
                {"dtype": "int8", "shape": [2], "values": [1]},
                {"dtype": "int8", "shape": [-1, -1], "values": [1]},
                {"dtype": "int8", "shape": [1] * 40, "values": [1]},
                {"dtype": ["int8"], "shape": [1], "values": [1]},
            )
        ),
        *(put(v, "config", "rules") for v in (True, [3], [{"regex": "("}])),
    ],
)
def test_a_missing_or_wrong_field_is_a_usage_error(edit):
    with pytest.raises(UsageError, match=r"my\.json lacks or garbles a field"):
        Plan.from_json(changed(edit), where="my.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", r"not a tfq plan of version 1 \(found: list\)"),
        ("{}", r"not a tfq plan of version 1 \(found: None\)"),
        ('{"version": 2}', r"not a tfq plan of version 1 \(found: 2\)"),
        ('{"version": NaN}', "NaN is no number"),
        ('{"version": [Infinity]}', "Infinity is no number"),
        ('{"version": {"x": -Infinity}}', "-Infinity is no number"),
        ('{"version": 1e999}', "1e999 is no number"),
        ('{"version": ' + "9" * 5000 + "}", "is not JSON"),
        ('{"version": "\\ud800"}', "is not JSON"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_what_is_no_plan_is_said(text, message):
    with pytest.raises(UsageError, match=message):
        Plan.from_json(text)


def test_float_ops_are_those_kept_float():
    assert set(small().float_ops) == {"u"}
    assert small().float_ops["u"].mode == KEEP_FLOAT


def test_replay_needs_the_same_model():
    check_replay(small(), "ab" * 32, {"t", "u"})
    # A retrained model of the same structure takes the same plan.
    check_replay(small(), "00" * 32, {"t", "u"})
    with pytest.raises(TfqError, match=r"names u, which this model lacks.*nothing of v"):
        check_replay(small(), "00" * 32, {"t", "v"})


def test_samples_far_beyond_the_grid_are_not_what_it_was_made_for():
    grid = Grid("int8", (0.1,), (0,))
    plan = Plan("", {}, {"x": TensorPlan(grid, "")}, {}, {"x": grid}, {"y": grid})
    for value, spanned in ((0.0, True), (20.0, True), (-25.0, True), (26.0, False), (-26.0, False)):
        assert plan.spans({"x": np.full(3, value, np.float32)}) == spanned
    assert plan.spans({"other": np.full(3, 1e9, np.float32), "x": np.zeros(0, np.float32)})
