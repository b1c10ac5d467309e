"""`python -m tfq.inspect` on small models made by hand."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tfq.graph.describe import describe
from tfq.graph.model import (
    DTYPE_CODES,
    Graph,
    Model,
    Op,
    Quant,
    Signature,
    Tensor,
    numpy_dtype,
    options_type,
)
from tfq.inspect import render


def dense(float_tail: bool = False) -> Model:
    """An int8 dense layer, relu fused; with a DEQUANTIZE after it on request."""
    x = Tensor("x:0", (1, 4), "int8", quant=Quant.per_tensor(0.5, -128))
    weight_grid = Quant(np.array([0.1, 0.2], np.float32), np.zeros(2, np.int64), 0)
    weights = np.array([[10, 0, -10, 5], [127, -127, 1, 2]], np.int8)
    w = Tensor("layer/w", (2, 4), "int8", weights, weight_grid)
    b = Tensor("layer/b", (2,), "int32", np.array([3, -4], np.int32))
    y = Tensor("layer/relu", (1, 2), "int8", quant=Quant.per_tensor(0.25, 10))
    options = options_type("FullyConnectedOptions")()
    options.fusedActivationFunction = 1
    ops = [Op("FULLY_CONNECTED", [x, w, b], [y], options, version=4)]
    out = y
    if float_tail:
        out = Tensor("real", (1, 2), "float32")
        ops.append(Op("DEQUANTIZE", [y], [out], version=2))
    graph = Graph("main", ops, [x], [out])
    signature = Signature("serving_default", {"x": x}, {"y": out})
    return Model([graph], [signature], {"min_runtime_version": b"1.14.0\0\0"}, "made by hand")


@pytest.fixture
def inspect(tmp_path):
    def call(model, *argv, columns="80"):
        path = tmp_path / "model.tflite"
        path.write_bytes(model if isinstance(model, bytes) else model.to_bytes())
        env = {**os.environ}
        env.pop("COLUMNS", None)
        if columns:
            env["COLUMNS"] = columns
        return subprocess.run(
            [sys.executable, "-m", "tfq.inspect", str(path), *argv],
            capture_output=True,
            text=True,
            timeout=60,
            env=env,
        )

    return call


def test_describe_reads_grids_ranges_and_counts():
    data = dense().to_bytes()
    info = describe(data)
    assert info["fully_integer"]
    assert info["float_tensors"] == []
    assert info["bytes"] == len(data)
    assert info["min_runtime_version"] == "1.14.0"
    assert info["weights"] == {
        "int8": {"constants": 1, "values": 8, "bytes": 8},
        "int32": {"constants": 1, "values": 2, "bytes": 8},
    }
    (graph,) = info["graphs"]
    assert graph["op_counts"] == [
        {
            "op": "FULLY_CONNECTED",
            "version": 4,
            "count": 1,
            "inputs": "int8 int8 int32",
            "outputs": "int8",
        }
    ]
    assert graph["ops"][0]["activation"] == "relu"
    assert graph["ops"][0]["reads"] == ["in"]
    x, w, b, y = graph["tensors"]
    assert (x["role"], x["min"], x["max"]) == ("input", 0.0, 127.5)
    assert (y["role"], y["min"], y["max"]) == ("output", -34.5, 29.25)
    assert (w["role"], w["axis"], w["zero_points"]) == ("constant", 0, [0, 0])
    assert w["min"] == pytest.approx(-25.4)
    assert w["max"] == pytest.approx(25.4)
    assert (b["min"], b["max"], b["scales"]) == (-4.0, 3.0, [])


def test_a_float_island_is_named():
    info = describe(dense(float_tail=True).to_bytes())
    assert not info["fully_integer"]
    assert info["float_tensors"] == [
        {"graph": "main", "name": "real", "dtype": "float32", "constant": False, "op": "DEQUANTIZE"}
    ]
    text = render("m.tflite", info)
    assert "not fully integer: 1 of 5 tensors are not" in text
    assert "float32  DEQUANTIZE  real" in text


@pytest.mark.parametrize("dtype", DTYPE_CODES)
def test_tensors_of_every_type_are_described(dtype):
    grid = Quant.per_tensor(0.5, 1)
    x = Tensor("x", (1, 2), dtype, quant=grid)
    tensors = [x, Tensor("y", (1, 2), dtype)]
    if dtype not in ("string", "resource", "variant"):
        tensors.append(Tensor("c", (2,), dtype, np.ones(2, numpy_dtype(dtype)), grid))
    model = Model([Graph("main", [Op("ADD", [x, tensors[-1]], [tensors[1]])], [x], [tensors[1]])])
    info = describe(model.to_bytes())
    assert "y" in render("m.tflite", info, ops=True, tensors=True)
    spans = {t["name"]: (t["min"], t["max"]) for t in info["graphs"][0]["tensors"]}
    narrow = {"int8": (-64.5, 63.0), "uint8": (-0.5, 127.0), "int4": (-4.5, 3.0)}
    assert spans["x"] == narrow.get(dtype, spans["x"])
    if dtype.startswith(("float", "bfloat", "complex", "string", "bool")) or "64" in dtype:
        assert spans["x"] == (None, None)


def test_packed_and_shared_constants_count_as_stored():
    model = dense()
    op = model.main.ops[0]
    w = op.input(1)
    nibbles = np.array([[7, 0, -7, 5], [1, -1, 2, 3]], np.int8)
    w4 = Tensor("w4", (2, 4), "int4", nibbles, w.quant)
    op.inputs[1] = w4
    twin = Tensor("layer/b2", (2,), "int32", op.input(2).data)
    y2 = Tensor("y2", (1, 2), "int8", quant=Quant.per_tensor(0.25, 10))
    model.main.ops.append(Op("FULLY_CONNECTED", [op.input(0), w4, twin], [y2], op.options, 4))
    model.main.outputs.append(y2)
    weights = describe(model.to_bytes())["weights"]
    assert weights["int4"] == {"constants": 1, "values": 8, "bytes": 4}
    assert weights["int32"] == {"constants": 1, "values": 2, "bytes": 8}


def test_empty_intermediates_of_recurrent_ops_are_no_floats():
    model = dense()
    model.main.ops[0].intermediates = [Tensor("placeholder", (0,), "float32")]
    assert describe(model.to_bytes())["fully_integer"]
    model.main.ops[0].intermediates = [Tensor("used", (3,), "float32")]
    found = describe(model.to_bytes())["float_tensors"]
    assert [(f["name"], f["op"]) for f in found] == [("used", "FULLY_CONNECTED")]


def test_every_subgraph_is_looked_at():
    model = dense()
    inner = Tensor("inner", (1,), "float32")
    model.graphs.append(Graph("body", [], [inner], [inner]))
    info = describe(model.to_bytes())
    assert [f["graph"] for f in info["float_tensors"]] == ["body"]
    assert "graph body: 0 ops, 1 tensor" in render("m.tflite", info)


def test_without_signature_arguments_are_tensors():
    model = dense()
    model.signatures = []
    (only,) = describe(model.to_bytes())["signatures"]
    assert only["key"] is None
    assert [a["argument"] for a in only["inputs"]] == ["x:0"]


def test_the_command_fits_80_columns(inspect):
    model = dense()
    model.main.ops[0].outputs[0].name = "a/very/long/scope/" * 6 + "relu;" + "tail/" * 20
    done = inspect(model, "--ops", "--tensors")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines[1:])) <= 80  # The first is the path.
    assert "  fully integer" in lines
    assert any("needs runtime 1.14.0" in line for line in lines)
    assert any(
        line.split()[:4] == ["in", "x", "int8", "[1,4]"] and line.endswith("zero point -128")
        for line in lines
    )
    ops = next(line for line in lines if "FULLY_CONNECTED relu" in line)
    assert ops.endswith("scope/relu")
    assert "…" in ops
    assert any("2 on axis 0, 0" in line for line in lines)


def test_a_pipe_gets_whole_names(inspect):
    model = dense()
    model.main.ops[0].outputs[0].name = "a/very/long/scope/" * 6 + "relu"
    done = inspect(model, "--ops", columns=None)
    assert "a/very/long/scope/" * 6 + "relu" in done.stdout


def test_ops_out_of_order_are_shown_as_they_stand_and_that_is_said():
    model = dense(float_tail=True)
    assert "stand before" not in render("m", describe(model.to_bytes()))
    model.main.ops.reverse()
    info = describe(model.to_bytes())
    assert [op["op"] for op in info["graphs"][0]["ops"]] == [op.label for op in model.main.ops]
    assert "ops stand before what they read" in render("m", info)


def test_json_holds_what_describe_says(inspect):
    done = inspect(dense(float_tail=True), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    info = json.loads(done.stdout)
    assert info.pop("file").endswith("model.tflite")
    assert info == describe(dense(float_tail=True).to_bytes())


def test_control_characters_stay_off_the_terminal(inspect):
    model = dense()
    model.main.ops[0].outputs[0].name = "evil\x1b[2Jname"
    done = inspect(model, "--ops")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "evil?[2Jname" in done.stdout


def test_damaged_files_are_one_error(inspect):
    whole = dense().to_bytes()
    for damaged in (b"", b"no model", whole[: len(whole) // 2], whole[:4] + b"XXXX" + whole[8:]):
        done = inspect(damaged)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("error: Cannot read ")
        assert len(done.stderr.splitlines()) == 1


def test_flipped_bits_never_escape_as_another_exception():
    from tfq.errors import ModelError

    whole = bytearray(dense().to_bytes())
    rng = np.random.default_rng(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(300):
        flipped = bytearray(whole)
        for position in rng.integers(0, len(whole), 3):
            flipped[position] ^= 1 << int(rng.integers(8))
        try:
            render("m.tflite", describe(bytes(flipped)), ops=True, tensors=True, width=80)
            outcomes["read"] += 1
        except ModelError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 10
    assert outcomes["read"] > 10


@pytest.mark.parametrize(
    ("path", "message"),
    [("missing.tflite", "There is no file"), (".", "is a folder"), (None, "FILE is missing")],
)
def test_wrong_paths_are_exit_code_2(path, message, tmp_path):
    argv = [str(tmp_path / path)] if path else []
    done = subprocess.run(
        [sys.executable, "-m", "tfq", "inspect", *argv], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_no_error(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(dense().to_bytes())
    done = subprocess.run(
        f"{sys.executable} -m tfq.inspect {path} --json | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.returncode == 0
