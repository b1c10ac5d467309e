"""The interpreter behind `Runner`."""

import os
import threading

import numpy as np
import pytest
from small_models import svdf

from tfq.errors import ModelError, TfqError
from tfq.graph.model import Graph, Model, Op, Tensor, options_type
from tfq.runtime import KERNELS, Runner, native_stderr_silenced


def model():
    x, h, y = (Tensor(n, (1, 3), "float32") for n in "xhy")
    two = Tensor("two", (1,), "float32", np.array([2], np.float32))
    ops = [Op("MUL", [x, two], [h], options_type("MulOptions")()), Op("ABS", [h], [y])]
    return Model([Graph("main", ops, [x], [y])])


X = np.array([[1, -2, 3]], np.float32)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("threads", [1, 2])
def test_runs_with_every_set_of_kernels(kernels, threads):
    runner = Runner(model().to_bytes(), kernels=kernels, threads=threads)
    np.testing.assert_array_equal(runner.run({"x": X})["y"], [[2, 4, 6]])


def test_outputs_are_copies_and_views_are_not():
    runner = Runner(model().to_bytes(), keep_intermediates=True)
    first = runner.run({"x": X})["y"]
    second = runner.run({"x": X * 2})["y"]
    np.testing.assert_array_equal(first, [[2, 4, 6]])
    np.testing.assert_array_equal(second, [[4, 8, 12]])
    index = {d["name"]: d["index"] for d in runner.tensor_details()}
    np.testing.assert_array_equal(runner.tensor(index["h"]), [[4, -8, 12]])
    view = runner.view(index["h"])
    np.testing.assert_array_equal(view, [[4, -8, 12]])
    assert not view.flags.owndata
    assert runner.tensor(index["h"]).flags.owndata or runner.tensor(index["h"]) is not view


def test_indices_are_those_of_the_graph():
    m = model()
    runner = Runner(m.to_bytes(), keep_intermediates=True)
    runner.run({"x": X})
    for i, t in enumerate(m.main.tensors()):
        assert runner.tensor_details()[i]["name"] == t.name


def test_a_view_that_another_thread_holds_for_a_moment_is_waited_for(monkeypatch):
    runner = Runner(model().to_bytes(), keep_intermediates=True)
    runner.run({"x": X})
    held = [runner.view(0)]
    release = threading.Timer(0.1, held.clear)
    release.start()
    np.testing.assert_array_equal(runner.run({"x": X * 2})["y"], [[4, 8, 12]])
    release.join()
    held = [runner.view(0)]
    monkeypatch.setattr("tfq.runtime._PATIENCE_SECONDS", 0.05)
    with pytest.raises(TfqError, match="reference to internal data"):
        runner.run({"x": X})
    assert len(held) == 1


def test_a_refused_model_is_an_error_with_the_reason():
    m = model()
    m.main.ops[0].version = 77
    with pytest.raises(ModelError, match=r"LiteRT \(builtin kernels\) refuses the model: .*77"):
        Runner(m.to_bytes(), kernels="builtin")
    with pytest.raises(ModelError, match="refuses the model"):
        Runner(b"no model at all")


def test_a_run_that_fails_is_an_error():
    x, i, y = Tensor("x", (4,), "float32"), Tensor("i", (1,), "int32"), Tensor("y", (1,), "float32")
    gather = Op("GATHER", [x, i], [y], options_type("GatherOptions")())
    runner = Runner(Model([Graph("main", [gather], [x, i], [y])]).to_bytes(), kernels="builtin")
    with pytest.raises(TfqError, match="failed while running"):
        runner.run({"x": np.zeros(4, np.float32), "i": np.array([9], np.int32)})


def test_what_litert_does_not_take_is_an_error():
    runner = Runner(model().to_bytes())
    for value in (X[:, :2], X.astype(np.float64), np.array("x"), None):
        with pytest.raises(ModelError, match=r"does not take the input 'x'"):
            runner.run({"x": value})
    with pytest.raises(ModelError, match=r"does not take the input 'z'"):
        runner.run({"z": X})
    with pytest.raises(ModelError, match="Tensor 99 cannot be read"):
        runner.tensor(99)


def test_inputs_are_resized_by_name():
    runner = Runner(model().to_bytes(), kernels="builtin", shapes={"x": [2, 3]})
    assert runner.run({"x": np.ones((2, 3), np.float32)})["y"].shape == (2, 3)


def test_state_is_reset():
    runner = Runner(svdf().to_bytes(), kernels="builtin")
    sample = {"x": np.ones((1, 2), np.float32)}
    first, second = runner.run(sample)["y"], runner.run(sample)["y"]
    assert not np.array_equal(first, second)
    runner.reset_state()
    np.testing.assert_array_equal(runner.run(sample)["y"], first)


def test_the_native_noise_is_kept_off_the_terminal(capfd):
    with native_stderr_silenced() as lines:
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nmore\n")
    assert lines == ["INFO: Created TensorFlow Lite XNNPACK delegate for CPU.", "more"]
    assert capfd.readouterr().err == ""
    os.write(2, b"back\n")
    assert capfd.readouterr().err == "back\n"


def test_stderr_comes_back_after_an_exception(capfd):
    with pytest.raises(ZeroDivisionError), native_stderr_silenced():
        raise ZeroDivisionError
    os.write(2, b"back\n")
    assert capfd.readouterr().err == "back\n"
