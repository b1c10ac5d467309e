import numpy as np
import pytest

from tfq.data import ArgSpec, open_data
from tfq.errors import DataError

ONE = ArgSpec("x", "serving_default_x:0", (1, 2), "float32")
A = ArgSpec("a", "serving_default_a:0", (1, 2), "float32")
B = ArgSpec("b", "serving_default_b:0", (1, 3), "float32")
X = np.arange(20.0).reshape(10, 2)
X3 = np.arange(30.0).reshape(10, 3)
Y = np.arange(10)


class Sequence:
    """What `keras.utils.Sequence` was: a length and batches by number."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return X[2 * index : 2 * index + 2], Y[2 * index : 2 * index + 2]


@pytest.mark.parametrize(
    "data",
    [
        X,
        X[:, None],
        X.tolist(),
        {"x": X},
        {"serving_default_x": X},
        [X],
        list(X),
        (row for row in X),
        iter(list(X)),
        ([row] for row in X),
        ({"x": row} for row in X),
        (X[i : i + 4] for i in range(0, 10, 4)),
        lambda: ([row[None]] for row in X),
        lambda: ({"x": row[None]} for row in X),
        lambda: (("serving_default", {"x": row[None]}) for row in X),
        lambda: X,
        lambda: {"whatever": X},
        [row.tolist() for row in X],
        np.asfortranarray(X),
    ],
)
def test_forms_without_labels(data):
    source = open_data(data, [ONE])
    samples = list(source)
    np.testing.assert_array_equal(np.concatenate([s.inputs["x"] for s in samples]), X)
    assert not source.has_labels
    assert all(s.label is None for s in samples)
    assert source.count in (10, None)


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        (X, Y.tolist()),
        [X, Y],
        ([X], Y),
        ({"x": X}, Y),
        {"x": X, "y": Y},
        list(zip(X, Y, strict=True)),
        zip(X, Y, strict=True),
        lambda: zip(X, Y, strict=True),
        lambda: (([x], y) for x, y in zip(X, Y, strict=True)),
        lambda: (({"x": x}, y, 1.0) for x, y in zip(X, Y, strict=True)),
        ({"x": x, "y": y} for x, y in zip(X, Y, strict=True)),
        ((X[i : i + 4], Y[i : i + 4]) for i in range(0, 10, 4)),
        Sequence(),
    ],
)
def test_forms_with_labels(data):
    source = open_data(data, [ONE])
    assert source.has_labels
    samples = list(source)
    np.testing.assert_array_equal(np.concatenate([s.inputs["x"] for s in samples]), X)
    assert [s.label.tolist() for s in samples] == [[i] for i in Y]


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        ([X, X3], False),
        ((X, X3), False),
        ({"a": X, "b": X3}, False),
        (zip(X, X3, strict=True), False),
        (([a[None], b[None]] for a, b in zip(X, X3, strict=True)), False),
        ((X, X3, Y), True),
        (((X, X3), Y), True),
        ((((a, b), y) for a, b, y in zip(X, X3, Y, strict=True)), True),
        (zip(X, X3, Y, strict=True), True),
    ],
)
def test_two_inputs(data, labels):
    source = open_data(data, [A, B])
    samples = list(source)
    np.testing.assert_array_equal(np.concatenate([s.inputs["a"] for s in samples]), X)
    np.testing.assert_array_equal(np.concatenate([s.inputs["b"] for s in samples]), X3)
    assert source.has_labels == labels


@pytest.mark.parametrize(
    "data",
    [(X, Y[:7]), [X, Y[:7]], ([X], Y[:7]), ({"x": X}, Y[:7]), {"x": X, "label": Y[:7]}],
)
def test_as_many_labels_as_samples(data):
    with pytest.raises(DataError, match=r"different numbers of samples: '.*' 10, '.*' 7"):
        open_data(data, [ONE])


def test_as_many_labels_as_samples_in_a_batch():
    with pytest.raises(DataError, match="a batch of 4 samples needs 4 labels"):
        list(open_data(lambda: iter([(X[:4], Y[:3])]), [ONE]))


@pytest.mark.parametrize("name", ["y", "label", "labels"])
def test_names_of_labels(name):
    for data in ({"x": X, name: Y}, ({"x": x, name: y} for x, y in zip(X, Y, strict=True))):
        source = open_data(data, [ONE])
        assert source.has_labels
        assert [s.label.item() for s in source] == Y.tolist()


def test_names_of_labels_may_be_those_of_data():
    assert not open_data({"label": X}, [ONE]).has_labels
    labels = ArgSpec("label", "label", (1, 3), "float32")
    source = open_data({"x": X, "label": X3}, [ONE, labels])
    assert not source.has_labels
    with pytest.raises(DataError, match="'labels', which is no input"):
        open_data({"x": X, "y": Y, "labels": Y}, [ONE])


def test_two_samples_in_a_list_are_not_sample_and_label():
    samples = list(open_data([X[:2], X[2:4]], [ONE]))
    assert len(samples) == 4
    assert samples[0].label is None


def test_a_function_is_called_again_for_a_second_reading():
    calls = []

    def representative_dataset():
        calls.append(1)
        for row in X:
            yield [row[None]]

    source = open_data(representative_dataset, [ONE])
    assert source.repeatable
    assert source.description == "representative_dataset()"
    assert len(list(source)) == len(list(source)) == 10
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: None, "returned None"),
        (lambda: lambda: X, "returned another function"),
        (lambda needed: X, "raised TypeError when called.*without arguments"),
        (lambda: iter(()), "no samples"),
        ([], "no samples"),
        (np.zeros((0, 2)), "no samples"),
        (17, "Received: int"),
        (None, "Received: NoneType"),
        (iter([{"z": X[0], "w": X[0]}]), "no data for the model's input 'x'"),
        (iter([(X[0], X[0], X[0], X[0])]), "Received: tuple of 4"),
        (iter(["text"]), "Received: str"),
        ({"x": X, "y": Y[:3]}, "'x' 10, 'y' 3"),
        (X3, r"takes samples of shape \(2,\).*Received: \(3,\)"),
        ({"x": [[1, 2], [3]]}, "no array"),
    ],
)
def test_what_cannot_be_read(data, message):
    with pytest.raises(DataError, match=message):
        list(open_data(data, [ONE]))


def test_an_array_for_two_inputs():
    with pytest.raises(DataError, match="dict with an array for each of 'a', 'b'"):
        open_data(X, [A, B])


def test_an_exception_of_the_user_is_told_with_its_place():
    def broken():
        yield [X[0]]
        raise KeyError("missing.jpg")

    source = open_data(broken, [ONE])
    with pytest.raises(DataError, match=r"broken\(\) raised KeyError at element 1.*py, line"):
        list(source)


class Dataset:
    """The part of `tf.data.Dataset` that is used, for tests without TensorFlow."""

    class Spec:
        def __init__(self, rank):
            self.shape = type("Shape", (), {"rank": rank})()

    def __init__(self, items, cardinality, rank):
        self.items = items
        self._cardinality = cardinality
        self.element_spec = (self.Spec(rank), self.Spec(rank - 1))

    def cardinality(self):
        return np.int64(self._cardinality)

    def as_numpy_iterator(self):
        return iter(self.items)


def test_dataset_counts():
    rows = list(zip(X, Y, strict=True))
    assert open_data(Dataset(rows, 10, 1), [ONE]).count == 10
    assert open_data(Dataset(rows, -2, 1), [ONE]).count is None
    batched = open_data(Dataset([(X, Y)], 1, 2), [ONE])
    assert batched.count is None
    assert len(list(batched)) == 10


def test_endless_dataset_needs_a_limit():
    import itertools

    with pytest.raises(DataError, match="endless"):
        open_data(Dataset(itertools.cycle([(X[0], 1)]), -1, 1), [ONE])
    source = open_data(Dataset(itertools.cycle([(X[0], 1)]), -1, 1), [ONE], limit=7)
    assert len(list(source)) == 7


@pytest.mark.slow
def test_tf_data():
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices((X, Y))
    for dataset, count in ((rows, 10), (rows.batch(3), None), (rows.batch(1), None)):
        source = open_data(dataset, [ONE])
        samples = list(source)
        assert (source.count, source.has_labels) == (count, True)
        np.testing.assert_array_equal(np.concatenate([s.inputs["x"] for s in samples]), X)
        assert [s.label.item() for s in samples] == list(Y)
        assert len(list(source)) == 10
    named = tf.data.Dataset.from_tensor_slices({"a": X, "b": X3})
    assert len(list(open_data(named, [A, B]))) == 10
    with pytest.raises(DataError, match="endless"):
        open_data(rows.repeat(), [ONE])
    tensors = list(open_data((tf.constant(r) for r in X), [ONE]))
    assert len(tensors) == 10
