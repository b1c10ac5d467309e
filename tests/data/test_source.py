import numpy as np
import pytest

from tfq.data import ArgSpec, open_data
from tfq.errors import DataError, UsageError

BATCH4 = ArgSpec("x", "x", (4, 2), "float32")
ONE = ArgSpec("x", "x", (1, 2), "float32")
X = np.arange(20.0).reshape(10, 2)


def test_batches_are_consecutive_and_the_last_repeats():
    source = open_data({"x": X, "y": np.arange(10)}, [BATCH4])
    samples = list(source)
    assert source.count == len(samples) == 3
    assert [s.index for s in samples] == [0, 1, 2]
    assert [s.real for s in samples] == [4, 4, 2]
    np.testing.assert_array_equal(samples[1].inputs["x"], X[4:8])
    np.testing.assert_array_equal(samples[2].inputs["x"], X[[8, 9, 8, 9]])
    assert [s.label.tolist() for s in samples] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_batches_of_the_data_need_not_be_those_of_the_model():
    def generator():
        yield [X[:3]]
        yield [X[3:9]]
        yield [X[9]]

    samples = list(open_data(generator, [BATCH4]))
    np.testing.assert_array_equal(np.concatenate([s.inputs["x"] for s in samples])[:10], X)
    assert [s.real for s in samples] == [4, 4, 2]


@pytest.mark.parametrize("limit", [1, 3, 10, 99])
def test_limit_reads_no_more_than_it_needs(limit):
    pulled = []

    def generator():
        for i, row in enumerate(X):
            pulled.append(i)
            yield [row]

    source = open_data(generator(), [ONE], limit=limit)
    assert len(list(source)) == min(limit, 10)
    assert len(pulled) == min(limit, 10)


def test_limit_counts_samples_not_batches():
    source = open_data(X, [BATCH4], limit=5)
    assert source.count == 2
    assert [s.real for s in source] == [4, 1]
    assert source.description == "data (ndarray), 5 samples"


def test_limit_must_be_positive():
    with pytest.raises(UsageError, match="Received: 0"):
        open_data(X, [ONE], limit=0)


def test_generator_is_consumed_once_and_says_so():
    source = open_data(([row] for row in X), [ONE])
    assert not source.repeatable
    assert len(list(source)) == 10
    with pytest.raises(DataError, match="only once"):
        iter(source)


def test_streaming_is_lazy():
    alive = []

    def generator():
        for i in range(1000):
            alive.append(i)
            yield [np.zeros(2)]

    iterator = iter(open_data(generator(), [ONE]))
    for _ in range(5):
        next(iterator)
    assert len(alive) == 5


def test_a_buffer_that_the_generator_reuses_is_copied():
    buffer = np.zeros((1, 2), np.float32)

    def generator():
        for i in range(3):
            buffer[:] = i
            yield [buffer]

    samples = list(open_data(generator, [ONE]))
    assert [s.inputs["x"][0, 0] for s in samples] == [0, 1, 2]


def test_exact_shape_dtype_and_layout():
    sample = next(iter(open_data(np.asfortranarray(X), [ONE])))
    value = sample.inputs["x"]
    assert (value.shape, value.dtype, value.flags.c_contiguous) == ((1, 2), np.float32, True)
    assert sample.label is None
    assert sample.nbytes == 8


def test_a_label_missing_later():
    with pytest.raises(DataError, match=r"Sample 1 of .* has no label"):
        list(open_data(iter([(X[0], 1), X[1]]), [ONE]))
