"""Ten files from a stranger. Each would touch a file of its own; tfq touches none of them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_models import cnn

import tfq
from tfq.errors import ModelError, TfqError
from tfq.sources import load_source

ROOT = Path(__file__).resolve().parents[2]


class Touch:
    """Pickled, it touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def objects(path, count=8):
    array = np.empty(count, object)
    array[:] = [Touch(path)] * count
    return array


def touched(folder):
    return sorted(p.name for p in folder.glob("touched_*"))


# --- Data, statistics and labels -----------------------------------------------------------------


def test_pickles_are_no_data(tmp_path):
    path = tmp_path / "touched_pickle"
    images = np.zeros((8, 8, 8, 2), np.float32)
    np.savez(tmp_path / "data.npz", x0=objects(path))
    np.save(tmp_path / "data.npy", objects(path))
    np.savez(tmp_path / "labels.npz", x0=images, y=objects(path))
    np.savez(tmp_path / "good.npz", x0=images)
    saved = tfq.convert_model(cnn(), tmp_path / "good.npz", bias_correction="none").statistics
    saved.save(tmp_path / "statistics.npz")
    with np.load(tmp_path / "statistics.npz") as held:
        arrays = dict(held)
    for name, array in arrays.items():
        path_of_one = tmp_path / f"statistics_{name.replace('/', '_')}.npz"
        np.savez(path_of_one, **{**arrays, name: objects(path, max(1, array.size))})
    for data in ("data.npz", "data.npy", "labels.npz"):
        with pytest.raises(TfqError):
            tfq.convert_model(cnn(), tmp_path / data)
        with pytest.raises(TfqError):
            tfq.evaluate_model([cnn()], tmp_path / data)
    for statistics in tmp_path.glob("statistics_*"):
        with pytest.raises(TfqError):
            tfq.convert_model(cnn(), statistics=statistics)
    assert touched(tmp_path) == []
    np.load(tmp_path / "data.npy", allow_pickle=True)  # It is real.
    assert touched(tmp_path) == ["touched_pickle"]


# --- Models --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Model files by what runs in them, and the folder of what they touch."""
    import keras
    import tensorflow as tf
    import tf_keras
    from tensorflow.python.trackable.resource import TrackableResource

    folder = tmp_path_factory.mktemp("hostile")

    def lambda_of(name):
        # One expression, which needs nothing but itself where it is loaded.
        path = str(folder / f"touched_{name}")
        source = f"lambda x: (__import__('pathlib').Path({path!r}).touch(), x * 2.0)[1]"
        return eval(source)

    for name, lib in (("h5", tf_keras), ("old_keras", tf_keras), ("keras", keras)):
        layers = [lib.Input((4,)), lib.layers.Dense(3), lib.layers.Lambda(lambda_of(name))]
        lib.Sequential(layers).save(
            folder / {"h5": "l.h5", "old_keras": "old.keras", "keras": "l.keras"}[name]
        )

    def write(name):
        return tf.io.write_file(str(folder / f"touched_{name}"), "x")

    spec = [tf.TensorSpec((None, 4), name="x")]

    class Plain(tf.Module):
        def __init__(self):
            super().__init__()
            self.w = tf.Variable(tf.ones((4, 2)))

        @tf.function(input_signature=spec)
        def f(self, x):
            return {"y": tf.matmul(x, self.w)}

    class Signature(Plain):
        @tf.function(input_signature=spec)
        def f(self, x):
            write("signature")
            return {"y": tf.matmul(x, self.w)}

    class Resource(TrackableResource):
        def _create_resource(self):
            return tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.int64)

        def _initialize(self):
            write("initializer")

    def save(module, name):
        tf.saved_model.save(module, str(folder / name), signatures={"serving_default": module.f})

    save(Plain(), "plain")
    save(Signature(), "signature")
    module = Plain()
    module.resource = Resource()
    module.handle = module.resource.resource_handle
    save(module, "initializer")
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, 4), name="x")
        y = tf.matmul(x, v1.get_variable("w", (4, 2)), name="y")
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder / "main_op"))
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": signature}, main_op=write("main_op")
        )
        builder.save()
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, (None, 4), name="x")
        with tf.control_dependencies([write("graph")]):
            tf.nn.relu(x, name="y")
    (folder / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    for path in folder.glob("touched_*"):
        path.unlink()
    return folder


def command(*argv):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", *map(str, argv)],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["l.h5", "old.keras", "l.keras"])
def test_lambdas_in_files(hostile, name):
    with pytest.raises(ModelError, match=r"the layer 'lambda\w*' is a Lambda layer.*--allow_code"):
        load_source(hostile / name)
    assert touched(hostile) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["signature", "initializer", "main_op", "graph.pb"])
def test_ops_that_write(hostile, name):
    """In this process, where the loaders would leave their traces; and below as a command."""
    from tfq.sources import loading

    kind = "frozen_graph" if name == "graph.pb" else "saved_model"
    path = str(hostile / name)
    request = {"kind": kind, "path": path, "shown": name, "batch": 1, "signature": None}
    with pytest.raises(ModelError, match=r"WriteFile \(node '.*WriteFile'.*--allow_code"):
        loading.load(request)
    assert touched(hostile) == []


@pytest.mark.slow
def test_the_commands_refuse_and_write_nothing(hostile, tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 4), np.float32))
    data, output = f"--data={tmp_path / 'data.npz'}", tmp_path / "o.tflite"
    for argv, named in (
        (("tfq.convert", hostile / "l.h5", data, f"--output={output}"), "is a Lambda layer"),
        (("tfq.evaluate", hostile / "l.h5", data), "is a Lambda layer"),
        (("tfq.evaluate", hostile / "initializer", data), "WriteFile"),
    ):
        done = command(*argv)
        assert done.returncode == 1
        assert named in done.stderr
        assert "--allow_code" in done.stderr
        assert "Traceback" not in done.stderr
    assert touched(hostile) == []
    assert not output.exists()


@pytest.mark.slow
def test_a_flag_lets_code_run(hostile, tmp_path):
    """So the files above are real, and whoever trusts one can go on."""
    import tensorflow as tf

    output = tmp_path / "o.tflite"
    argv = ("tfq.convert", hostile / "l.h5", "--scheme=float32", f"--output={output}")
    done = command(*argv, "--allow_code")
    assert done.returncode == 0, done.stderr
    assert output.exists()
    for name in ("initializer", "main_op"):
        tf.saved_model.load(str(hostile / name))
    loaded = tf.saved_model.load(str(hostile / "signature"))
    loaded.signatures["serving_default"](x=tf.ones((1, 4)))
    assert touched(hostile) == [
        f"touched_{n}" for n in ("h5", "initializer", "main_op", "signature")
    ]
    for path in hostile.glob("touched_*"):
        path.unlink()
