"""Models run on many samples at once."""

import numpy as np
import pytest
from small_models import Net, cnn, draw, plan_of

from tfq.evaluate.batching import Evaluated, as_written, in_batches
from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.model import Model
from tfq.runtime import Runner


def stacked(model, count, seed=3):
    samples = draw(model, count, seed)
    return {name: np.concatenate([s[name] for s in samples]) for name in samples[0]}


def one_by_one(model, samples):
    read, runner = Model.from_bytes(model), Runner(model)
    feed = InputQuantizer(read)
    rows = [
        dequantized(read, runner.run(feed({n: v[i : i + 1] for n, v in samples.items()})))
        for i in range(len(next(iter(samples.values()))))
    ]
    return {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}


def test_an_integer_model_gives_the_same_bits_in_batches():
    source = cnn()
    model = plan_of(source).emit().model.to_bytes()
    samples = stacked(source, 70)
    runnable = in_batches(model, True, {n: v[:4] for n, v in samples.items()})
    assert runnable.resized
    assert runnable.rows > 1
    expected = one_by_one(model, samples)
    got = Evaluated(runnable)(samples)
    assert expected.keys() == got.keys()
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_float_model_gives_the_same_values_to_rounding(threads):
    source = cnn()
    samples = stacked(source, 9)
    runnable = in_batches(source, True, {n: v[:4] for n, v in samples.items()})
    assert runnable.resized
    for name, value in one_by_one(source, samples).items():
        got = Evaluated(runnable, threads)(samples)[name]
        np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-6)


def test_a_model_that_mixes_its_samples_is_run_one_by_one():
    net = Net()
    x = net.input(1, 6, name="x")
    axis = net.const([0], "int32")
    total = net.op("SUM", x, axis, shape=(1, 6), keepDims=True, options=reducer())
    model = net.bytes(net.op("SUB", x, total, out="y", shape=(1, 6)))
    samples = {"x": np.arange(24, dtype=np.float32).reshape(4, 6)}
    runnable = in_batches(model, True, samples)
    assert runnable == as_written(model, True)
    np.testing.assert_array_equal(Evaluated(runnable)(samples)["y"], np.zeros((4, 6)))


def reducer():
    from tfq.graph.model import options_type

    return options_type("ReducerOptions")()


def test_a_batch_of_its_own_is_filled_up_and_cut_again():
    net = Net()
    x = net.input(4, 3, name="x")
    model = net.bytes(net.op("ABS", x, out="y"))
    samples = {"x": -np.arange(18, dtype=np.float32).reshape(6, 3)}
    runnable = as_written(model, True)
    assert runnable.rows == 4
    np.testing.assert_array_equal(Evaluated(runnable)(samples)["y"], -samples["x"])


def test_inputs_without_a_shared_batch_are_taken_whole():
    net = Net()
    x, b = net.input(2, 3, name="x"), net.input(1, 3, name="b")
    model = net.bytes(net.op("ADD", x, b, out="y"))
    rng = np.random.default_rng(0)
    samples = {
        "x": rng.normal(0, 1, (5, 2, 3)).astype(np.float32),
        "b": rng.normal(0, 1, (5, 1, 3)).astype(np.float32),
    }
    got = Evaluated(as_written(model, False))(samples)["y"]
    np.testing.assert_allclose(got, samples["x"] + samples["b"], rtol=1e-6)
