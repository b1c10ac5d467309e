"""The pure functions of tools/bench: statistics, note matching, samples, the list of graphs."""

import importlib
import pathlib
import sys

import numpy as np
import pytest
import small_models
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from scipy import stats as scipy_stats

import tfq

BENCH = pathlib.Path(__file__).parents[2] / "tools" / "bench"


@pytest.fixture(scope="module")
def bench():
    """Imports a module of tools/bench by name, as its scripts do: from their own folder."""
    names = set()

    def load(name):
        names.add(name)
        return importlib.import_module(name)

    sys.path.insert(0, str(BENCH))
    yield load
    sys.path.remove(str(BENCH))
    for name in list(sys.modules):
        file = getattr(sys.modules[name], "__file__", None)
        if name in names or (file and pathlib.Path(file).parent == BENCH):
            del sys.modules[name]


def _accuracy(sums):
    return sums[..., 0] / sums[..., 1]


def _rows(right):
    return np.stack([right, np.ones_like(right)], 1).astype(float)


def test_bootstrap_interval_is_that_of_the_normal_approximation(bench):
    rng = np.random.default_rng(0)
    a, b = rng.random(2000) < 0.9, rng.random(2000) < 0.87
    found = bench("stats").bootstrap_difference(_rows(a), _rows(b), _accuracy)
    difference = a.astype(float) - b
    half = 1.96 * difference.std() / np.sqrt(len(a))
    assert found.value == pytest.approx(difference.mean())
    assert found.low == pytest.approx(difference.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(difference.mean() + half, abs=0.1 * half)


def test_bootstrap_is_paired_and_repeatable(bench):
    right = np.random.default_rng(1).random(300) < 0.6
    run = bench("stats").bootstrap_difference
    same = run(_rows(right), _rows(right), _accuracy)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    worse = right & (np.arange(300) % 7 != 0)
    first = run(_rows(worse), _rows(right), _accuracy)
    assert first == run(_rows(worse), _rows(right), _accuracy)
    assert first.significantly_below


def test_bootstrap_refuses_unpaired_rows(bench):
    with pytest.raises(ValueError, match=r"Received: shapes \(3, 2\) and \(4, 2\)"):
        bench("stats").bootstrap_difference(np.ones((3, 2)), np.ones((4, 2)), _accuracy)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (3, 9), (40, 12), (1, 0), (25, 25)])
def test_mcnemar_is_the_exact_binomial_test(bench, only_a, only_b):
    n = only_a + only_b
    a = np.array([True] * only_a + [False] * only_b + [True] * 10)
    b = np.array([False] * only_a + [True] * only_b + [True] * 10)
    expected = scipy_stats.binomtest(only_a, n).pvalue if n else 1.0
    assert bench("stats").mcnemar(a, b) == pytest.approx(expected)


def test_table_aligns_its_columns(bench):
    text = bench("stats").table(["a", "long name"], [["wide cell", 1], ["x", 22]])
    assert text.splitlines() == [
        "| a         | long name |",
        "|-----------|-----------|",
        "| wide cell | 1         |",
        "| x         | 22        |",
    ]


def test_notes_match_by_pitch_and_onset_once(bench):
    notes = bench("notes")
    truth = np.array([[0.10, 60], [0.50, 60], [0.50, 64], [-1, -1]])
    found = np.array([[0.12, 60], [0.13, 60], [0.56, 60], [0.50, 65]])
    assert notes.match(truth, found) == (1, 3, 2)
    assert notes.match(truth, np.zeros((0, 2))) == (0, 0, 3)
    assert notes.f1(np.array([[1, 3, 2]])) == pytest.approx([2 / 7])


def test_transcription_finds_long_enough_notes_only(bench):
    notes = bench("notes")
    note, onset = np.zeros((100, 88)), np.zeros((100, 88))
    for start, length, pitch in ((10, 30, 40), (60, 5, 40), (20, 12, 50)):
        note[start : start + length, pitch] = 0.9
        onset[start, pitch] = 0.8
    found = notes.transcribe(note, onset)
    expected = [[10 * 256 / 22050, 61], [20 * 256 / 22050, 71]]
    np.testing.assert_allclose(found, expected)


def test_clips_are_repeatable_and_hold_their_notes(bench):
    notes = bench("notes")
    one, two = (notes.draw_clips(2, seed=3, voices=2) for _ in range(2))
    np.testing.assert_array_equal(one.audio, two.audio)
    assert one.audio.shape == (2, notes.CLIP_SAMPLES, 1)
    assert np.abs(one.audio).max() <= 1
    for clip, table in zip(one.audio[..., 0], one.table, strict=True):
        for onset, pitch in table[table[:, 1] >= 0]:
            start = int(onset * notes.RATE)
            spectrum = np.abs(np.fft.rfft(clip[start : start + 4410]))
            frequency = np.argmax(spectrum > 0.2 * spectrum.max()) * notes.RATE / 4410
            assert frequency <= 1.05 * 440 * 2 ** ((pitch - 69) / 12)


def test_samples_cycle_and_are_timed(bench, tmp_path):
    np.savez(tmp_path / "data.npz", x0=np.arange(3.0)[:, None], y=np.arange(3))
    samples = bench("jobs").Samples(str(tmp_path / "data.npz"), 5)
    for _ in range(2):
        assert [s["x0"].item() for s in samples] == [0, 1, 2, 0, 1]
    assert list(next(iter(samples))) == ["x0"]
    list(samples)
    samples.marks = [0.0, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert samples.ms_per_sample(1) == pytest.approx(500)


def test_coverage_has_graphs_of_every_family(bench):
    graphs = bench("coverage_graphs").GRAPHS
    assert len(graphs) >= 60
    assert {g.family for g in graphs} >= {
        "activation",
        "normalisation",
        "pooling",
        "resize",
        "reduction",
        "comparison",
        "shape",
        "attention",
        "recurrent",
    }
    rng = np.random.default_rng(0)
    for graph in graphs:
        for spec in graph.inputs:
            drawn = spec.draw(rng, 2)
            assert drawn.shape == (2, *spec.shape[1:])
            assert drawn.dtype == spec.dtype


def test_grid_snaps_onto_its_points(bench):
    grid = bench("litert_model").Grid(0.5, 3, -128, 127)
    x = np.array([-100.0, -0.2, 0.3, 62.1, 400.0])
    np.testing.assert_array_equal(grid.snap(x), [-65.5, 0.0, 0.5, 62.0, 62.0])
    np.testing.assert_array_equal(grid.snap(grid.snap(x)), grid.snap(x))


def test_zeros_of_kernels_are_counted_in_the_file(bench, tmp_path):
    data = small_models.draw(small_models.cnn(), 4)
    emitted = tfq.convert_model(small_models.cnn(), data, bias_correction="none")
    emitted.save(tmp_path / "model.tflite")
    found = bench("litert_model").weight_zeros(tmp_path / "model.tflite")
    interpreter = Interpreter(model_content=emitted.model)
    interpreter.allocate_tensors()
    tensors = {d["index"]: d for d in interpreter.get_tensor_details()}
    expected = []
    for op in interpreter._get_ops_details():
        if op["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            kernel = interpreter.get_tensor(tensors[op["inputs"][1]]["index"])
            expected.append((op["op_name"], kernel.size, int((kernel == 0).sum())))
    assert len(found) >= 2
    assert found == expected


def test_training_results_of_another_recipe_are_not_taken(bench, tmp_path, monkeypatch):
    training = bench("training")
    monkeypatch.setattr(training.models, "CACHE", tmp_path)
    cache = training.Cache(quick=False)
    cache.put(1, "tfmot/int8", {"top1": 90.5})
    assert training.Cache(quick=False).get(1, "tfmot/int8") == {"top1": 90.5}
    assert training.Cache(quick=True).get(1, "tfmot/int8") is None
    monkeypatch.setattr(training.task, "RECIPE", (2,))
    assert training.Cache(quick=False).get(1, "tfmot/int8") is None


def test_training_says_how_long_the_rest_takes(bench, tmp_path, monkeypatch):
    training = bench("training")
    monkeypatch.setattr(training.models, "CACHE", tmp_path)
    cache = training.Cache(quick=False)
    whole = training._seconds(cache, range(3), training.PARTS)
    assert 1800 < whole < 3600
    cache.put(0, "w4a8", {})
    assert training._seconds(cache, range(3), training.PARTS) == whole - training.OURS["w4a8"]


@pytest.fixture
def old_network(bench, tmp_path):
    """A classifier as old files are: float16 constants, no signature, the old operator codes."""
    schema = bench("litert_model").schema
    packed = bench("networks")._packed
    net = small_models.Net(0)
    image = net.input(1, 8, 8, 3, name="image")
    mean = net.mean(net.conv(image, 6, out="conv"), out="pooled")
    source = net.bytes(net.softmax(net.dense(mean, 5, out="logits"), out="probabilities"))
    emitted = tfq.convert_model(source, scheme="float16").model
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(emitted, 0))
    model.signatureDefs = None
    for code in model.operatorCodes:
        code.deprecatedBuiltinCode, code.builtinCode = min(code.builtinCode, 127), 0
    path = tmp_path / "face_landmark_small.tflite"
    path.write_bytes(packed(model))
    return path


def _photos(folder, count, labels=()):
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
    if len(labels):
        rows = [f"images/{i}.png,{label}" for i, label in enumerate(labels)]
        (folder / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")


def test_old_networks_are_prepared_for_every_converter(bench, tmp_path, monkeypatch, old_network):
    networks, litert_model = bench("networks"), bench("litert_model")
    monkeypatch.setattr(networks, "CALIBRATION", 2)
    _photos(tmp_path, 5, labels=[0, 1, 2, 3, 4])
    (network,) = networks.of_folder(tmp_path)
    made = networks.prepare(network, networks.Photos(tmp_path), tmp_path / "prepared")
    calibration, test = np.load(made.calibration), np.load(made.test)
    (name,) = calibration.files
    assert (len(calibration[name]), len(test[name])) == (2, 3)
    assert test["y"].tolist() == [2, 3, 4]
    third = Image.open(tmp_path / "images" / "2.png").resize((8, 8))
    np.testing.assert_array_equal(test[name][0], np.asarray(third, np.float32) / 255)
    before = Interpreter(model_path=str(old_network))
    before.allocate_tensors()
    before.set_tensor(before.get_input_details()[0]["index"], test[name][:1])
    before.invoke()
    expected = before.get_tensor(before.get_output_details()[0]["index"])
    (after,) = litert_model.LiteRtModel(made.float_model).run({name: test[name][:1]}).values()
    np.testing.assert_array_equal(after, expected)
    schema = litert_model.schema
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(made.float_model.read_bytes(), 0))
    codes = {c.builtinCode for c in model.operatorCodes}
    assert schema.BuiltinOperator.CONV_2D in codes
    assert schema.BuiltinOperator.DEQUANTIZE not in codes


def test_networks_that_take_no_image_are_refused(bench, tmp_path):
    networks = bench("networks")
    (tmp_path / "face_landmark.tflite").write_bytes(small_models.cnn())
    _photos(tmp_path, 101)
    (network,) = networks.of_folder(tmp_path)
    with pytest.raises(SystemExit, match=r"takes \[\[1, 8, 8, 2\]\]; wanted is one image"):
        networks.prepare(network, networks.Photos(tmp_path), tmp_path / "prepared")


def test_the_input_range_of_a_network_is_known_or_asked_for(bench, tmp_path):
    networks = bench("networks")
    assert networks.value_range(tmp_path / "face_detection_new.tflite") == (-1, 1)
    with pytest.raises(SystemExit, match=r"other\.json beside it"):
        networks.value_range(tmp_path / "other.tflite")
    (tmp_path / "other.json").write_text('{"range": [0, 255]}')
    assert networks.value_range(tmp_path / "other.tflite") == (0, 255)


def test_network_figures_and_verdicts(bench):
    accuracy = bench("network_accuracy")
    rng = np.random.default_rng(0)

    def outcome(db, same):
        signal = rng.uniform(1, 2, 50)
        error = signal * rng.uniform(0.9, 1.1, 50)
        power = {k: np.stack([signal, error * 10 ** (-v / 10)], 1) for k, v in db.items()}
        return accuracy.Outcome(power, np.arange(50) < same, np.zeros(0))

    found = {
        "float": accuracy.Outcome({k: np.ones((50, 2)) for k in "ab"}, np.ones(50)),
        "tfq": outcome({"a": 30, "b": 20}, 47),
        "tfq-fast": outcome({"a": 25, "b": 21}, 40),
        "litert-quantizer": outcome({"a": 20, "b": 20 - 0.5}, 30),
        "tensorflow": accuracy.Outcome({}, note="cannot"),
    }
    figures = {"net": accuracy.summarize(found)}
    scores = figures["net"]["scores"]
    assert scores["mean, dB"]["tfq"] == pytest.approx(25, abs=0.1)
    assert scores["same answer as float"] == {"tfq": 0.94, "tfq-fast": 0.8, "litert-quantizer": 0.6}
    assert "tensorflow" not in scores["a, dB"]
    first, second, *rest = accuracy.verdicts(figures)
    assert first == "each output at least that of tfq-fast: NOT on net b (-1.0)"
    assert second == "each output at least that of litert-quantizer: on every one"
    assert rest[-1] == "net: float's answer on 94.0% of images (goal 94%)"
    assert "cannot" in accuracy.tables(figures, ["tfq", "tensorflow", "litert-quantizer"])


def test_a_drop_is_judged_by_floats_interval_and_the_better_peer(bench):
    accuracy = bench("accuracy")

    def task(tfq, low, peer):
        against = {"value": tfq - 0.9, "significantly_below": low}
        scores = {"float": 0.9, "tfq": tfq, "tensorflow": peer, "litert-quantizer": "died"}
        return {"scores": scores, "differences": {"float": against}}

    assert accuracy.verdict({"x": task(0.88, False, 0.9)}).endswith("on every task")
    assert accuracy.verdict({"x": task(0.88, True, 0.86)}).endswith("on every task")
    assert accuracy.verdict({"x": task(0.88, True, 0.87)}).endswith("NOT on x (-0.0200)")


def test_fast_is_a_column_of_tfq_with_settings_of_its_own(bench, tmp_path):
    harness, models, networks = bench("harness"), bench("models"), bench("networks")
    assert harness.columns(["tensorflow", "tfq"]) == ["tensorflow", "tfq", "tfq-fast"]
    out = tmp_path / "out.tflite"
    converter, job = harness.conversion("tfq-fast", networks.Prepared(tmp_path), out)
    assert (converter, job["settings"], job["saved_model"]) == ("tfq", harness.FAST, None)
    prepared = models.Prepared("digits")
    converter, job = harness.conversion("tfq", prepared, out, settings={"scheme": "int8"})
    assert (converter, job["settings"]) == ("tfq", {"scheme": "int8"})
    converter, job = harness.conversion("tensorflow", prepared, out)
    assert job["saved_model"] == str(prepared.saved_model)
    assert "settings" not in job


def test_every_setting_of_fast_is_one_that_convert_takes(bench):
    source, data = small_models.cnn(), small_models.draw(small_models.cnn(), 4)
    tfq.convert_model(source, data, **bench("harness").FAST)
