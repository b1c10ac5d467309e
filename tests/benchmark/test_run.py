"""Models side by side: order of the runs, shape of the result, what is printed, errors."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from small_models import Net, cnn, config_of, draw, plan_of

import tfq
from tfq.benchmark.inputs import differences, random_inputs
from tfq.errors import ModelError, UsageError
from tfq.graph.model import Model
from tfq.targets import Difference, Evidence, Figure, Placement, Target

SCHEMA = json.loads(Path(tfq.__file__).with_name("targets").joinpath("schema.json").read_text())


def integer(scheme="int8"):
    return plan_of(cnn(), draw(cnn(), 4), config_of(scheme)).emit().model.to_bytes()


class Recorder:
    """A model that only notes what is done with it."""

    placement = Placement((), Evidence.HOST)
    warnings = ()

    def __init__(self, name, calls, outputs):
        self.name, self.calls, self.outputs = name, calls, outputs
        self.ran = self.fingerprint = {}

    def run(self, inputs):
        self.calls.append((self.name, "run"))
        return self.outputs

    def warm_up(self):
        self.calls.append((self.name, "warm_up"))

    def measure(self, runs, seconds):
        self.calls.append((self.name, runs))
        return runs

    def figures(self):
        return {"steady": Figure.of([1.0], "us", Evidence.HOST)}

    def op_costs(self):
        return ()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.calls.append((self.name, "closed"))


def recording(calls):
    """A target that calls its models a, b, ... and gives zeros."""
    names = iter("abc")

    class Recording(Target):
        def prepare(self, model, asked):
            shape = Model.from_bytes(model).main.outputs[0].shape
            return Recorder(next(names), calls, [np.zeros(shape, np.float32)])

    return Recording(name="recorder", title="", evidence=Evidence.HOST)


def test_models_take_turns_after_all_are_warm():
    calls = []
    result = tfq.benchmark_model([cnn(), cnn(1)], recording(calls), runs=25)
    assert [m.model for m in result.measurements] == ["model 1", "model 2"]
    jsonschema.Draft202012Validator(SCHEMA).validate(result.as_json())
    warm = [i for i, (_, what) in enumerate(calls) if what == "warm_up"]
    measured = [(n, what) for n, what in calls if isinstance(what, int)]
    first = calls.index(measured[0])
    assert max(warm) < first
    assert [n for n, _ in measured] == list("ab") * 10
    assert sum(runs for n, runs in measured if n == "a") == 25
    assert {runs for _, runs in measured} == {2, 3}
    assert calls[-2:] == [("b", "closed"), ("a", "closed")]


def test_a_slow_model_is_left_when_its_time_is_over(monkeypatch):
    calls = []
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr("tfq.benchmark.run.time.monotonic", lambda: next(clock))
    tfq.benchmark_model([cnn()], recording(calls), runs=100, seconds=10)
    assert sum(isinstance(what, int) for _, what in calls) == 3


def test_every_field_of_the_schema_is_described():
    def objects(node):
        if isinstance(node, dict):
            if "properties" in node and "required" in node:
                yield node
            for value in node.values():
                yield from objects(value)

    found = list(objects(SCHEMA))
    assert len(found) > 5
    for o in found:
        assert o["required"] == list(o["properties"])
        assert o["additionalProperties"] is False
        assert all(field.get("description") for field in o["properties"].values())


def test_random_inputs_fill_the_grid():
    for scheme, dtype in (("int8", np.int8), ("int16x8", np.int16)):
        model = Model.from_bytes(integer(scheme))
        samples = random_inputs(model, 40)
        values = np.stack([s[0] for s in samples])
        assert values.dtype == dtype
        limits = np.iinfo(dtype)
        assert values.min() < 0.98 * limits.min
        assert values.max() > 0.98 * limits.max
    net = Net()
    table = net.const(np.ones((2, 3), np.float32))
    y = net.op("ADD", net.input(4), net.op("CAST", net.input(4, dtype="int32"), dtype="float32"))
    assert table.size
    indices = random_inputs(net.model(y), 5)
    assert {int(v) for s in indices for v in s[1]} == {0, 1}


def test_differences():
    net = Net()
    model = net.model(net.op("ABS", net.input(4), out="y"))
    inf, nan = np.inf, np.nan
    a, b = np.float32([[0, inf, nan, 2]]), np.float32([[0, inf, nan, 1.5]])
    assert differences(model, [[a], [a]], [[a], [b]]) == (Difference("y", "", 0.5, 0.125),)
    assert differences(model, [[a]], [[np.float32([[0, 1, nan, 2]])]])[0] == Difference(
        "y", "", 0.0, 0.25
    )
    low, high = np.int8([-128]), np.int8([127])
    assert differences(model, [[low]], [[high]])[0] == Difference("y", "LSB", 255.0, 1.0)


def test_without_reference_kernels_that_is_said():
    net = Net()
    model = net.bytes(net.op("ABS", net.input(4), out="y"))

    def refuse(*_):
        raise ModelError("it ended.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfq.targets.cpu.CpuTarget.prepare", refuse)
        (m,) = tfq.benchmark_model(model, recording([])).measurements
    assert m.differences == ()
    assert "not compared with the reference kernels': it ended." in m.warnings[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "threads must be a positive whole number. Received: 0"),
        ({"runs": -1}, "runs must be"),
        ({"seconds": 0}, "seconds must be a positive number"),
        ({"data": "synthetic"}, "data is for converting a source, and there is none"),
        ({"kernels": "fast"}, "Unknown kernels 'fast'. Choose one of: xnnpack, builtin"),
        ({"target": "cup"}, "Unknown target 'cup'"),
        ({"target": []}, "no target"),
        ({"target": Target(name="t", title="")}, "only holds models"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UsageError, match=message):
        tfq.benchmark_model(cnn(), **options)


def test_wrong_models(tmp_path):
    refused = Model.from_bytes(cnn())
    refused.main.ops[0].version = 77
    with pytest.raises(ModelError, match=r"model 2 on cpu: LiteRT .* refuses the model"):
        tfq.benchmark_model([cnn(), refused.to_bytes()])
    with pytest.raises(ModelError, match="damaged"):
        tfq.benchmark_model(cnn()[:500])
    with pytest.raises(UsageError, match="no model to measure"):
        tfq.benchmark_model([])
    (tmp_path / "net.tflite").write_bytes(cnn())
    with pytest.raises(UsageError, match=r"no model at .*Did you mean 'net.tflite'"):
        tfq.benchmark_model(tmp_path / "nett.tflite")


@pytest.mark.slow  # Seven processes.
def test_the_command(tmp_path):
    for folder, model in (("a", cnn()), ("b", integer())):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.tflite").write_bytes(model)
    argv = ["a/net.tflite", "b/net.tflite", "--runs=20", "--json=figures.json"]
    done = subprocess.run(
        [sys.executable, "-m", "tfq.benchmark", *argv],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "measured-on-host" in done.stdout
    assert "  ops       net.tflite: 7 of 7 ops on XNNPACK, in 1 partition" in lines
    report = json.loads((tmp_path / "figures.json").read_text())
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    f, q = report["measurements"]
    assert [m["model"]["name"] for m in (f, q)] == ["net.tflite", "b/net.tflite"]
    assert f["model"]["bytes"] == len(cnn())
    assert f["placement"]["fast"] == len(f["placement"]["ops"]) == 7
    assert set(q["figures"]) == {"init", "first", "steady", "memory"}
    assert q["figures"]["steady"]["count"] == 20
    assert q["differences"][0]["unit"] == "LSB"
    assert q["differences"][0]["most"] <= 1
    assert f["differences"][0]["most"] < 1e-5
    f["figures"]["steady"]["evidence"] = "emulated"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(report)


@pytest.mark.slow
def test_a_source_is_converted_with_its_float_form_beside(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, name="head")])
    model.save(tmp_path / "net.keras")
    f, q = tfq.benchmark_model(tmp_path / "net.keras", runs=10, seconds=0.2).measurements
    assert (f.model, q.model) == ("net.keras float32", "net.keras int8")
    assert q.differences[0].unit == "LSB"
    assert any("not calibrated" in w for w in q.warnings)
    assert not any("not calibrated" in w for w in f.warnings)
