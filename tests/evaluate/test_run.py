"""Evaluations from models and data to a report."""

import json

import numpy as np
import pytest
from classifiers import classifier, labelled
from small_models import ACT, Net

from tfq.convert import convert_model
from tfq.errors import DataError, ModelError, UsageError
from tfq.evaluate.run import evaluate_model
from tfq.evaluate.samples import one_by_one, rows_of_a_block
from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.interface import ArgSpec
from tfq.graph.model import Model
from tfq.plan.config_record import read_config
from tfq.report import check, to_json
from tfq.runtime import Runner


def answers(model, samples):
    read, runner = Model.from_bytes(model), Runner(model)
    feed, name = InputQuantizer(read), read.main.inputs[0].name
    found = [dequantized(read, runner.run(feed({name: v[None]}))) for v in samples]
    return np.array([next(iter(f.values())).argmax() for f in found])


@pytest.fixture(scope="module")
def result():
    return evaluate_model(list(classifier()), labelled(), layer_samples=8, probes=32)


def metric(report, name, data=1):
    return next(m for m in report["metrics"] if m["name"] == name and m["data"] == data)


def test_accuracy_is_that_of_the_interpreter_one_sample_at_a_time(result):
    data = labelled()
    values = {v["model"]: v["value"] for v in metric(result.report, "top1")["values"]}
    for name, model in zip(("model 1", "model 2"), classifier(), strict=True):
        assert values[name] == pytest.approx(100 * np.mean(answers(model, data["x0"]) == data["y"]))
    assert values["model 1"] == 90.0


def test_flips_and_differences_are_paired(result):
    data = labelled()
    one, other = (answers(m, data["x0"]) for m in classifier())
    (row,) = result.report["agreement"]
    assert row["same"] == np.mean(one == other)
    assert row["right_to_wrong"] == np.sum((one == data["y"]) & (other != data["y"]))
    assert row["wrong_to_right"] == np.sum((one != data["y"]) & (other == data["y"]))
    (d,) = metric(result.report, "top1")["differences"]
    assert d["value"] == pytest.approx(
        100 * np.mean((other == data["y"]) * 1.0 - (one == data["y"]))
    )
    assert d["low"] <= d["value"] <= d["high"]
    assert 0 < d["p"] <= 1


def test_the_report_fits_its_schema_and_has_every_part(result):
    report = result.report
    check(report)
    assert json.loads(to_json(report)) == json.loads(json.dumps(report))
    assert report["task"]["name"] == "classification"
    assert [m["reference"] for m in report["models"]] == [True, False]
    assert {b["name"] for b in report["behaviour"]} >= {"flips_noise", "moved_noise", "roughness"}
    assert np.sum(report["confusion"][0]["matrix"]) == 200
    (layers,) = report["layers"]
    assert layers["model"] == "model 2"
    assert len(layers["tensors"]) > 5
    assert layers["samples"] >= 1
    assert report["verdict"]["status"] in ("good", "doubtful")
    assert "top-1 accuracy" in report["verdict"]["text"]


def test_the_distance_of_outputs_is_measured(result):
    data = labelled()
    source, int8 = classifier()
    read = Model.from_bytes(int8)
    feed, a, b = InputQuantizer(read), Runner(source), Runner(int8)
    name = read.main.inputs[0].name
    expected = np.concatenate([next(iter(a.run({name: v[None]}).values())) for v in data["x0"]])
    got = np.concatenate(
        [next(iter(dequantized(read, b.run(feed({name: v[None]}))).values())) for v in data["x0"]]
    )
    (row,) = result.report["outputs"]
    off = got.astype(np.float64) - expected
    assert row["max_abs"] == pytest.approx(np.abs(off).max(), rel=1e-4)
    db = 10 * np.log10(np.sum(expected.astype(np.float64) ** 2) / np.sum(off**2))
    assert row["sqnr_db"] == pytest.approx(db, rel=1e-4)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_evaluation_gives_the_same_bytes(result, workers):
    again = evaluate_model(
        list(classifier()), labelled(), layer_samples=8, probes=32, workers=workers
    )
    assert to_json(again.report) == to_json(result.report)


def test_data_without_labels_is_compared_with_the_reference():
    unlabelled = {"x0": labelled()["x0"]}
    report = evaluate_model(list(classifier()), unlabelled, layers=False, probes=0).report
    check(report)
    assert all(not m["name"].startswith("top") for m in report["metrics"])
    assert any("no labels" in w for w in report["warnings"])
    (row,) = report["agreement"]
    assert row["right_to_wrong"] is None
    assert row["same"] > 0.9
    assert "the same answer on" in report["verdict"]["text"]
    with pytest.raises(DataError, match=r"No labels in .*, which top1 cannot do without"):
        evaluate_model(list(classifier()), unlabelled, metrics=["top1"])


def test_one_model_alone_has_its_accuracy_and_nothing_to_compare_with():
    report = evaluate_model(classifier()[1], labelled(), probes=0).report
    check(report)
    assert report["verdict"]["status"] == "none"
    assert report["metrics"][0]["differences"] == []
    assert any("no float model" in w for w in report["warnings"])


def test_a_second_data_set_shows_what_generalises():
    report = evaluate_model(
        list(classifier()), labelled(), second_data=labelled(120, 9), layers=False, probes=0
    ).report
    check(report)
    assert report["second_data"]["samples"] == 120
    first, second = metric(report, "top1", 1), metric(report, "top1", 2)
    gap = next(b for b in report["behaviour"] if b["name"] == "gap_top1")
    for a, b, g in zip(first["values"], second["values"], gap["values"], strict=True):
        assert g["value"] == pytest.approx(a["value"] - b["value"])


def test_a_generator_is_read_once_and_gives_the_same_scores(result):
    data = labelled()

    def batches():
        for k in range(0, 200, 23):
            yield data["x0"][k : k + 23], data["y"][k : k + 23]

    report = evaluate_model(list(classifier()), batches(), layers=False, probes=0).report
    assert metric(report, "top1") == metric(result.report, "top1")


def test_regression():
    net = Net()
    x = net.input(1, 6)
    model = net.bytes(net.dense(x, 2, out="y"))
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 1, (50, 6)).astype(np.float32)
    runner = Runner(model)
    name = runner.inputs[0]["name"]
    y = np.concatenate([next(iter(runner.run({name: s[None]}).values())) for s in samples])
    report = evaluate_model(model, {"x0": samples, "y": y + 0.5}, probes=8).report
    check(report)
    assert report["task"]["name"] == "regression"
    assert metric(report, "mae")["values"][0]["value"] == pytest.approx(0.5, rel=1e-5)
    assert all(not b["name"].startswith("flips") for b in report["behaviour"])


def mean_margin(labels, outputs):
    """A user's own metric: the mean score of the right class."""
    return outputs[np.arange(len(labels)), labels]


def test_a_metric_of_ones_own():
    name = f"{__name__}:mean_margin"
    report = evaluate_model(
        list(classifier()), labelled(), metrics=["top1", name], layers=False, probes=0
    ).report
    own = report["metrics"][1]
    assert 0 < own["values"][0]["value"] <= 1
    assert own["differences"][0]["low"] is not None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": np.r_[np.full(199, 0), 9]}, DataError, "Sample 199 has the label 9.*5 classes"),
        ({"y": np.zeros(150, int)}, DataError, "different numbers of samples.*200.*150"),
        ({"x0": np.full((200, 8, 8, 2), np.nan)}, DataError, "not finite"),
        ({"x0": np.zeros((200, 7, 8, 2))}, DataError, r"takes samples of shape \(8, 8, 2\)"),
        ({"x0": np.zeros((0, 8, 8, 2)), "y": np.zeros(0, int)}, DataError, "has no samples"),
    ],
)
def test_data_that_does_not_fit_is_one_error(change, error, message):
    with pytest.raises(error, match=message):
        evaluate_model(list(classifier()), {**labelled(), **change}, layers=False)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"metrics": ["psnr"]}, UsageError, "'psnr' does not fit the task classification"),
        ({"metrics": ["accuracy"]}, UsageError, "Unknown metric 'accuracy'.*Did you mean 'top1'"),
        ({"task": "clasification"}, UsageError, "Unknown task.*'classification'"),
        ({"output": "scores"}, UsageError, "no output 'scores'"),
        ({"seed": -1}, UsageError, "seed is a whole number from 0 on"),
        ({"metrics": "psnr"}, UsageError, "'psnr' does not fit"),
        ({"probes": -1}, UsageError, "probes is a whole number from 0 on"),
        ({"layer_samples": 0}, UsageError, "layer_samples is a whole number from 1 on"),
        ({"workers": 0}, UsageError, "Received: 0"),
        ({"second_data": "nowhere.npz"}, DataError, "no data at 'nowhere.npz'"),
        ({"samples": 0}, UsageError, "at least 1"),
    ],
)
def test_wrong_options_are_one_error(options, error, message):
    with pytest.raises(error, match=message):
        evaluate_model(list(classifier()), labelled(), **options)


def test_models_with_different_inputs_are_one_error():
    net = Net()
    other = net.bytes(net.op("ABS", net.input(1, 9), out="y"))
    with pytest.raises(ModelError, match="Compare models that were made from the same one"):
        evaluate_model([classifier()[0], other], labelled())


def test_class_folders_must_be_the_models_classes(tmp_path):
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "a.png")
    net = Net()
    x = net.conv(net.input(1, 8, 8, 3), 3)
    model = net.bytes(net.softmax(net.dense(net.mean(x, out="m"), 3, out="l"), out="p"))
    with pytest.raises(DataError, match=r"has 2 classes \(cat, dog\).*3 classes"):
        evaluate_model(model, str(tmp_path), layers=False)


def test_blocks_depend_on_the_inputs_alone():
    image = ArgSpec("x", "x", (4, 32, 32, 3), "float32")
    (alone,) = one_by_one([image])
    assert alone.shape == (1, 32, 32, 3)
    assert rows_of_a_block([alone]) == 1024
    photo = ArgSpec("x", "x", (1, 224, 224, 3), "float32")
    assert rows_of_a_block([photo]) == 20
    huge = ArgSpec("x", "x", (1, 2048, 2048, 3), "float32")
    assert rows_of_a_block([huge]) == 1


def test_equalized_models_are_compared_with_an_equalized_float_model():
    net = Net(3)
    h = net.conv(net.input(1, 8, 8, 3), 8, act=ACT.RELU, out="h")
    source = net.bytes(net.conv(h, 4, out="y"))
    model = Model.from_bytes(source)
    first, last = (op for op in model.main.ops if op.name == "CONV_2D")
    factors = 2.0 ** np.arange(-4, 4)
    for t in first.inputs[1:]:
        t.data = (t.data * factors.reshape(-1, *[1] * (t.data.ndim - 1))).astype(np.float32)
    last.inputs[1].data = (last.inputs[1].data / factors).astype(np.float32)
    source = model.to_bytes()
    x = np.random.default_rng(0).normal(0, 1, (60, 8, 8, 3)).astype(np.float32)
    equalized = convert_model(source, x, equalization="cross_layer", bias_correction="none")
    plain = convert_model(source, x, equalization="none", bias_correction="none")
    assert equalized.plan.equalization
    result = evaluate_model([source, equalized.model, plain.model], x, layer_samples=8, probes=0)
    decibels = {
        name: next(t for t in a.tensors if t.name == "h").accumulated.sqnr_db
        for name, a in result.analyses.items()
    }
    # Compared with the float model as it is, the rescaled channels would be all error.
    assert decibels["model 2"] > 30
    assert {t.name for t in result.analyses["model 2"].tensors} >= {"h", "y"}


def test_the_judge_knows_how_a_model_was_converted():
    source, _ = classifier()
    x = labelled()["x0"].copy()
    x[10:20] *= 50
    narrow = labelled()
    results = {}
    for calibration in ("minmax", "percentile:99.99"):
        made = convert_model(
            source, x, calibration=calibration, bias_correction="none", equalization="none"
        )
        assert read_config(Model.from_bytes(made.model))["scheme"] == "int8"
        result = evaluate_model([source, made.model], narrow, layer_samples=16, probes=0)
        results[calibration] = result.report["verdicts"]
    assert results["minmax"][0]["cause"] == "outlier_range"
    for verdicts in results.values():
        # What reaches beyond all that is evaluated is left out by the robust rule, not cut again.
        assert all(v["remedy"]["flag"] != "--calibration=percentile:99.99" for v in verdicts)
    assert results["minmax"][0]["remedy"]["flag"] == "--calibration=robust"


def test_a_second_data_set_must_have_the_same_classes(tmp_path):
    from PIL import Image

    for folder, names in (("one", "abc"), ("two", "bcd")):
        for name in names:
            (tmp_path / folder / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / folder / name / "x.png")
    net = Net()
    x = net.conv(net.input(1, 8, 8, 3), 3)
    model = net.bytes(net.softmax(net.dense(net.mean(x, out="m"), 3, out="l"), out="p"))
    with pytest.raises(DataError, match=r"two/ has other classes than one/: 'a', 'd'"):
        evaluate_model(model, str(tmp_path / "one"), second_data=str(tmp_path / "two"))


def test_an_output_that_is_not_one_for_each_sample_is_one_error():
    net = Net()
    x = net.input(4, 3, name="x")
    y = net.op("RESHAPE", x, net.const([2, 6], "int32"), shape=(2, 6), out="y")
    with pytest.raises(ModelError, match=r"shape \[2, 6\] for 4 samples.*batch of 1"):
        evaluate_model(net.bytes(y), {"x": np.ones((8, 3), np.float32)}, probes=0)


def test_what_scores_are_can_be_said():
    source, _ = classifier()
    given = evaluate_model(source, labelled(), scores="logits", layers=False, probes=0).report
    found = evaluate_model(source, labelled(), layers=False, probes=0).report
    assert metric(given, "top1") == metric(found, "top1")
    # Softmax of probabilities is much less sure.
    ece = [metric(r, "ece")["values"][0]["value"] for r in (given, found)]
    assert ece[0] > ece[1] + 0.05
    with pytest.raises(UsageError, match="data_range"):
        evaluate_model(source, labelled(), data_range=255.0)
    with pytest.raises(UsageError, match="scores"):
        evaluate_model(source, labelled(), scores="percent")


def test_samples_that_are_not_scaled_are_said_to_be_so_and_never_good():
    data = labelled()
    unscaled = {"x0": data["x0"] * 100, "y": data["y"]}
    for layers in (True, False):
        report = evaluate_model(
            list(classifier()), unscaled, layers=layers, layer_samples=8, probes=0
        ).report
        (warning,) = (w for w in report["warnings"] if w.startswith("THE SAMPLES DO NOT FIT"))
        assert "model 2: x0 takes" in warning
        assert report["verdict"]["status"] != "good"
        assert "do not fit the input" in report["verdict"]["text"]
    fine = evaluate_model(list(classifier()), data, layers=False, probes=0).report
    assert fine["warnings"] == []


def test_few_samples_are_never_called_good():
    data = {name: values[:10] for name, values in labelled().items()}
    report = evaluate_model(list(classifier()), data, layers=False, probes=0).report
    assert report["verdict"]["status"] == "doubtful"
    assert "So few samples (10) say little." in report["verdict"]["text"]


def test_mistakes_are_found_before_a_model_is_converted(tmp_path):
    (tmp_path / "net.keras").write_bytes(b"not looked at")
    for options, message in (
        ({"task": "pose"}, "Unknown task"),
        ({"metrics": "top1,acc"}, "Unknown metric 'acc'"),
        ({"metrics": "no.such:metric"}, "no module"),
    ):
        with pytest.raises(UsageError, match=message):
            evaluate_model(str(tmp_path / "net.keras"), labelled(), **options)
    with pytest.raises(UsageError, match=r"There is no model at gone\.tflite"):
        evaluate_model([str(tmp_path / "net.keras"), "gone.tflite"], labelled())


def test_parts_of_an_output_are_measured_on_their_own():
    net = Net(3)
    x = net.input(1, 8, name="x")
    boxes = net.dense(x, 4, weights=net.rng.normal(0, 90, (4, 8)), out="boxes")
    joint = net.op("CONCATENATION", boxes, net.dense(x, 6), shape=(1, 10), axis=1, out="joint")
    source = net.bytes(joint)
    data = {"x0": np.random.default_rng(0).normal(0, 1, (60, 8)).astype(np.float32)}
    int8 = convert_model(source, data).model
    result = evaluate_model([source, int8], data, probes=0)
    check(result.report)
    (row,) = result.report["outputs"]
    boxes, scores = row["parts"]
    assert (boxes["part"], scores["part"]) == ("[..., 0:4]", "[..., 4:10]")
    assert (boxes["starved"], scores["starved"]) == (False, True)
    read = Model.from_bytes(int8)
    feed, a, b = InputQuantizer(read), Runner(source), Runner(int8)
    expected = np.concatenate([a.run({"x": v[None]})["joint"] for v in data["x0"]])
    got = [dequantized(read, b.run(feed({"x": v[None]})))["joint"] for v in data["x0"]]
    e, g = expected[:, 4:].astype(float), np.concatenate(got)[:, 4:]
    db = 10 * np.log10(np.sum(e**2) / np.sum((e - g) ** 2))
    assert scores["sqnr_db"] == pytest.approx(db, rel=1e-4)
    assert scores["steps"] == pytest.approx(np.ptp(e) / read.main.outputs[0].quant.scale[0])
    assert result.findings["model 2"][0].remedy.flag == "--split_output=y0"
    assert any("y0[..., 4:10]" in line and "part" in line for line in result.lines())
    several = evaluate_model([source, int8], data, probes=0, workers=2)
    assert to_json(several.report) == to_json(result.report)


def test_what_was_tried_at_conversion_is_in_the_report():
    source, _ = classifier()
    made = convert_model(source, labelled()["x0"])
    report = evaluate_model([source, made.model], labelled(), layers=False, probes=0).report
    check(report)
    said = made.summary["improvements"]
    assert {i["model"] for i in report["improvements"]} == {"model 2"}
    assert [i["name"] for i in report["improvements"]] == list(said)
    outputs = {o["name"] for o in made.summary["model"]["outputs"]}
    for i in report["improvements"]:
        assert (i["kept"], i["tried"]) == (said[i["name"]]["kept"], len(said[i["name"]]["tried"]))
        assert {e["output"] for e in i["outputs"]} <= outputs
    damaged = Model.from_bytes(made.model)
    damaged.metadata["tfq_improvements"] = b"[{}]"
    with pytest.raises(ModelError, match="metadata 'tfq_improvements' is damaged"):
        evaluate_model([source, damaged.to_bytes()], labelled(), layers=False, probes=0)
