import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tfq.calibrate import Statistics, calibrate
from tfq.calibrate.statistics import fingerprint
from tfq.errors import DataError, ModelError, UsageError
from tfq.executors import open_workers
from tfq.graph.model import Graph, Model, Op, Tensor

SHAPE = (1, 40, 40, 16)  # Large enough for the counting of large tensors.


def model_of(shape=SHAPE, *, last="LOG"):
    """x -> MUL by -2 -> ADD 1, RELU6 -> `last`."""
    x, scaled, relu, out = (Tensor(n, shape, "float32") for n in ("x", "scaled", "relu", "out"))
    two = Tensor("two", (1,), "float32", np.array([-2], np.float32))
    one = Tensor("one", (1,), "float32", np.array([1], np.float32))
    add = schema.AddOptionsT()
    add.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    ops = [
        Op("MUL", [x, two], [scaled], schema.MulOptionsT()),
        Op("ADD", [scaled, one], [relu], add),
        Op(last, [relu], [out]),
    ]
    return Model([Graph("main", ops, [x], [out])]).to_bytes()


def draw(n, shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(n)]


MODEL = model_of(last="TANH")


def test_every_computed_tensor_is_seen_exactly():
    samples = draw(3)
    seen = []
    statistics = calibrate(MODEL, iter(samples), progress=seen.append)
    assert list(statistics) == ["x", "scaled", "relu", "out"]
    assert (statistics.samples, statistics.mode, seen) == (3, "full", [1, 2, 3])
    assert statistics.model_sha256 == fingerprint(MODEL)
    x = np.stack([s["x"] for s in samples])
    for name, expected in {
        "x": x,
        "scaled": x * np.float32(-2),
        "relu": np.clip(x * np.float32(-2) + 1, 0, 6),
    }.items():
        sketch = statistics[name]
        assert (sketch.min, sketch.max) == (expected.min(), expected.max())
        assert (sketch.count, sketch.samples) == (x.size, 3)
        counts = np.bincount(expected.view(np.uint32).reshape(-1) >> 16)
        counts[0] += counts[0x8000:0x8001].sum()
        counts[0x8000:0x8001] = 0
        np.testing.assert_array_equal(sketch.state()["counts"], counts[counts > 0])


def test_parts_and_resumption_equal_one_run():
    samples = draw(7)
    whole = calibrate(MODEL, samples)
    first = calibrate(MODEL, samples[:3])
    assert calibrate(MODEL, samples[3:], initial=first) == whole
    assert first.samples == 3
    assert calibrate(MODEL, samples[:2:-1]).merge(first) == whole


def test_minmax_mode_agrees_with_full_mode():
    full, quick = calibrate(MODEL, draw(4)), calibrate(MODEL, draw(4), mode="minmax")
    for name in full:
        assert (full[name].min, full[name].max) == (quick[name].min, quick[name].max)
        np.testing.assert_array_equal(
            full[name].sample_maxima().counts, quick[name].sample_maxima().counts
        )


def test_only_named_tensors():
    assert list(calibrate(MODEL, draw(1), tensors=["relu", "x"])) == ["x", "relu"]
    with pytest.raises(UsageError, match=r"'relus'.*Did you mean 'relu'"):
        calibrate(MODEL, draw(1), tensors=["relus"])


def test_memory_does_not_grow_with_samples():
    shape = (1, 40, 40, 4)
    model = model_of(shape, last="TANH")

    def stream(n):
        rng = np.random.default_rng(0)
        for _ in range(n):
            yield {"x": rng.standard_normal(shape).astype(np.float32)}

    peaks = []
    for n in (10, 200):
        tracemalloc.start()
        calibrate(model, stream(n))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.05


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_sample_is_named(bad):
    samples = draw(3)
    samples[1]["x"][0, 3, 3, 3] = bad
    with pytest.raises(DataError, match=r"Sample 1 holds (NaN|infinite values) in input 'x'"):
        calibrate(MODEL, samples)


def test_a_tensor_that_becomes_infinite_is_named():
    model = model_of()  # LOG of a RELU6 that reaches zero.
    with pytest.raises(DataError, match=r"Tensor 'out' holds infinite values .* sample 0"):
        calibrate(model, draw(1))


@pytest.mark.parametrize(
    "sample",
    [
        {},
        {"y": np.zeros(SHAPE, np.float32)},
        {"x": np.zeros(SHAPE[1:], np.float32)},
        {"x": np.zeros(SHAPE, np.float64)},
        {"x": np.zeros(SHAPE, np.float32), "y": np.zeros(3, np.float32)},
    ],
)
def test_samples_that_do_not_fit(sample):
    with pytest.raises(DataError, match=r"Sample 1 .*Received"):
        calibrate(MODEL, [*draw(1), sample])


def test_errors_of_the_call():
    with pytest.raises(DataError, match="no samples"):
        calibrate(MODEL, [])
    with pytest.raises(UsageError, match="full, minmax"):
        calibrate(MODEL, draw(1), mode="ful")
    with pytest.raises(DataError, match="another model"):
        calibrate(MODEL, draw(1), initial=Statistics({}, "0" * 64, 1))
    with pytest.raises(ModelError):
        calibrate(b"not a model", draw(1))


def test_tensors_that_share_a_name_are_refused():
    x, y, z = (Tensor(n, (2,), "float32") for n in ("x", "same", "same"))
    ops = [Op("TANH", [x], [y]), Op("TANH", [y], [z])]
    model = Model([Graph("main", ops, [x], [z])]).to_bytes()
    with pytest.raises(ModelError, match="2 tensors are named 'same'"):
        calibrate(model, [{"x": np.zeros(2, np.float32)}])


def test_variables_start_afresh_for_each_sample():
    # SVDF adds up the last two inputs, so a second sample would see the first one.
    x, out = Tensor("x", (1, 2), "float32"), Tensor("out", (1, 2), "float32")
    options = schema.SVDFOptionsT()
    options.rank = 1
    features = Tensor("w", (2, 2), "float32", np.eye(2, dtype=np.float32))
    time = Tensor("time", (2, 2), "float32", np.ones((2, 2), np.float32))
    state = Tensor("state", (1, 4), "float32", is_variable=True)
    op = Op("SVDF", [x, features, time, None, state], [out], options)
    model = Model([Graph("main", [op], [x], [out])]).to_bytes()
    samples = [{"x": np.full((1, 2), v, np.float32)} for v in (1, 2, 4)]
    statistics = calibrate(model, samples)
    assert statistics["out"].max == 4.0
    assert calibrate(model, samples[::-1]) == statistics


@pytest.mark.parametrize("mode", ["full", "minmax"])
def test_workers_change_no_bit(mode, monkeypatch):
    model, samples = model_of(last="ABS"), list(draw(30))
    alone = calibrate(model, samples, mode=mode)
    monkeypatch.setattr("tfq.observe.loop._BLOCK_SAMPLES", 7)
    seen: list[int] = []
    with open_workers(executor=ThreadPoolExecutor(2)) as workers:
        assert workers.count == 2
        shared = calibrate(model, samples, mode=mode, workers=workers, progress=seen.append)
    assert shared == alone
    assert seen == [7, 14, 21, 28, 30]
    with open_workers(executor=ThreadPoolExecutor(2)) as workers:
        # The first bad sample is named by its number in the data, whoever finds it.
        bad = {name: np.full_like(v, np.nan) for name, v in samples[0].items()}
        with pytest.raises(DataError, match="Sample 17 holds NaN"):
            calibrate(model, [*samples[:17], bad, *samples], mode=mode, workers=workers)
        with pytest.raises(DataError, match="no samples"):
            calibrate(model, [], mode=mode, workers=workers)
