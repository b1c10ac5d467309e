"""Whole conversions replayed from the plan that they wrote: the same file, byte for byte.

`tests/graph/test_replay.py` has every op.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from small_models import ACT, Net, cnn, draw, plan_of

from tfq.calibrate.rules import get_rule
from tfq.convert import convert_model
from tfq.convert.summary import lines
from tfq.errors import UsageError
from tfq.graph.model import Model
from tfq.plan.config_record import read_config
from tfq.plan.evidence import read_evidence
from tfq.plan.plan import Plan
from tfq.plan.scheme import LayerRule
from tfq.quantize.emit import emit

DATA = Path(__file__).parents[1] / "unroll" / "data"


def unbalanced():
    """Channels that differ 30 times in range, and outliers in the samples."""
    net = Net(3)
    x = net.input(1, 8, 8, 2, name="x")
    gains = 2.0 ** np.linspace(0, 5, 6)
    w = net.rng.normal(0, 0.3, (6, 3, 3, 2)) * gains[:, None, None, None]
    a = net.conv(x, 6, weights=w, bias=np.zeros(6), act=ACT.RELU, out="a")
    w = net.rng.normal(0, 0.3, (4, 1, 1, 6)) / gains
    b = net.conv(a, 4, size=1, weights=w, act=ACT.RELU6, out="b")
    return net.bytes(net.dense(net.mean(b), 3, out="y"))


def samples(count, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (count, 8, 8, 2)) * rng.choice([1, 1, 1, 4], (count, 1, 1, 1))
    return x.astype(np.float32)


OPTIONS = {
    "everything": {"quality": "best", "equalization": "cross_layer"},
    "fast": {"quality": "fast"},
    "int16x8": {"scheme": "int16x8", "weights": "mse"},
    "islands": {
        "exclude": ["^b$"],
        "rules": [LayerRule(regex="^a$", activations="int16", weight_bits=4)],
        "input_type": "uint8",
        "input_range": (-8.0, 8.0),
        "output_type": "float32",
    },
    "dynamic": {"scheme": "dynamic", "weight_bits": 4},
    "weight_only": {"scheme": "weight_only"},
    "float16": {"scheme": "float16"},
}


@pytest.mark.parametrize(
    "name",
    [n if n == "everything" else pytest.param(n, marks=pytest.mark.slow) for n in OPTIONS],
)
def test_what_was_converted(name, tmp_path):
    options = OPTIONS[name]
    source, path = unbalanced(), tmp_path / "plan.json"
    result = convert_model(source, samples(64), **options)
    result.plan.save(path)
    assert Plan.load(path) == result.plan
    scheme = {"scheme": options.get("scheme", "int8")}
    again = convert_model(source, samples(64), plan=path, **scheme)
    assert again.model == result.model
    assert convert_model(source, plan=Plan.from_json(again.plan.to_json()), **scheme).model == (
        result.model
    )
    if name == "everything":
        assert result.plan.equalization
        assert any(o["kept"] for o in result.summary["improvements"].values())
        # What its own run was given, or did without being told, says nothing else.
        said = {**options, "bias_correction": "sequential", "calibration": "auto"}
        replayed = convert_model(source, plan=path, **said)
        assert replayed.model == result.model
        # What the file holds is shown, as of the plan.
        made = replayed.summary["plan"]["improvements"]
        assert made == result.summary["plan"]["improvements"] != []
        assert replayed.summary["improvements"] == {}
        shown = " ".join(" ".join(lines(replayed.summary)).split())
        assert "plan replayed; when it was made, improvements kept equalized" in shown
        # Defaults too, where they are said.
        for option, other, was in (
            ("quality", "fast", "best"),
            ("quality", "default", "best"),
            ("calibration", "robust", "auto"),
            ("weights", "minmax", "auto"),
            ("equalization", "auto", "cross_layer"),
            ("bias_correction", "none", "sequential"),
        ):
            with pytest.raises(UsageError, match=f"{option}={other} would.*with {option}={was}"):
                convert_model(source, plan=path, **{option: other})


def test_the_record_of_improvements_is_of_the_plan_that_was_made():
    source = unbalanced()
    result = convert_model(source, samples(64))
    record = read_evidence(Model.from_bytes(result.model))
    assert record == result.plan.improvements != ()
    # Another order, and what is for the record only, change nothing.
    same = json.loads(result.plan.to_json())
    same["ops"] = dict(reversed(same["ops"].items()))
    same["config"]["weights"] = "mse"
    edited = json.loads(result.plan.to_json())
    edited["tensors"]["b"]["scale"] *= 1.5
    biases = json.loads(result.plan.to_json())
    biases["biases"] = {"y": {"dtype": "int32", "shape": [3], "values": [1, 2, 3]}}
    for body, is_same in ((same, True), (edited, False), (biases, False)):
        again = convert_model(source, plan=Plan.from_json(json.dumps(body)))
        assert again.plan.improvements == (record if is_same else ())
        assert read_evidence(Model.from_bytes(again.model)) == again.plan.improvements
        said = " ".join(" ".join(lines(again.summary)).split())
        assert ("plan edited since it was made" in said) is not is_same
        # Replayed once more, it is a plan like others.
        assert "plan" not in convert_model(source, plan=again.plan).summary["notes"]


def test_ranges_biases_and_roundings_of_a_plan(tmp_path):
    source, path = cnn(), tmp_path / "plan.json"
    planned = plan_of(source, draw(source, 20))
    ranges = {"conv": get_rule("percentile:90"), "point": get_rule("minmax")}
    config = dataclasses.replace(planned.config, ranges=ranges)
    candidate = planned.candidate().reconfigured(config)
    rng = np.random.default_rng(0)
    biases = {
        n: t.values() + rng.integers(-5, 6, t.shape).astype(t.dtype)
        for n, t in candidate.emitted.biases.items()
    }
    ops = {op.outputs[0].name: op for op in candidate.emitted.model.main.ops}
    weights = {n: np.maximum(ops[n].input(1).values(), -126) - 1 for n in ("conv", "depthwise")}
    plan = dataclasses.replace(candidate.plan, biases=biases, weights=weights)
    want = candidate.replanned(plan).bytes
    assert want != candidate.bytes != planned.candidate().bytes
    plan.save(path)
    assert emit(planned.prepared.model, Plan.load(path)).model.to_bytes() == want
    for data in (None, (draw(source, 20)[i]["image"][0] for i in range(20))):
        assert convert_model(source, data, plan=path).model == want
    assert read_config(Model.from_bytes(want))["ranges"]["conv"] == ranges["conv"].get_config()
    # Both are edited where they are: as text, or in the file beside it.
    body = json.loads(plan.to_json())
    body["biases"]["logits"]["values"][0] += 3
    edited = convert_model(source, plan=Plan.from_json(json.dumps(body)))
    ops = {op.outputs[0].name: op for op in Model.from_bytes(edited.model).main.ops}
    bias = ops["logits"].input(2)
    assert bias.values()[0] == biases["logits"][0] + 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gru", "fused_lstm"])
def test_recurrent_layers(name, tmp_path):
    source, path = (DATA / f"{name}.tflite").read_bytes(), tmp_path / "plan.json"
    data = draw(source, 16)
    result = convert_model(source, {n: np.concatenate([s[n] for s in data]) for n in data[0]})
    result.plan.save(path)
    assert convert_model(source, plan=path).model == result.model
