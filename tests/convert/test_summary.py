"""What a conversion says about itself, as data and as the lines a person reads."""

import copy
import json
import textwrap

import numpy as np
import pytest
from small_models import Net, cnn

from tfq.convert import convert_model
from tfq.convert.summary import lines


@pytest.fixture(scope="module")
def summary():
    x = np.random.default_rng(0).normal(0, 1, (64, 8, 8, 2)).astype(np.float32)
    return convert_model(cnn(), (x, np.arange(64) % 5)).summary


def rows(summary):
    """The text behind each row's name, joined over its lines."""
    found = {}
    name = ""
    for line in lines(summary):
        name = line[2:12].strip() or name
        found.setdefault(name, []).append(line[12:])
    return {n: " ".join(t.strip() for t in texts) for n, texts in found.items()}


def test_lines_fit_and_say_what_was_done(summary):
    text = lines(summary)
    assert max(len(line) for line in text) <= 80
    found = rows(summary)
    assert found["scheme"] == "int8: full integer"
    assert found["input"].startswith("x0: int8 [1,8,8,2], real = ")
    assert found["output"].startswith("y0: int8 [1,5], real = (q + 128) * 0.00390625")
    assert "CONV_2D 2" in found["ops"]
    assert "56 calibrated" in found["data"]
    assert "dB" in found["error"]
    assert "8 unseen samples" in found["error"]
    assert "XNNPACK and reference kernels" in found["runs on"]
    assert found["accuracy"].endswith("of 64 samples, 56 of them calibrated on")
    assert found["seconds"]


def test_weights_that_are_not_all_of_8_bits_are_counted(summary):
    assert "weights" not in rows(summary)
    narrow = copy.deepcopy(summary)
    narrow["model"]["weights"] = {
        "int8": {"constants": 3, "values": 500, "bytes": 500},
        "int32": {"constants": 4, "values": 9, "bytes": 36},
        "int4": {"constants": 1, "values": 1001, "bytes": 501},
    }
    narrow["plan"]["wider_weights"] = {"a": "2-bit weights in int4: why", "b": "2-bit weights in x"}
    assert rows(narrow)["weights"] == (
        "1,001 in int4 (0.5 KB), 500 in int8 (0.5 KB) 2-bit weights in int4: why: 1 layer "
        "2-bit weights in x: 1 layer"
    )


def test_what_to_do_about_a_collapse_with_narrow_weights():
    x = np.random.default_rng(0).normal(0, 1, (64, 8, 8, 2)).astype(np.float32)
    net = Net()
    tensor = net.input(1, 8, 8, 2, name="x")
    for i in range(6):
        tensor = net.conv(tensor, 4, size=1, out=f"c{i}")
    summary = convert_model(net.bytes(tensor), x, weight_bits=2, weights="minmax").summary
    (warning,) = summary["warnings"]
    assert "--weight_bits=REGEX=8" in warning
    assert "int16x8" not in warning


def test_how_to_read_a_boundary_tensor(summary):
    (x,) = summary["model"]["inputs"]
    assert (x["name"], x["tensor"], x["dtype"], x["shape"]) == ("x0", "image", "int8", [1, 8, 8, 2])
    assert x["scale"] > 0
    (y,) = summary["model"]["outputs"]
    assert (y["name"], y["scale"], y["zero_point"]) == ("y0", 1 / 256, -128)


def test_warnings_and_islands_are_shown(summary):
    changed = copy.deepcopy(summary)
    changed["warnings"] = ["the sky is falling"]
    changed["model"] |= {"full_integer": False, "float_tensors": 3}
    changed["plan"]["float_islands"] = {
        f"t{i}": {"op": "ATAN2", "reason": "no kernel", "layer": "angle" if i == 0 else None}
        for i in range(30)
    }
    found = rows(changed)
    assert found["WARNING"] == "the sky is falling"
    assert found["scheme"] == "int8: NOT full integer, 3 float tensors"
    assert "ATAN2 of layer angle: no kernel" in found["float"]
    assert "ATAN2 of t3: no kernel" in found["float"]
    assert "and 14 more" in found["float"]


def test_exact_outputs_are_said_to_be_exact():
    net = Net()
    source = net.bytes(net.dense(net.input(1, 4, name="x"), 3, out="y"))
    summary = convert_model(source, scheme="float32").summary
    assert summary["proof"]["outputs"][0]["sqnr_db"] is None
    assert "y0: exact" in rows(summary)["error"]
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize(("count", "bias"), [(40, "on other samples"), (3, "too few samples")])
def test_what_was_calibrated_is_not_called_unseen(count, bias):
    x = np.random.default_rng(0).normal(0, 1, (count, 8, 8, 2)).astype(np.float32)
    result = convert_model(cnn(), (x, np.arange(count) % 5), equalization="cross_layer")
    text = " ".join(lines(result.summary))
    assert "unseen" not in text
    found = rows(result.summary)
    assert found["accuracy"].endswith(f"of {count} samples, all calibrated on")
    assert bias in found["bias"]
    assert ("its effect not measured" in found["equalized"]) == (count == 3)
    # Without unseen samples the error is that of the judge's own, if there was one.
    assert ("which improvements were judged by" in " ".join(text.split())) == (count == 40)
    # What the plan was made from is not known when it is replayed.
    replayed = rows(convert_model(cnn(), (x, np.arange(count) % 5), plan=result.plan).summary)
    assert replayed["accuracy"].endswith(f"of {count} samples")
    assert replayed["data"] == f"data (tuple), {count} samples"


def test_without_biases_there_is_nothing_to_correct():
    net = Net()
    x = np.random.default_rng(0).normal(0, 1, (60, 4)).astype(np.float32)
    summary = convert_model(net.bytes(net.op("TANH", net.input(1, 4, name="x"))), x).summary
    assert rows(summary)["bias"] == "not corrected: no layer has an integer bias"


def test_a_correction_that_helps_nothing_is_said(summary):
    changed = copy.deepcopy(summary)
    change = {"output": "a", "part": "", "before_db": 30.0, "after_db": 33.0}
    gain = {**change, "loss_db": -3.0, "loses": False, "gains": True}
    loss = {**change, "part": "[..., 4:6]", "loss_db": 3.1, "loses": True, "gains": False}
    for outputs, kept, text in (
        ([], "", "not corrected: no output would gain on other samples"),
        ([gain, loss], "", "not corrected: a[..., 4:6] would lose 3.1 dB on other samples"),
        ([gain], "1 of 2 layers", "1 of 2 layers corrected; a gains 3.0 dB on other samples"),
        (
            [gain, gain],
            "2 of 2 layers",
            "2 of 2 layers corrected; a gains 3.0 dB on other samples, none loses",
        ),
    ):
        changed["improvements"]["bias_correction"] |= {"kept": kept, "outputs": outputs}
        assert rows(changed)["bias"] == text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (4_000_000, 1_000_000, "4.00 MB -> 1.00 MB (4.0 times smaller)"),
        (3000, 3680, "3.0 KB -> 3.7 KB"),
    ],
)
def test_sizes(summary, before, after, text):
    changed = copy.deepcopy(summary)
    changed["source"]["float_bytes"], changed["model"]["bytes"] = before, after
    assert rows(changed)["size"] == text


def test_long_text_is_wrapped_under_its_own_column(summary):
    changed = copy.deepcopy(summary)
    changed["warnings"] = [textwrap.dedent("word " * 60).strip()]
    shown = [line for line in lines(changed) if "word" in line]
    assert len(shown) > 3
    assert all(line.startswith(" " * 12) for line in shown[1:])


def test_class_numbers_agree_or_not(summary):
    changed = copy.deepcopy(summary)
    changed["model"]["outputs"][0] |= {"dtype": "int32", "scale": None, "zero_point": None}
    changed["proof"]["outputs"][0] |= {"max_lsb": None, "agreement": 0.985}
    assert rows(changed)["error"].startswith("y0: the same in 98.5% of places on ")


def test_an_output_with_two_names_is_proven_under_both():
    net = Net()
    y = net.dense(net.input(1, 4), 3)
    x = np.random.default_rng(0).normal(0, 1, (8, 4)).astype(np.float32)
    proof = convert_model(net.bytes(y, y), x).summary["proof"]
    first, second = proof["outputs"]
    assert (first["name"], second["name"]) == ("y0", "y1")
    assert first["sqnr_db"] == second["sqnr_db"]
    assert set(proof["reference_kernels_lsb"]) == {"y0", "y1"}
