"""The pure functions of tools/bench: statistics, note matching, samples, the list of graphs."""

import importlib
import pathlib
import sys

import numpy as np
import pytest
import small_models
from ai_edge_litert.interpreter import Interpreter
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
