import numpy as np
import pytest

from tfq.data import ArgSpec, open_data, save_representative_dataset
from tfq.data.protos import message_class
from tfq.errors import DataError, UsageError

X = np.arange(20, dtype=np.float32).reshape(10, 2)
Y = np.arange(10)
FLOAT, INT64, STRING = 1, 9, 7


@pytest.fixture
def saved_model(tmp_path):
    """Makes a folder whose `saved_model.pb` has a signature and no graph."""

    def make(outputs=(), **inputs):
        message = message_class("saved_model", "SavedModel")()
        graph = message.meta_graphs.add()
        graph.signature_def.add(key="__saved_model_init_op")
        signature = graph.signature_def.add(key="serving_default").value
        for name, (dtype, shape) in inputs.items():
            info = signature.inputs.add(key=name).value
            info.name = f"serving_default_{name}:0"
            info.dtype = dtype
            for size in shape:
                info.tensor_shape.dim.add(size=size)
        for name, shape in dict(outputs).items():
            info = signature.outputs.add(key=name).value
            for size in shape:
                info.tensor_shape.dim.add(size=size)
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "saved_model.pb").write_bytes(message.SerializeToString())
        return folder

    return make


def stored(path):
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_samples_and_labels_are_stored_and_read_again(saved_model):
    folder = saved_model(x=(FLOAT, (-1, 2)))
    path = save_representative_dataset(folder, (X.astype(float), Y))
    assert path == folder / "assets.extra" / "tfq_representative_data.npz"
    arrays = stored(path)
    np.testing.assert_array_equal(arrays["x"], X)
    np.testing.assert_array_equal(arrays["y"], Y)
    assert arrays["x"].dtype == np.float32
    samples = list(open_data(folder, [ArgSpec("x", "x:0", (1, 2), "float32")]))
    assert [s.label.tolist() for s in samples] == [[i] for i in Y]


@pytest.mark.parametrize(
    "data",
    [
        lambda: ([row[None]] for row in X),
        {"serving_default_x:0": X},
        [X[:4], X[4:]],
        iter(X),
    ],
)
def test_all_forms(saved_model, data):
    path = save_representative_dataset(saved_model(x=(FLOAT, (-1, 2))), data)
    np.testing.assert_array_equal(stored(path)["x"], X)


def test_a_path_and_a_limit(saved_model, tmp_path):
    np.savez(tmp_path / "d.npz", anything=X, y=Y)
    folder = saved_model(x=(FLOAT, (-1, 2)))
    path = save_representative_dataset(folder, str(tmp_path / "d.npz"), limit=4)
    np.testing.assert_array_equal(stored(path)["x"], X[:4])


def test_a_batch_of_four_keeps_only_real_samples(saved_model):
    path = save_representative_dataset(saved_model(x=(FLOAT, (4, 2))), X)
    np.testing.assert_array_equal(stored(path)["x"], X)


def test_samples_without_a_batch_dimension(saved_model):
    folder = saved_model({"p": (1, 4)}, x=(FLOAT, (5, 2)))
    path = save_representative_dataset(folder, ((row, 1) for row in X.reshape(2, 5, 2)))
    assert {n: a.shape for n, a in stored(path).items()} == {"x": (2, 5, 2), "y": (2,)}


@pytest.mark.parametrize("batch", [1, 3])
def test_fewer_samples_than_there_are_is_said(saved_model, batch, monkeypatch):
    monkeypatch.setattr("tfq.data.saved._MOST", 4)
    folder = saved_model(x=(FLOAT, (batch, 2)))
    for data in (X, iter(X), {"x": X[:5]}):
        with pytest.warns(UserWarning, match=r"more than 4 samples, and 4 are stored.*limit=N"):
            path = save_representative_dataset(folder, data)
        np.testing.assert_array_equal(stored(path)["x"], X[:4])
    save_representative_dataset(folder, X[:4])  # All of them: nothing to say.
    path = save_representative_dataset(folder, X, limit=5)  # As was asked for.
    np.testing.assert_array_equal(stored(path)["x"], X[:5])


def test_open_sizes_are_those_of_the_samples(saved_model):
    folder = saved_model(x=(FLOAT, (-1, -1, 3)))
    path = save_representative_dataset(folder, np.ones((5, 7, 3)))
    assert stored(path)["x"].shape == (5, 7, 3)


def test_samples_of_several_sizes_cannot_be_stored(saved_model):
    folder = saved_model(x=(FLOAT, (-1, -1, 3)))
    with pytest.raises(DataError, match="must have one shape"):
        save_representative_dataset(folder, iter([np.ones((7, 3)), np.ones((8, 3))]))


def test_two_inputs(saved_model):
    folder = saved_model(a=(FLOAT, (-1, 2)), b=(INT64, (-1,)))
    with pytest.raises(UsageError, match="does not say which array is whose"):
        save_representative_dataset(folder, [Y, X])
    path = save_representative_dataset(folder, [Y, X], inputs=["b", "a"])
    arrays = stored(path)
    np.testing.assert_array_equal(arrays["a"], X)
    assert arrays["b"].dtype == np.int64
    with pytest.raises(UsageError, match="Received: b, c"):
        save_representative_dataset(folder, [Y, X], inputs=["b", "c"])


def test_the_same_samples_give_the_same_bytes(saved_model):
    folder = saved_model(x=(FLOAT, (-1, 2)))
    first = save_representative_dataset(folder, X).read_bytes()
    assert save_representative_dataset(folder, X).read_bytes() == first


def test_without_a_signature_the_data_says_what_it_is(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert set(stored(save_representative_dataset(tmp_path, {"a": X, "y": Y}))) == {"a", "y"}
    assert set(stored(save_representative_dataset(tmp_path, X))) == {"x"}
    assert set(stored(save_representative_dataset(tmp_path, [X], inputs=["b"]))) == {"b"}
    np.savez(tmp_path / "d.npz", c=X)
    assert set(stored(save_representative_dataset(tmp_path, tmp_path / "d.npz"))) == {"c"}
    with pytest.raises(UsageError, match="no signature"):
        save_representative_dataset(tmp_path, iter(X))
    spec = ArgSpec("d", "d:0", (1, 2), "float32")
    assert set(stored(save_representative_dataset(tmp_path, iter(X), inputs=[spec]))) == {"d"}


def test_what_is_refused_leaves_nothing_behind(saved_model, tmp_path):
    folder = saved_model(x=(FLOAT, (-1, 2)))
    for data, message in (
        (X[:, :1], "takes samples of shape"),
        (X * np.nan, r"Sample 0 .* NaN"),
        (iter([X[0], X[0] + np.inf]), r"Sample 1 .* infinite"),
        (iter(()), "no samples"),
    ):
        with pytest.raises(DataError, match=message):
            save_representative_dataset(folder, data)
    assert [p.name for p in folder.iterdir()] == ["saved_model.pb"]
    with pytest.raises(UsageError, match="not a SavedModel"):
        save_representative_dataset(tmp_path, X)
    with pytest.raises(UsageError, match="is no folder"):
        save_representative_dataset(tmp_path / "nowhere", X)


def test_text_inputs_and_damaged_files(saved_model):
    folder = saved_model(x=(STRING, (-1,)))
    with pytest.raises(DataError, match="number 7"):
        save_representative_dataset(folder, X)
    (folder / "saved_model.pb").write_bytes(b"\xff" * 20)
    with pytest.raises(DataError, match="cannot be read"):
        save_representative_dataset(folder, X)


@pytest.mark.slow
def test_a_saved_model_of_keras(tmp_path):
    import keras

    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    total = keras.layers.Add()([keras.layers.Dense(3)(a), b])
    keras.Model([a, b], total).export(tmp_path / "m", verbose=False)
    data = {"a": X, "b": np.ones((10, 3))}
    arrays = stored(save_representative_dataset(tmp_path / "m", data))
    assert {n: v.shape for n, v in arrays.items()} == {"a": (10, 2), "b": (10, 3)}
